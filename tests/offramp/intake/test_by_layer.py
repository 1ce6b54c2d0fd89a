from dataclasses import replace

import numpy as np
import pytest

from offramp.intake import samples
from offramp.intake.by_layer import by_layer
from offramp.intake.model import read
from offramp.intake.programs import images_of
from offramp.intake.request import ModelRequest
from tests.offramp.intake.models import MODULE, tflite_file


def of_module(tmp_path, text=MODULE):
    """A module, and digits without their labels."""
    (tmp_path / "net.py").write_text(text)
    model = read(ModelRequest(model=f"{tmp_path / 'net.py'}:net", calibrate="digits"))
    found = samples.read("digits", model.network.input.shape, count=100, seed=0)
    return model, replace(found, labels=None)


def rows_of(model, images):
    codes = images.codes(model.network)
    return {row["layer"]: row for row in by_layer(model, images, codes, model.runtime.compare(codes, None))}


def test_the_layers_of_a_float_model_are_so_far_above_their_noise(tmp_path):
    model, images = of_module(tmp_path)
    rows = rows_of(model, images)
    assert list(rows) == [each.name for each in model.network.layers if each.name in rows]
    ratios = {name: row["sqnr_db"] for name, row in rows.items() if row["sqnr_db"] is not None}
    assert {"stem", "body", "add", "head"} <= ratios.keys()
    assert all(30 < ratio < 60 for ratio in ratios.values())
    assert (rows["stem"]["rounded"], rows["head"]["rounded"]) == (True, False)
    assert rows["stem"]["differing"] < 0.01


def test_a_layer_that_is_spoiled_stands_out(tmp_path):
    """One channel's weights of the second convolution are less coarse by a third in the integers."""
    model, images = of_module(tmp_path)
    before = rows_of(model, images)
    layers = [
        replace(each, weight=np.concatenate([each.weight[:1] // 3 * 2, each.weight[1:]]))
        if each.name == "body"
        else each
        for each in model.network.layers
    ]
    codes = images.codes(model.network)
    spoiled = replace(model, network=replace(model.network, layers=tuple(layers)))
    after = {row["layer"]: row for row in by_layer(spoiled, images, codes, None)}
    assert after["stem"]["sqnr_db"] == before["stem"]["sqnr_db"]
    assert after["body"]["sqnr_db"] < before["body"]["sqnr_db"] - 5
    assert after["body"]["differing"] is None


def test_one_value_is_compared_without_the_logit_that_is_always_zero(tmp_path):
    model, images = of_module(tmp_path, MODULE.replace("Linear(6, 10)", "Linear(6, 1)"))
    assert rows_of(model, images)["head"]["sqnr_db"] > 30


@pytest.mark.parametrize("codes", [False, True])
def test_codes_and_random_images_have_no_signal(tmp_path, codes):
    model, images = of_module(tmp_path)
    other = replace(images, images=images.codes(model.network)) if codes else replace(images, random=True)
    assert all(row["sqnr_db"] is None for row in rows_of(model, other).values())


def test_a_file_that_is_computed_the_same_differs_nowhere(tmp_path):
    request = ModelRequest(model=str(tflite_file(tmp_path)))
    model = read(request)
    rows = rows_of(model, images_of(model, request, None, 8))
    assert [row["kind"] for row in rows.values()] == ["conv2d", "linear"]
    assert {(row["differing"], row["largest"], row["rounded"], row["sqnr_db"]) for row in rows.values()} == {
        (0.0, 0, True, None)
    }
