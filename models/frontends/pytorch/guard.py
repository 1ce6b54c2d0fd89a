"""A lowered graph is compared with the module it came from: what it computes must be the same but for float noise."""

from collections.abc import Callable

import torch

from hw.network.network import INPUT
from models.frontends.pytorch.exported import Exported
from models.frontends.pytorch.lowering import Lowering
from models.frontends.pytorch.steps import Graph, GraphStep, compute
from models.networks.winners import keep

__all__ = ["compare"]

#: Of the largest sum of magnitudes in a channel: what folding and another order of additions may change. Of the
#: largest in the map: how many times what the module's own type can't tell apart.
_NOISE, _ROUNDINGS = 1e-4, 8

_SAME = "the lowered network must compute what the module does"
_REPEATABLE = "a network must return what its exported graph computes, whenever and wherever it is called"
_ALONE = "an image's logits must be the same alone and among others"


def compare(graph: Graph, found: Lowering, compute: Callable[..., torch.Tensor] = compute) -> None:
    """Refuse a graph that computes anything else than its module, on the sample images.

    Every step is computed from what the module has there, so that no difference grows on its way and none flips which
    activations win. Of what only keeps the order of values (``monotone``) that is taken as it is.

    Parameters
    ----------
    compute : function
        What a step makes of its operands, weight and bias.

    Raises
    ------
    ValueError
        When they differ by more than float noise; the message names the first step that does. When the module itself
        returns something else than its exported graph, something else of an image alone, or what is no number.
    """
    exported = found.exported
    for name, answer in zip(graph.exits, exported.answers, strict=True):
        if not torch.isfinite(answer).all():
            raise ValueError(f"{name}: logits of images from 0 to 1 must be finite, not NaN or infinite")
    images = exported.values[exported.image]
    rounding = _noise(images) - _NOISE
    height, width, channels = exported.shape
    values = {INPUT: images.float().reshape(-1, channels, height, width)}
    for step in graph.steps:
        if step.kind == "monotone":
            values[step.name] = exported.values[found.nodes[step.name]].float()
            continue
        result, magnitude = _computed(compute, step, [values[name] for name in step.inputs])
        if step.name in found.nodes:
            expected = found.channels_first(found.nodes[step.name], step.shape).float().reshape(result.shape)
            noise = _NOISE * magnitude + rounding * magnitude.max()
            _check(f"{step.name}: {_SAME}", result, expected, noise, "; please report the module")
            result = expected
        values[step.name] = result
    for name, answer in zip(graph.exits, exported.answers, strict=True):
        expected = answer.float().reshape(values[name].shape)
        _check(f"{name}: {_REPEATABLE}", values[name], expected, _noise(images) * expected.abs().max())
    if not any(step.select for step in graph.steps):  # whose winners noise could change
        _compare_alone(graph, exported)


def _compare_alone(graph: Graph, exported: Exported) -> None:
    """An image's logits must be the same alone: the accelerator runs one at a time."""
    answers, alone = exported.answers, exported.alone()
    wanted, sizes = (", ".join(str(answer.numel()) for answer in of) for of in ([a[:1] for a in answers], alone))
    if sizes != wanted:
        raise ValueError(f"{graph.exits[-1]}: {_ALONE}, {wanted} of them, not {sizes}")
    for name, answer, one in zip(graph.exits, answers, alone, strict=True):
        noise = _noise(answer) * answer.float().abs().max()
        _check(f"{name}: {_ALONE}", answer[:1].float().flatten(), one.float().flatten(), noise)


def _noise(values: torch.Tensor) -> float:
    return _NOISE + _ROUNDINGS * torch.finfo(values.dtype).eps


def _computed(
    compute: Callable[..., torch.Tensor], step: GraphStep, operands: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A step's result, and the largest sum of magnitudes in it, channel by channel, to be broadcast."""
    if step.select is not None:
        operands = [keep(operands[0], step.select)]
    result = compute(step, operands, step.weight, step.bias)
    sizes = [None if values is None else values.abs() for values in (step.weight, step.bias)]
    magnitude = compute(step, [operand.abs() for operand in operands], *sizes)
    others = [axis for axis in range(magnitude.ndim) if axis != 1]
    return result.relu() if step.relu else result, magnitude.amax(others, keepdim=True)


def _check(rule: str, found: torch.Tensor, expected: torch.Tensor, noise: torch.Tensor, advice: str = "") -> None:
    difference = (found - expected).abs()
    beyond = difference - noise
    if not (beyond <= 0).all():
        worst = int(beyond.nan_to_num(torch.inf).argmax())
        raise ValueError(
            f"{rule}, up to {noise.expand_as(difference).flatten()[worst]:.3g}, "
            f"but the difference is {difference.flatten()[worst]:.3g}{advice}"
        )
