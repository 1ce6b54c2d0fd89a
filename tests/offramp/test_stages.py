import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.config import preset
from hw.program import program
from hw.rules import ShortageError
from models.compression.quantize import encode
from models.integer import golden
from models.recipes.checkpoint import load, load_compressed
from models.recipes.pipeline import Log
from offramp import stages
from offramp.files import paths
from offramp.terminal.stopping import Stopped
from tests.offramp.recipe import RECIPE

LAST = 1


def numbered(exits, start):
    """Images that can be told apart, and their exits."""
    images = np.arange(start, start + len(exits), dtype=np.float32).reshape(-1, 1, 1, 1)
    return images, np.array(exits, dtype=np.int64)


@given(
    st.lists(st.integers(0, LAST), min_size=1, max_size=30),
    st.lists(st.integers(0, LAST), min_size=1, max_size=30),
    st.integers(1, 40),
)
def test_verification_images_are_half_early_as_far_as_possible(first, second, count):
    early, late = numbered(first, 0), numbered(second, 100)
    exits = {**dict(enumerate(first)), **{100 + place: value for place, value in enumerate(second)}}
    if count > len(exits):
        with pytest.raises(ValueError, match=f"images must be at most the {len(exits)} there are, not {count}"):
            stages.verification_images(early, late, last=LAST, count=count)
        return
    chosen = stages.verification_images(early, late, last=LAST, count=count).ravel().astype(int).tolist()
    assert len(set(chosen)) == len(chosen) == count
    leaving = sum(exits[image] < LAST for image in chosen)
    there = sum(value < LAST for value in exits.values())
    assert leaving >= min(count - count // 2, there)
    assert count - leaving >= min(count // 2, len(exits) - there)


def test_codes_for_the_rtl_leave_early_and_late(small):
    codes = stages.verification_codes(small.program, small.source, count=8, seed=0)
    exits = golden.run(small.program.network, codes, keep=False).exit_index
    assert len(codes) == 8
    assert set(exits.tolist()) == {0, 1}


def test_codes_for_a_network_without_early_exit_are_clean(small):
    codes = stages.verification_codes(small.dense, small.source, count=3, seed=0)
    np.testing.assert_array_equal(codes, encode(small.source.test.images[:3], small.dense.network))


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist"])
def test_a_data_set_of_other_images_is_not_even_loaded(small, tmp_path, name):
    with pytest.raises(ValueError, match=rf"^data must have the network's .*\(\(8, 8, 1\), 10\), not {name}'s "):
        stages.tried_on(small.program, name, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_program_is_tried_on_what_it_was_trained_on(small):
    assert stages.tried_on(small.program, None, None).name == "digits"
    with pytest.raises(ValueError, match=r"^data must be one of digits, .*, not 'digts'$"):
        stages.tried_on(small.program, "digts", None)


def test_what_runs_is_what_the_file_holds(small):
    loaded = program.load(small.folder / paths.PROGRAM, preset("tiny"))
    assert loaded.config == small.program.config
    for name, image in small.program.images.items():
        np.testing.assert_array_equal(loaded.images[name], image)


def test_unpruned_network_gets_lists_that_suffice_and_nothing_else_changes(small, tmp_path):
    narrow = preset("tiny").replace(list_words=512)
    dense = stages.unpruned(small.network.dense, narrow, tmp_path / "dense.off")
    assert dense.config.list_words > 512
    assert dense.config.replace(list_words=512) == narrow
    used, available = dense.size_words()["lists"]
    assert available // 2 < used <= available


def test_unpruned_network_that_cannot_fit_is_refused(small, tmp_path):
    narrow = preset("tiny").replace(activation_words=32)
    with pytest.raises(ValueError, match="activation"):
        stages.unpruned(small.network.dense, narrow, tmp_path / "x.off")


def test_only_a_shortage_of_memory_widens_the_lists(small, tmp_path, monkeypatch):
    asked = []

    def refuse(network, config, activity):
        asked.append(config.list_words)
        raise ShortageError("short", 1) if config.list_words < 1024 else ValueError("something else")

    monkeypatch.setattr(stages, "compile_balanced", refuse)
    with pytest.raises(ValueError, match=r"^something else$"):
        stages.unpruned(small.network.dense, preset("tiny").replace(list_words=256), tmp_path / "x.off")
    assert asked == [256, 512, 1024]


def test_evaluated_is_the_golden_model_on_the_whole_test_set(small):
    found = stages.evaluated(small.program, small.source.test.images, small.source.test.labels)
    result = golden.run(small.program.network, encode(small.source.test.images, small.program.network))
    assert found["images"] == len(small.source.test)
    assert found["accuracy"] == result.accuracy(small.source.test.labels) == small.network.metrics["int8_exits"]
    assert found["exit_share"] == result.exit_share().tolist()
    margins = np.array([own[exit] for own, exit in zip(result.margins, result.exit_index, strict=True)])
    each = {"label": small.source.test.labels, "class": result.classes, "exit": result.exit_index, "margin": margins}
    assert found["per_image"] == {name: values.tolist() for name, values in each.items()}


@pytest.mark.slow
def test_a_recipes_network(tmp_path):
    path, out = tmp_path / "small.toml", tmp_path / "out"
    path.write_text(RECIPE)
    network, result = stages.made(path, None, out, seed=3)
    assert load_compressed(out / paths.COMPRESSED).metrics == network.metrics == result["metrics"]
    assert load(out / paths.TRAINED).seed == network.seed == 3
    assert result["recipe"]["compress"][0]["pieces"][1] == {"kind": "adversarial", "eps": "8/255"}
    assert len(result["epochs"]["train 1"]) == 2
    assert len(list((out / "progress").iterdir())) == 4


def test_a_recipe_of_a_float_network_only(tmp_path):
    path, out = tmp_path / "small.toml", tmp_path / "out"
    path.write_text(RECIPE.partition("[[compress]]")[0])
    network, result = stages.made(path, None, out, seed=3)
    assert load(out / paths.TRAINED).metrics == network.metrics == result["metrics"]
    assert result["file"] == out / paths.TRAINED
    assert not (out / paths.COMPRESSED).exists()


def test_a_wrong_recipe_writes_nothing(tmp_path):
    path, out = tmp_path / "small.toml", tmp_path / "out"
    path.write_text(RECIPE.replace("density = 0.5", "density = 0.0"))
    with pytest.raises(ValueError, match="density must be above 0 and at most 1, not 0"):
        stages.made(path, None, out, seed=3)
    assert not out.exists()


def test_a_training_that_is_stopped_before_anything_is_kept_does_not_say_that_something_is(tmp_path, quick_recipe):
    def stops(*_):
        raise Stopped(signal.SIGINT)

    source, log = stages.dataset("digits", None), Log(folder=tmp_path / paths.PROGRESS)
    with pytest.raises(Stopped) as stop:
        stages.trained(source, tmp_path, seed=0, progress=stops, log=log)
    assert str(stop.value) == "stopped by SIGINT: files written before are whole and stay"


def test_a_training_without_a_recipe_is_kept_too(tmp_path, quick_recipe):
    """It is stopped in its second epoch; the same call goes on there."""
    source = stages.dataset("digits", None)
    texts = []

    def stops(done, of, text):
        texts.append(text)
        if "epoch 2/" in text:
            raise Stopped(signal.SIGINT)

    log = Log(folder=tmp_path / paths.PROGRESS)
    with pytest.raises(Stopped, match=f"kept in {tmp_path / paths.PROGRESS}, the same command goes on from there"):
        stages.trained(source, tmp_path, seed=0, progress=stops, log=log)
    assert "epoch 1/" in texts[0]
    again = []
    stages.trained(source, tmp_path, seed=0, progress=lambda done, of, text: again.append(text), log=log)
    assert not any("epoch 1/" in text for text in again)
