"""What becomes of a program's operators: quantizations, clips, weights as integers with their scales, layouts."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.frontends.pytorch.steps import GraphStep
from models.frontends.quantized import operators
from models.frontends.quantized.operators import as_linear
from models.frontends.quantized.reader import import_quantized
from tests.models.frontends.quantized.quantized_programs import (
    QD,
    Block,
    Quantized,
    conv,
    converted,
    core,
    difference,
    head,
    seeded,
    steps_of,
    written,
)


def test_weights_with_a_zero_point_are_exact():
    codes = torch.from_numpy(np.random.default_rng(0).integers(10, 250, (3, 32)).astype(np.uint8))

    def body(zero_point):
        return lambda n, x: F.linear(
            n.round(x).flatten(1), QD.dequantize_per_tensor(codes, 0.01, zero_point, 0, 255, torch.uint8)
        )

    network, _ = written(body(130))
    np.testing.assert_array_equal(network.layers[-1].weight.transpose(0, 3, 1, 2).reshape(3, 32), codes.int() - 130)


def test_an_image_of_integers_is_codes():
    def body(net, x):
        return head(net, net.round(conv(net, net.dq(x, 0.05, 3))))

    program = torch.export.export(Quantized(body), (torch.zeros(1, 2, 4, 4, dtype=torch.int8),))
    network = import_quantized(program).network
    assert (network.input.scale, network.input.zero_point) == (pytest.approx(0.05), 3)
    codes = np.random.default_rng(0).integers(-128, 128, (5, 4, 4, 2)).astype(np.int8)
    assert all(each.largest <= 1 for name, each in difference(program, network, codes).items() if name != "linear")


def test_programs_of_core_operators_are_the_same_networks():
    program = converted(seeded(Block), 3, 8, 8)
    before, after = (import_quantized(each).network for each in (program, core(program)))
    assert [type(layer) for layer in after.layers] == [type(layer) for layer in before.layers]
    for (_, one), (_, other) in zip(before.arrays(), after.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_layer_that_computes_something_else_is_named(monkeypatch):
    """As it would be if a rule were wrong: here, of a ReLU."""
    monkeypatch.setitem(operators.OPERATOR_RULES, torch.ops.aten.relu.default, lambda found, node: found.map(node))
    with pytest.raises(ValueError, match=r"^conv2d: a layer must compute what the program does, up to 1 code, but "):
        import_quantized(Quantized(lambda n, x: head(n, n.round(F.relu(conv(n, n.round(x)))))), (4, 4, 2))


def test_a_quantize_is_a_step_and_a_dequantize_is_none():
    found, problems = steps_of(lambda n, x: n.round(x, 0.5, 3, (-100, 90)))
    (step,) = found.steps.values()
    of = step.quantization
    assert (step.kind, step.inputs, problems) == ("quantize", ("input",), [])
    assert (of.scale, of.zero_point, of.low, of.high) == (0.5, 3, -100, 90)
    assert found.exits == [step.name]


@pytest.mark.parametrize(
    ("clip", "bounds"),
    [
        (F.relu, (0, math.inf)),
        (F.relu6, (0, 6)),
        (lambda x: x.clamp(min=-0.5), (-0.5, math.inf)),
        (lambda x: x.clamp_max(2), (-math.inf, 2)),
        (lambda x: x.clamp(torch.tensor(-1.0), torch.tensor([1.0])), (-1, 1)),
        (lambda x: F.hardtanh(x, -2, 3), (-2, 3)),
        (lambda x: torch.clip(x, -1, 2), (-1, 2)),
    ],
)
def test_what_clamps_values_is_a_clip(clip, bounds):
    found, problems = steps_of(lambda n, x: clip(n.round(x)))
    assert problems == []
    assert [step.kind for step in found.steps.values()] == ["quantize", "clip"]
    assert found.steps["clip"].bounds == bounds


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    "layer",
    [
        lambda n, x, **kind: F.conv2d(x, n.weight(4, 2, 3, 3, **kind)),
        lambda n, x, **kind: F.linear(x.flatten(1), n.weight(3, 32, **kind)),
        lambda n, x, **kind: x.flatten(1) @ n.weight(3, 32, **kind).t(),
        lambda n, x, **kind: torch.addmm(torch.ones(3), x.flatten(1), n.weight(3, 32, **kind).transpose(0, 1)),
    ],
)
def test_weights_keep_their_scales(layer, per_channel):
    """By which they are whole numbers again, for each output one."""
    found, problems = steps_of(lambda n, x: layer(n, n.round(x), per_channel=per_channel))
    assert problems == []
    (step,) = (each for each in found.steps.values() if each.weight is not None)
    scales = found.scales[step.name]
    assert len(scales) == len(step.weight)
    assert len(scales.unique()) == (len(scales) if per_channel else 1)
    codes = step.weight.double() / scales.reshape(-1, 1, 1, 1)
    assert (codes - codes.round()).abs().max() < 1e-4
    assert codes.abs().max().round() <= 127


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            lambda n, x: QD.quantize_per_channel(
                x, torch.tensor([0.1, 0.2]), torch.zeros(2, dtype=torch.int64), 1, -128, 127, torch.int8
            ),
            "quantize_per_channel: a map must have one scale and one zero point, not some for each channel",
        ),
        (lambda n, x: n.q(x, math.inf), "quantize_per_tensor: a scale must be positive and finite, not inf"),
        (
            lambda n, x: QD.quantize_per_channel(
                x, torch.full((2,), 0.1), torch.full((2,), 0.5), 1, -128, 127, torch.int8
            ),
            "quantize_per_channel: a zero point must be an integer, not 0.5",
        ),
        (
            lambda n, x: QD.quantize_per_tensor(x, 0.1, 0, -200, 127, torch.int16),
            "quantize_per_tensor: maps must be of int8 or uint8, not torch.int16 of -200..127",
        ),
        (lambda n, x: n.round(x).clamp(0, math.nan), "clamp: bounds of a clamp must be numbers, not 0.0 and nan"),
        (lambda n, x: n.round(x).clamp(min=math.inf), "clamp: bounds of a clamp must be numbers, not inf and inf"),
        (
            lambda n, x: n.round(x).clamp(torch.tensor(math.nan), None),
            "clamp: bounds must be finite, not NaN or infinite",
        ),
        (lambda n, x: n.round(x).clamp(2, 1), "clamp: bounds of a clamp must be ordered, not 2.0 and 1.0"),
        (
            lambda n, x: n.round(x).clamp(torch.zeros(2, 1, 1), torch.ones(2, 1, 1)),
            "clamp: bounds of a clamp must be the same for all channels",
        ),
        (lambda n, x: n.round(x).softmax(3), "softmax: softmax must be over all values of an image"),
        (
            lambda n, x: n.weight(3, 1) @ n.round(x).mean((2, 3)),
            "matmul: a matrix product must be of a map and constant weights",
        ),
        (
            lambda n, x: F.linear(n.round(x).flatten(1), n.weight(32, 3, per_channel=True).t()),
            "linear: weights must have one scale for each output channel, or one in all",
        ),
        (
            lambda n, x: n.round(x).flatten(1) @ n.weight(32, 3, per_channel=True),
            "matmul: weights must have one scale for each output, or one in all",
        ),
        (
            lambda n, x: F.linear(n.round(x).flatten(1), torch.ones(3, 32)),
            "linear: weights must be dequantized from integers, not ones: let the quantizer take this layer, too",
        ),
    ],
)
def test_operators_that_can_not_be_followed(body, problem):
    _, problems = steps_of(body)
    assert len(problems) == 1
    assert problems[0].startswith(problem)


@pytest.mark.parametrize("choose", [QD.choose_qparams.tensor, QD.choose_qparams_symmetric.tensor])
def test_scales_of_each_image_are_refused_once(choose):
    """As quantizers write them with ``is_dynamic``."""

    def dynamic(x):
        scale, zero_point = choose(x, 0, 255, 1e-6, torch.uint8)
        codes = QD.quantize_per_tensor.tensor(x, scale, zero_point, 0, 255, torch.uint8)
        return QD.dequantize_per_tensor.tensor(codes, scale, zero_point, 0, 255, torch.uint8)

    def body(net, x):
        return head(net, dynamic(F.relu(conv(net, dynamic(x)))))

    assert steps_of(body)[1] == [
        f"{choose.__name__.split('.')[0]}: scales of maps must be constants, {choose.__name__.split('.')[0]} computes "
        "them anew for each image: quantize statically, with is_dynamic=False"
    ]
    said = steps_of(lambda n, x: head(n, n.round(torch.erf(x))))[1]
    assert "choose_qparams" not in said[0]


def test_outputs_are_noted_or_refused():
    found, problems = steps_of(lambda n, x: (n.round(x), torch.ones(1, 3), n.round(x).permute(0, 2, 3, 1)))
    assert found.exits[0] == "quantize"
    assert problems == [
        "ones: an output must depend on the image", "permute: an output must have its channels first, or be flat",
    ]  # fmt: skip


def step(kind="conv", size=(4, 5), **values) -> GraphStep:
    return GraphStep(
        kind=kind, name="s", inputs=("input",), shape=(1, 1, 3), weight=torch.ones(3, 2, *size), stride=(2, 2), **values
    )  # fmt: skip


def test_a_convolution_over_its_whole_map_is_a_linear_layer():
    found = as_linear(step(), (4, 5, 2))
    assert (found.kind, found.stride) == ("linear", (1, 1))
    for other, source in (
        (step(), (5, 4, 2)), (step(pads=(0, 0, 0, 1)), (4, 5, 2)), (step("depthwise"), (4, 5, 2)),
        (step("linear"), (4, 5, 2)),
    ):  # fmt: skip
        assert as_linear(other, source) is other
