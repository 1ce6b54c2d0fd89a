import numpy as np
import pytest

from hw.compiler.fitting import fitting
from hw.config import preset
from hw.network.network import INPUT
from hw.rules import MisfitError, StructureError
from offramp.files import paths
from offramp.intake import programs
from offramp.intake.model import Model, read
from offramp.intake.programs import images_of, program_of
from offramp.intake.request import ModelRequest
from tests.random_networks import NetworkMaker, heavy_network, random_network, wide_network


@pytest.fixture(scope="module")
def model():
    return Model(network=random_network(3), origin="a test")


def test_the_smallest_preset_that_fits_is_taken(model, monkeypatch):
    program, name = program_of(model, None)
    assert (program.config, name) == (preset("single"), "single")
    monkeypatch.setattr(programs, "TRIED", ("tiny", "single"))
    assert program_of(model, None)[1] == "tiny"
    assert program_of(model, None, among=("small", "tiny"))[1] == "small"


def test_a_config_that_is_named_is_taken(model):
    program, name = program_of(model, "tiny,lanes=2")
    assert (program.config, name) == (preset("tiny,lanes=2"), "tiny,lanes=2")
    with pytest.raises(ValueError, match="config must be one of"):
        program_of(model, "huge")


def test_what_fits_nowhere_is_refused_with_the_reason_of_each(monkeypatch):
    monkeypatch.setattr(programs, "TRIED", ("tiny,activation_words=32", "single,activation_words=32"))
    message = r"fits no preset; tiny,a.*: .*activation.*; single,a.*: .*activation.*; it fits --config single$"
    with pytest.raises(MisfitError, match=message):
        program_of(Model(network=wide_network(100), origin="a test"), None)
    with pytest.raises(MisfitError, match=r"fits none of tiny,activation_words=32; tiny"):
        program_of(Model(network=wide_network(100), origin="a test"), None, among=["tiny,activation_words=32"])


def test_a_refusal_names_a_config_that_it_fits(monkeypatch):
    found = Model(network=wide_network(100), origin="a test")
    with pytest.raises(MisfitError, match=r"^tiny,activation_words=32: .*activation.*; it fits --config single$"):
        program_of(found, "tiny,activation_words=32")
    monkeypatch.setattr(programs, "TRIED", ("tiny",))
    for config, fits in (("small", "small"), ("tiny,cores=2", r"tiny,cores=2,activation_words=\d+")):
        with pytest.raises(MisfitError, match=rf"^{config},activation_words=32: .*; it fits --config {fits}$"):
            program_of(found, f"{config},activation_words=32")


def test_a_refusal_says_what_a_loader_needs(monkeypatch):
    monkeypatch.setattr(programs, "TRIED", ("tiny",))
    message = "; it fits --config tiny,.*loader=4.*: a loader reads weights from external memory during the run$"
    with pytest.raises(MisfitError, match=message):
        program_of(Model(network=heavy_network(), origin="a test"), "tiny,pes=2,list_words=256")


@pytest.mark.parametrize("config", [None, "single"])
def test_what_no_config_runs_is_refused_at_once_as_that(config):
    maker, said = NetworkMaker(np.random.default_rng(0), (2, 2, 1)), []
    maker.head(INPUT, 2049)
    message = "net: classes must be from 2 to 2048, not 2049; that holds for every config: change the network"
    with pytest.raises(StructureError, match=f"^{message}$"):
        program_of(Model(network=maker.network("net"), origin="a test"), config, lambda *step: said.append(step))
    assert not said


def test_advice_is_the_largest_preset_where_no_memories_of_the_config_suffice(monkeypatch):
    monkeypatch.setattr(programs, "TRIED", ("tiny", "small,activation_words=32"))
    found, larger = Model(network=wide_network(100), origin="a test"), fitting

    def none_of_tiny(network, config, *given):
        return None if config.cores == 1 else larger(network, config, *given)

    monkeypatch.setattr(programs, "fitting", none_of_tiny)
    with pytest.raises(MisfitError, match=r"^tiny,activation_words=32: .*; it fits --config small$"):
        program_of(found, "tiny,activation_words=32")


def test_advice_of_what_no_size_suffices_for_is_to_make_it_smaller(monkeypatch):
    monkeypatch.setattr(programs, "fitting", lambda *given: None)
    for last, names in (("tiny", "tiny"), ("small", "tiny or small")):
        monkeypatch.setattr(programs, "TRIED", (f"{last},activation_words=32",))
        message = rf"; nor does it fit {names} with the largest memories .*: make the network smaller$"
        with pytest.raises(MisfitError, match=message):
            program_of(Model(network=wide_network(100), origin="a test"), "tiny,activation_words=32")


def test_labels_of_classes_that_the_network_lacks_are_refused(small, tmp_path):
    request = ModelRequest(model=str(small.folder / paths.COMPRESSED))
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 8, 8, 1), np.float32), labels=[0, 10])
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.9, as the network has 10 classes, not 0\.\.10$"):
        images_of(read(request), request, str(tmp_path / "x.npz"), 9)


def test_what_is_tried_is_said():
    said = []
    program_of(Model(network=wide_network(100), origin="a test"), "single", lambda *step: said.append(step))
    assert said
    assert all(done == total == 0 and text for done, total, text in said)


def test_a_program_is_for_its_own_config(small):
    found = read(ModelRequest(model=str(small.folder / paths.PROGRAM)))
    assert program_of(found, None)[1] == program_of(found, "tiny")[1] == "tiny"
    with pytest.raises(ValueError, match="is for the config tiny, not single: compile its network again"):
        program_of(found, "single")


def test_images_are_those_asked_for_or_of_the_data_set_or_random(small, model):
    request = ModelRequest(model=str(small.folder / paths.COMPRESSED), seed=4)
    found = read(request)
    assert images_of(found, request, None, 9).origin == "digits, test"
    assert images_of(model, request, None, 9).origin == "9 random images, seed 4"
    with pytest.raises(ValueError, match="--data must be one of digits"):
        images_of(found, request, "gone", 9)
