"""The steps the accelerator knows, in float: what every front end ends in, and what one step computes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from hw.network.selection import Select

__all__ = ["Graph", "GraphStep", "compute"]


@dataclass(frozen=True, kw_only=True)
class GraphStep:
    """One fused layer.

    Parameters
    ----------
    kind : str
        ``conv``, ``depthwise``, ``linear``, ``add``, ``pool`` (average) or ``max_pool``.
    name : str
    inputs : tuple of str
    shape : tuple of 3 int
        Height, width, channels of the output.
    relu : bool
    weight : tensor or None
        (output channels, input channels, kernel height, kernel width); of a linear layer the kernel is the whole map,
        a depthwise convolution has one input channel.
    bias : tensor or None
        (output channels,)
    stride : tuple of 2 int
    pads : tuple of 4 int
        Zeros above, below, left and right; of a max pool, positions that are never the largest.
    window : tuple of 2 int or None
        Height and width of a pool's window, which may be the whole map.
    select : Select or None
        Winners among the activations that a layer with weights multiplies.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, int, int]
    relu: bool = False
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    window: tuple[int, int] | None = None
    select: Select | None = None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Steps in execution order and the names of the linear steps whose outputs are the exits' logits."""

    shape: tuple[int, int, int]
    steps: tuple[GraphStep, ...]
    exits: tuple[str, ...]

    def final_only(self) -> "Graph":
        """The same without early exits and what only they need."""
        needed, steps = {self.exits[-1]}, []
        for step in reversed(self.steps):
            if step.name in needed:
                needed.update(step.inputs)
                steps.append(step)
        return replace(self, steps=tuple(reversed(steps)), exits=self.exits[-1:])


def compute(
    step: GraphStep,
    operands: Sequence[torch.Tensor],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """What a step makes of its operands, before its ReLU and without its selection of winners.

    Parameters
    ----------
    operands : sequence of tensor, (N, channels, height, width)
    weight, bias : tensor or None
        Of a step with weights: those to take, which may be rounded.
    """
    if step.kind == "add":
        return operands[0] + operands[1]
    if step.kind == "pool":
        assert step.window is not None
        return F.avg_pool2d(operands[0], step.window, step.stride)
    if step.kind == "max_pool":
        assert step.window is not None
        top, bottom, left, right = step.pads
        if (top, left) == (bottom, right) and 2 * top <= step.window[0] and 2 * left <= step.window[1]:
            return F.max_pool2d(operands[0], step.window, step.stride, (top, left))
        return F.max_pool2d(F.pad(operands[0], (left, right, top, bottom), value=-math.inf), step.window, step.stride)
    assert weight is not None
    top, bottom, left, right = step.pads
    even = (top, left) == (bottom, right)
    return F.conv2d(
        operands[0] if even else F.pad(operands[0], (left, right, top, bottom)),
        weight,
        bias,
        step.stride,
        (top, left) if even else 0,
        groups=len(weight) if step.kind == "depthwise" else 1,
    )
