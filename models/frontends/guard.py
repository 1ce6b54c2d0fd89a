"""A lowered graph is compared with the module it came from: what it computes must be the same but for float noise."""

import torch

from hw.network.network import INPUT
from models.frontends.lowering import Lowering
from models.frontends.steps import Graph, Step, compute
from models.networks.winners import keep

__all__ = ["compare"]

#: Of the sum of magnitudes that a result is the sum of: what folding and another order of additions may change, and
#: how many times what the module's own type can't tell apart.
_NOISE, _ROUNDINGS = 1e-4, 8


def compare(graph: Graph, found: Lowering) -> None:
    """Refuse a graph that computes anything else than its module, on the sample images.

    Every step is computed from what the module has there, so that no difference grows on its way and none flips which
    activations win.

    Raises
    ------
    ValueError
        When they differ by more than float noise; the message names the first step that does.
    """
    exported = found.exported
    images = exported.values[exported.image]
    noise = _NOISE + _ROUNDINGS * torch.finfo(images.dtype).eps
    values = {INPUT: images.float()}
    for step in graph.steps:
        result, magnitude = _computed(step, [values[name] for name in step.inputs])
        if step.name in found.nodes:
            expected = exported.values[found.nodes[step.name]].float().reshape(result.shape)
            _check(step.name, result, expected, noise * magnitude)
            result = expected
        values[step.name] = result
    for name, answer in zip(graph.exits, exported.answers, strict=True):
        expected = answer.float().reshape(values[name].shape)
        _check(name, values[name], expected, noise * float(expected.abs().max()))


def _computed(step: Step, operands: list[torch.Tensor]) -> tuple[torch.Tensor, float]:
    """A step's result, and the largest sum of magnitudes in it."""
    if step.select is not None:
        operands = [keep(operands[0], step.select)]
    result = compute(step, operands, step.weight, step.bias)
    sizes = [None if values is None else values.abs() for values in (step.weight, step.bias)]
    magnitude = float(compute(step, [operand.abs() for operand in operands], *sizes).max())
    return result.relu() if step.relu else result, magnitude


def _check(name: str, found: torch.Tensor, expected: torch.Tensor, noise: float) -> None:
    difference = float((found - expected).abs().max())
    if not difference <= noise:
        raise ValueError(
            f"{name}: the lowered network must compute what the module does, up to {noise:.3g}, but differs by "
            f"{difference:.3g}; please report the module"
        )
