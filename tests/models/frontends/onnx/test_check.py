"""A module that computes anything else than its file is refused, and says where."""

import numpy as np
import pytest
import torch

from models.frontends.onnx.builder import build
from models.frontends.onnx.check import compare
from models.frontends.onnx.file import parse
from tests.models.frontends.onnx.onnx_models import model, node, saved

MAP = (1, 3, 6, 6)


@pytest.fixture
def both(tmp_path):
    """A module and its graph: a convolution, codes, a linear layer."""
    rng = np.random.default_rng(6)
    nodes = [
        node("Conv", "x w b", "c"), node("QuantizeLinear", "c s z", "q"), node("DequantizeLinear", "q s z", "d"),
        node("Flatten", "d", "f"), node("Gemm", "f m"),
    ]  # fmt: skip
    constants = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32), "b": np.ones(4, np.float32), "s": np.float32(0.07),
        "z": np.int8(3), "m": rng.standard_normal((64, 3)).astype(np.float32),
    }  # fmt: skip
    graph = parse(saved(tmp_path, model(nodes, MAP, constants)))
    return build(graph, (6, 6, 3), ()).eval(), graph


def test_what_is_right_passes(both):
    compare(*both)


@pytest.mark.parametrize(
    ("child", "change", "message"),
    [
        ("/Conv/c", lambda conv: conv.bias.data.add_(0.01), "Conv '/Conv/c': tensor 'c' must be what ONNX's reference"),
        ("/Conv/c", lambda conv: conv.weight.data.mul_(float("nan")), "tensor 'c' must be"),
        ("/Gemm/y", lambda gemm: gemm.weight.data[1, 5].mul_(-1), "Gemm '/Gemm/y': tensor 'y' must be"),
        ("/Flatten/f", lambda flat: setattr(flat, "function", lambda x: x.flip(1).flatten(1)), "tensor 'f' must be"),
    ],
)
def test_the_first_tensor_that_differs_is_named(both, child, change, message):
    change(both[0].get_submodule(child))
    with pytest.raises(ValueError, match="please report the file") as error:
        compare(*both)
    assert message in str(error.value)


def test_codes_that_are_more_than_one_off_are_found(both):
    quantize = both[0].get_submodule("/QuantizeLinear/q")
    quantize.of = type(quantize.of)(scale=0.07, zero_point=5, dtype=torch.int8, low=-128, high=127)
    with pytest.raises(ValueError, match=r"tensor 'q' must be .* codes differ, by up to 2"):
        compare(*both)


def test_codes_that_are_one_off_in_many_places_are_found(both):
    quantize = both[0].get_submodule("/QuantizeLinear/q")
    quantize.of = type(quantize.of)(scale=0.07, zero_point=4, dtype=torch.int8, low=-128, high=127)
    with pytest.raises(ValueError, match=r"codes differ, by up to 1"):
        compare(*both)


def test_codes_next_to_the_middle_between_two_may_be_one_off(tmp_path):
    """Scales of few digits put many values there, and noise decides."""
    rng = np.random.default_rng(2)
    nodes = [
        node("QuantizeLinear", "x s z", "a"), node("QLinearConv", "a s z w v z t z", "b"),
        node("DequantizeLinear", "b t z"),
    ]  # fmt: skip
    constants = {
        "s": np.float32(0.05), "v": np.float32(0.01), "t": np.float32(0.07), "z": np.int8(0),
        "w": rng.integers(-99, 99, (9, 3, 3, 3)).astype(np.int8),
    }  # fmt: skip
    graph = parse(saved(tmp_path, model(nodes, (4, 3, 16, 16), constants)))
    compare(build(graph, (16, 16, 3), ()).eval(), graph)
