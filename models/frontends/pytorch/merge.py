"""The graphs of an ensemble's members (:mod:`models.networks.ensemble`) as one network for the accelerator.

Networks side by side are one network of so many times the channels whose weights are zero between the members. Zero
weights take no time on the accelerator, so an ensemble needs nothing of it that a single network doesn't.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from hw.network.network import INPUT
from models.frontends.pytorch.graph import Graph, GraphStep, lower
from models.networks.ensemble import members_of

__all__ = ["lowered", "merged"]


def lowered(model: nn.Module, shape: tuple[int, int, int]) -> Graph:
    """The steps of a network, or of an ensemble's members side by side.

    Parameters and errors are those of :func:`models.frontends.pytorch.graph.lower` and :func:`merged`.
    """
    return merged([lower(member, shape) for member in members_of(model)])


def merged(graphs: Sequence[Graph]) -> Graph:
    """Networks of one structure as one: channels of the first member, then those of the second, and so on.

    The logits of every exit are the mean of the members'.

    Raises
    ------
    ValueError
        When there is none, their structures differ, a member does anything but convolve with the image itself, or
        selects winners, which would compete with the other members'; the message names the step.
    """
    if not graphs:
        raise ValueError("an ensemble must have at least 1 member, not 0")
    first = graphs[0]
    for graph in graphs[1:]:
        if (graph.shape, graph.exits, len(graph.steps)) != (first.shape, first.exits, len(first.steps)):
            raise ValueError("members of an ensemble must have equal images, exits and numbers of steps")
    steps = tuple(_step(found, first.exits) for found in zip(*(graph.steps for graph in graphs), strict=True))
    return replace(first, steps=steps)


def _step(found: Sequence[GraphStep], exits: tuple[str, ...]) -> GraphStep:
    """One step of all members."""
    first, count = found[0], len(found)
    for step in found[1:]:
        if replace(step, weight=None, bias=None) != replace(first, weight=None, bias=None):
            raise ValueError(
                f"{first.name}: members of an ensemble must have equal steps, not {first.kind}, {step.kind}"
            )
    if count > 1 and INPUT in first.inputs and first.kind not in ("conv", "linear"):
        raise ValueError(f"{first.name}: in an ensemble, only convolutions and linear layers may read the image")
    if count > 1 and INPUT not in first.inputs and first.select is not None:
        raise ValueError(f"{first.name}: members of an ensemble must not select winners: they would compete")
    if first.weight is None:
        return replace(first, shape=(*first.shape[:2], count * first.shape[2]))
    weights, biases = ([getattr(step, name) for step in found] for name in ("weight", "bias"))
    shared = INPUT in first.inputs
    if first.name in exits:
        weight = torch.stack(weights).mean(0) if shared else torch.cat(weights, dim=1) / count
        return replace(first, weight=weight, bias=torch.stack(biases).mean(0))
    apart = first.kind == "depthwise" or shared
    return replace(
        first,
        weight=torch.cat(weights) if apart else _diagonal(weights),
        bias=torch.cat(biases),
        shape=(*first.shape[:2], count * first.shape[2]),
    )


def _diagonal(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weights (outputs, inputs, height, width) of members that don't see each other."""
    outputs, inputs = weights[0].shape[:2]
    whole = weights[0].new_zeros(len(weights) * outputs, len(weights) * inputs, *weights[0].shape[2:])
    for number, weight in enumerate(weights):
        whole[number * outputs : (number + 1) * outputs, number * inputs : (number + 1) * inputs] = weight
    return whole
