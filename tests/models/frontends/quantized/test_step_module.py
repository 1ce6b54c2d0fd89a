"""A step as a module computes in float, or with weights that are codes."""

import pytest
import torch
from torch.nn import functional as F

from models.frontends.pytorch.steps import GraphStep
from models.frontends.quantized.lowering import QuantizedStep
from models.frontends.quantized.step_module import StepModule

RANDOM = torch.Generator().manual_seed(3)


def conv_step() -> GraphStep:
    return GraphStep(
        kind="conv", name="c", inputs=("input",), shape=(3, 3, 4), weight=torch.randn(4, 2, 3, 3, generator=RANDOM),
        bias=torch.randn(4, generator=RANDOM), pads=(1, 0, 1, 0), stride=(1, 1),
    )  # fmt: skip


def test_a_convolution_in_float():
    step, x = conv_step(), torch.randn(2, 2, 4, 4, generator=RANDOM)
    module = StepModule(step)
    torch.testing.assert_close(module(x), F.conv2d(F.pad(x, (1, 0, 1, 0)), step.weight, step.bias))
    assert {name for name, _ in module.named_buffers()} == {"weight", "bias"}
    assert list(module.parameters()) == []


def test_weights_are_codes_that_are_dequantized():
    step, x = conv_step(), torch.randn(2, 2, 4, 4, generator=RANDOM)
    scales = step.weight.abs().amax((1, 2, 3)) / torch.tensor([127.0, 60.0, 20.0, 254.0])
    module = StepModule(step)
    module.quantize(scales)
    wanted = (step.weight / scales[:, None, None, None]).round().clamp(-127, 127)
    assert module.weight.dtype == torch.int8
    assert torch.equal(module.weight.float(), wanted)
    assert (module.weight[3].abs() == 127).any()  # more than one step beyond the largest code
    expected = F.conv2d(F.pad(x, (1, 0, 1, 0)), wanted * scales[:, None, None, None], step.bias)
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("add", {}, lambda x, y: x + y),
        ("pool", {"window": (2, 2), "stride": (1, 1)}, lambda x, _: F.avg_pool2d(x, 2, 1)),
        ("concat", {"axis": 1}, lambda x, y: torch.cat([x, y], 3)),
        ("clip", {"bounds": (-0.5, 0.25)}, lambda x, _: x.clamp(-0.5, 0.25)),
    ],
)
def test_steps_without_weights(kind, values, expected):
    x, y = (torch.randn(2, 2, 4, 4, generator=RANDOM) for _ in range(2))
    inputs = ("a", "b") if kind in ("add", "concat") else ("a",)
    make = QuantizedStep if kind in ("concat", "clip") else GraphStep
    module = StepModule(make(kind=kind, name="s", inputs=inputs, shape=(4, 4, 2), **values))
    torch.testing.assert_close(module(*(x, y)[: len(inputs)]), expected(x, y))
