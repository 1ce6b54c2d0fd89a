"""ONNX files of random networks: read back the same, valid, and within a code of what ONNX Runtime computes."""

import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hw.network.network import INPUT
from models.backends.export import export_file
from models.backends.file_scales import file_scales
from models.backends.normal_form import normal_form
from models.backends.onnx_writer import onnx_rounding
from models.compression.calibration import calibrate
from models.frontends.onnx.reference import runtime_outputs
from models.integer import golden
from tests.models.backends.exportable import changed, exportable
from tests.random_networks import NetworkMaker

#: Seeds of networks that can be said, and of which every kind of layer is among.
SEEDS = (15, 19)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_come_back_and_run_in_onnx_runtime(tmp_path, seed):
    network = exportable(seed, ".onnx")
    path = tmp_path / "net.onnx"
    made = export_file(network, ".onnx")
    path.write_bytes(made.content)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    image = network.input
    codes = np.random.default_rng(seed).integers(-128, 128, (8, *image.shape)).astype(np.int8)
    values = ((codes.astype(np.float64) - image.zero_point) * image.scale).astype(np.float32).transpose(0, 3, 1, 2)
    result = golden.run(network, codes)
    for head, logits, found in zip(network.exits, result.logits, runtime_outputs(path, values), strict=True):
        steps = found / network.layer(head.logits).output.scale
        assert np.abs(steps - logits).max() <= 0.02 * np.abs(logits).max()
    coded = [layer.name for layer in network.layers if not getattr(layer, "raw", False)]
    known = {output for node in onnx.load(path).graph.node for output in node.output}
    names = [name for name in coded if f"{name}.codes" in known]
    off, count = 0, 0
    for name, found in zip(names, runtime_outputs(path, values, [f"{name}.codes" for name in names]), strict=True):
        expected = result.tensors[name].transpose(0, 3, 1, 2).reshape(found.shape)
        difference = np.abs(found.astype(int) - expected)
        off, count = off + np.count_nonzero(difference), count + difference.size
        assert difference.max() <= 1, name
    assert off <= 0.01 * count
    assert any(re.search(r"run in float, .* codes (differ, by at most 1|are the same), on 4 im", n) for n in made.notes)


def test_codes_that_are_all_the_same_are_said_to_be_and_of_outputs_alone_nothing_is_counted():
    maker = NetworkMaker(np.random.default_rng(0), (20, 20, 1))
    maker.head(maker.conv(INPUT, 3, kernel=(1, 1)), 3)
    (note,) = (note for note in export_file(maker.network("net"), ".onnx").notes if note.startswith("ONNX Runtime"))
    assert note.endswith(": run in float, all 4,800 codes are the same, on 4 images")
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, 3)
    notes = export_file(maker.network("net"), ".onnx").notes
    assert "ONNX Runtime divides in float and rounds half to even, the network multiplies by integers" in notes


def test_a_calibrated_module_comes_back_with_its_multipliers():
    """Its maps have scales that files hold; only the image's, 1/255, becomes another."""
    images = np.random.default_rng(0).random(size=(8, 6, 6, 3))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(128, 3))
    network = calibrate(net, images).network
    made = export_file(network, ".onnx")
    assert any("run in float" in note for note in made.notes)
    scales = file_scales(normal_form(network), onnx_rounding).tensors
    assert all(scales[layer.name] == layer.output for layer in network.layers)
    assert scales[INPUT].scale == pytest.approx(1 / 255, rel=1e-4)


def test_every_kind_of_layer_is_among_them():
    seen = {layer.kind for seed in SEEDS for layer in exportable(seed, ".onnx").layers}
    assert seen == {
        *("conv2d", "depthwise_conv2d", "linear", "add"),
        *("average_pool2d", "max_pool2d", "global_average_pool"),
    }


def test_pads_of_a_max_pool_that_are_uneven_and_large_biases_are_refused():
    maker = NetworkMaker(np.random.default_rng(3), (4, 4, 2))
    here = maker.conv(INPUT, 3, (1, 1))
    pool = maker.max_pool(here, (3, 3), (1, 1), (1, 0, 1, 1))
    maker.head(pool, 3)
    network = maker.network("made")
    bias = network.layers[-1].bias.copy()
    bias[1] = 1 << 22
    network = changed(network, network.layers[-1].name, bias=bias)
    network = changed(network, here, rounding="single")
    network = replace(network, name="made")
    with pytest.raises(ValueError, match=r"layer1: pads .* not \(1, 0, 1, 1\); layer2: biases .* not 4194304"):
        export_file(network, ".onnx")
