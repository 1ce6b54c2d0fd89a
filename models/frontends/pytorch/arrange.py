"""Steps in an order and a form that the accelerator runs."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from hw.config import MAX_CLASSES
from models.frontends.pytorch.steps import Graph, GraphStep

__all__ = ["arranged", "exit_problems"]


def arranged(shape: tuple[int, int, int], steps: Sequence[GraphStep], exits: Sequence[str]) -> Graph:
    """The graph of these steps: each exit as early as it can be, what no exit needs left out, every sum possible.

    The accelerator adds while it writes a convolution's output, which nothing else may read, and adds another map than
    the one that the convolution reads. Where neither operand of a sum is such a convolution's output, the first is
    copied by a depthwise convolution with weights of 1; twice the same map is a depthwise convolution with weights of
    2.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.
    steps : sequence of GraphStep
        Each behind those it reads.
    exits : sequence of str
        Steps whose outputs are the logits, at least one; nothing is wrong with them (:func:`exit_problems`).
    """
    shapes = {step.name: step.shape for step in steps}
    doubled = [_scaled(step, step.name, 2.0) if _double(step) else step for step in steps]
    ordered = _ordered(doubled, exits)
    for add in [step for step in ordered if step.kind == "add"]:
        ordered = _possible(add, ordered, shapes)
    return Graph(shape=shape, steps=tuple(ordered), exits=tuple(exits))


def exit_problems(steps: Sequence[GraphStep], exits: Sequence[str]) -> list[str]:
    """All that is wrong with the exits."""
    found = {step.name: step for step in steps}
    problems = [
        f"{name}: an exit must have logits of its own, not those of another exit"
        for name in dict.fromkeys(exits)
        if exits.count(name) > 1
    ]
    problems += [
        f"{name}: classes must be from 2 to {MAX_CLASSES}, not {found[name].shape[2]}"
        for name in dict.fromkeys(exits)
        if not 2 <= found[name].shape[2] <= MAX_CLASSES
    ]
    widths = [found[name].shape[2] for name in exits]
    if len(set(widths)) > 1:
        problems.append(f"{', '.join(exits)}: exits must have equal numbers of classes, not {widths}")
    problems += [
        f"{step.name}: the logits of {name} must be read by nothing, they are an exit's"
        for step in _ordered(steps, exits)
        for name in step.inputs
        if name in exits
    ]
    return problems


def _ordered(steps: Sequence[GraphStep], exits: Sequence[str]) -> list[GraphStep]:
    """What the first exit needs, then what the second needs beside it, and so on."""
    found, ordered = {step.name: step for step in steps}, dict[str, GraphStep]()
    for name in exits:
        needed = {name}
        for step in reversed(steps):
            if step.name in needed:
                needed.update(step.inputs)
        ordered |= {step.name: found[step.name] for step in steps if step.name in needed}
    return list(ordered.values())


def _double(step: GraphStep) -> bool:
    return step.kind == "add" and step.inputs[0] == step.inputs[1]


def _scaled(step: GraphStep, name: str, factor: float) -> GraphStep:
    """A depthwise convolution that multiplies the first map that a step reads, with the step's ReLU."""
    channels = step.shape[2]
    weight = torch.full((channels, 1, 1, 1), factor, dtype=torch.float32, device="cpu")
    return GraphStep(
        kind="depthwise" if channels > 1 else "conv", name=name, inputs=step.inputs[:1], shape=step.shape,
        relu=step.relu, weight=weight, bias=torch.zeros_like(weight[:, 0, 0, 0]),
    )  # fmt: skip


def _possible(add: GraphStep, steps: list[GraphStep], shapes: dict[str, tuple[int, int, int]]) -> list[GraphStep]:
    """The steps with a convolution right before a sum to which it can be fused."""
    readers = [name for step in steps for name in step.inputs]
    fusable = [
        step
        for step in steps
        if step.kind in ("conv", "depthwise")
        and step.name in add.inputs
        and readers.count(step.name) == 1
        and not set(step.inputs) & set(add.inputs)
    ]
    if fusable:
        before, changed = fusable[-1], add
    else:
        name = _unused(f"{add.name}.copy", steps)
        before = _scaled(replace(add, relu=False), name, 1.0)
        changed = replace(add, inputs=(name, add.inputs[1]))
    rest = [step for step in steps if step.name not in (before.name, add.name)]
    index = sum(step.name != before.name for step in steps[: steps.index(add)])
    return [*rest[:index], before, changed, *rest[index:]]


def _unused(name: str, steps: Sequence[GraphStep]) -> str:
    taken = {step.name for step in steps}
    return next(new for new in (name, *(f"{name}_{n}" for n in range(1, len(taken) + 1))) if new not in taken)
