from dataclasses import replace

import numpy as np
import pytest

from hw.network.network_file import NetworkFile, save
from models.frontends.runtimes import UnableError
from offramp.intake import verification
from offramp.intake.model import Runtime, read
from offramp.intake.programs import images_of, program_of
from offramp.intake.request import ModelRequest
from offramp.intake.samples import Samples
from offramp.intake.verification import verify_model
from offramp.report.tables import model_tables
from tests.offramp.intake.models import MODULE, tflite_file
from tests.offramp.results import VERIFY


@pytest.fixture
def ran(monkeypatch):
    """The RTL says that its images are equal; what it is asked."""
    asked = []

    def verify(work, **options):
        asked.append((work, options))
        return VERIFY | {"images": len(work[0][1])}

    monkeypatch.setattr(verification.rtl, "verify", verify)
    return asked


@pytest.fixture
def tflite(tmp_path):
    request = ModelRequest(model=str(tflite_file(tmp_path)))
    return request, read(request)


def test_a_tflite_file_stage_by_stage(tflite, ran):
    request, model = tflite
    program, _ = program_of(model, "tiny")
    samples = replace(images_of(model, request, None, 12), labels=np.zeros(12, np.int64))
    found = verify_model(model, program, samples, rtl_images=3, seed=5)
    assert [stage["stage"] for stage in found["stages"]] == ["LiteRT, reference kernels", "golden", "simulator", "RTL"]
    assert [stage["images"] for stage in found["stages"]] == [12, 12, 12, 3]
    assert [stage["equal"] for stage in found["stages"]] == [1.0, None, 1.0, 1.0]
    assert (found["values_equal"], found["cycles_equal"], found["reference_equal"], found["agrees"]) == (True,) * 4
    assert [stage["compared"] for stage in found["stages"]] == [
        *("all tensors", None, "class, exit", "all values, cycles"),
    ]
    assert found["per_image"]["equal"] == {
        "LiteRT, reference kernels": [True] * 12,
        "simulator": [True] * 12,
        "RTL": [True] * 3 + [None] * 9,
    }
    assert found["accuracy_golden"] == np.mean(np.array(found["per_image"]["class"]) == 0)
    assert 0 <= found["accuracy_reference"] <= 1
    assert found["accuracy_float"] is None
    (((_, codes),), options) = ran[0]
    np.testing.assert_array_equal(codes, samples.images[:3])
    assert options["seed"] == 5
    assert found["macs"] == 4 * 4 * 9 + 3 * 16
    assert found["macs_per_multiplier_cycle"] == found["macs"] / (found["cycles"]["mean"] * 4)
    assert 0 < found["share_of_limit"] < 1
    assert found["memories"]["bias"]["available"] == program.config.channel_words
    assert found["memories"]["accumulators"]["available"] == program.config.accumulators
    banks = [found["memories"][bank]["available"] for bank in ("first bank", "second bank")]
    assert banks == list(program.config.bank_words)
    # Two small maps fit the first bank together.
    assert {name for name, use in found["memories"].items() if not use["used"]} == {"second bank"}
    assert all(use["used"] <= use["available"] for use in found["memories"].values())


def test_the_rtl_may_be_left_out(tflite, monkeypatch):
    request, model = tflite
    monkeypatch.setattr(verification.rtl, "verify", lambda *_, **__: pytest.fail("the RTL ran"))
    program, _ = program_of(model, "tiny")
    found = verify_model(model, program, images_of(model, request, None, 4), rtl_images=0)
    assert [stage["stage"] for stage in found["stages"]] == ["LiteRT, reference kernels", "golden", "simulator"]
    assert (found["values_equal"], found["cycles_equal"], found["rtl"]) == (None, None, None)
    assert found["agrees"] is True
    assert found["per_image"]["equal"].keys() == {"LiteRT, reference kernels", "simulator"}
    told = dict(zip(*(column._cells for column in model_tables.figures(found).columns), strict=True))
    assert told["golden = simulator"] == "classes and exits equal; the RTL wasn't run (--rtl 0)"
    assert "back to back, on the RTL" not in told


def test_a_file_of_ours_holds_no_source(tflite, tmp_path, ran):
    _, model = tflite
    file = tmp_path / "small.off"
    save(file, NetworkFile(network=model.network, origin=model.origin, activity={}))
    request = ModelRequest(model=str(file))
    ours = read(request)
    program, _ = program_of(ours, "tiny")
    found = verify_model(ours, program, images_of(ours, request, None, 4), rtl_images=1)
    assert [stage["stage"] for stage in found["stages"]] == ["golden", "simulator", "RTL"]
    assert found["notes"] == ["the file holds no source to compare with: verify what it was made of as well"]


def test_a_difference_names_its_first_layer(tflite, ran):
    """A source that computes one code differently in one image."""
    request, model = tflite
    program, _ = program_of(model, "tiny")
    samples = images_of(model, request, None, 4)

    def compare(codes, progress):
        found = model.runtime.compare(codes, progress)
        same = found.same.copy()
        same[2] = False
        return replace(found, same=same, largest=1, largest_logit=40, share=0.01, first="conv2d_0")

    for exact, agrees in ((True, False), (False, True)):
        other = replace(model, runtime=Runtime(name="source", exact=exact, compare=compare))
        found = verify_model(other, program, samples, rtl_images=1)
        assert (found["reference_equal"], found["agrees"], found["values_equal"]) == (False, agrees, True)
        source = found["stages"][0]
        assert (source["equal"], source["largest"], source["largest_logit"]) == (0.75, 1, 40)
        assert source["first"] == "conv2d_0"
        assert found["per_image"]["equal"]["source"] == [True, True, False, True]
        told = (
            "source: an image counts as equal only if every value of every tensor is, so few may be; verify --layers "
            "says how far each layer is"
        )
        assert (told in found["notes"]) is not exact
    assert not any("verify --layers" in note for note in verify_model(model, program, samples, rtl_images=1)["notes"])


def test_a_runtime_that_cannot_run_the_source_is_named_and_another_serves(tflite, ran):
    request, model = tflite

    def cannot(codes, progress=None):
        raise UnableError("net: the runtime can't run it")

    first = Runtime(name="source", exact=True, compare=cannot, otherwise=model.runtime)
    other = replace(model, runtime=first, classifiers={"classes": cannot})
    program, _ = program_of(model, "tiny")
    found = verify_model(other, program, images_of(model, request, None, 4), rtl_images=1)
    assert [stage["stage"] for stage in found["stages"]] == ["LiteRT, reference kernels", "golden", "simulator", "RTL"]
    assert found["notes"] == [*model.notes, *["net: the runtime can't run it"] * 2]
    assert (found["reference_equal"], found["agrees"]) == (True, True)
    alone = replace(model, runtime=replace(first, otherwise=None))
    found = verify_model(alone, program, images_of(model, request, None, 4), rtl_images=1)
    assert [stage["stage"] for stage in found["stages"]] == ["golden", "simulator", "RTL"]
    assert (found["reference_equal"], found["accuracy_reference"], found["agrees"]) == (None, None, True)


def test_a_float_model_is_compared_by_its_classes(tmp_path, ran):
    (tmp_path / "net.py").write_text(MODULE)
    request = ModelRequest(model=f"{tmp_path / 'net.py'}:net", calibrate="digits")
    model = read(request)
    program, _ = program_of(model, "tiny")
    found = verify_model(model, program, images_of(model, request, "digits", 60), rtl_images=1)
    assert found["stages"][0]["stage"] == "float"
    assert found["stages"][0]["compared"] == "class"
    assert found["stages"][0]["equal"] == np.mean(found["per_image"]["equal"]["float"]) > 0.8
    assert [row["layer"] for row in found["by_layer"]] == ["stem", "body", "add", "pool", "head"]
    assert min(row["sqnr_db"] for row in found["by_layer"]) > 25
    assert abs(found["accuracy_float"] - found["accuracy_golden"]) < 0.2


def test_a_float_model_of_one_output_names_no_classes(tmp_path, ran):
    """Its only value is always the largest, whatever the network says."""
    (tmp_path / "net.py").write_text(MODULE.replace("Linear(6, 10)", "Linear(6, 1)"))
    request = ModelRequest(model=f"{tmp_path / 'net.py'}:net", calibrate="digits")
    model = read(request)
    assert [note for note in model.notes if note.startswith("head ")] == [
        "head is one value: class 1 says that it is above zero, class 0 that it isn't"
    ]
    program, _ = program_of(model, "tiny")
    images = np.random.default_rng(0).random((40, 8, 8, 1), dtype=np.float32)
    images *= np.linspace(0, 1, 40, dtype=np.float32)[:, None, None, None]  # dark and bright: of either sign
    assert model.floats is not None
    values = model.floats(images)[:, 0]
    clear = np.abs(values) > 0.1 * np.abs(values).max()
    labels = (values > 0)[clear].astype(np.int64)
    assert set(labels.tolist()) == {0, 1}
    samples = Samples(images=images[clear], labels=labels, origin="some")
    found = verify_model(model, program, samples, rtl_images=1)
    assert found["accuracy_golden"] == 1
    first = found["stages"][0]
    assert (first["stage"], first["accuracy"], first["equal"]) == ("float", None, None)
    assert found["accuracy_float"] is None


def test_what_the_rtl_finds_decides(tflite, monkeypatch):
    request, model = tflite
    program, _ = program_of(model, "tiny")
    differs = VERIFY | {
        "values_equal": False,
        "differing": [1],
        "mismatches": ["image 1: conv2d_0 in core 0: RTL [1], expected [2]"],
    }
    monkeypatch.setattr(verification.rtl, "verify", lambda *_, **__: differs)
    found = verify_model(model, program, images_of(model, request, None, 4), rtl_images=2)
    assert (found["values_equal"], found["cycles_equal"], found["agrees"]) == (False, True, False)
    assert (found["stages"][-1]["equal"], found["stages"][-1]["first"]) == (0.5, "image 1: conv2d_0 in core 0")
    assert found["per_image"]["equal"]["RTL"] == [True, False, None, None]
