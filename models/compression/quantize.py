"""Quantization-aware training and the integer network that comes out of it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hw.network.network import (
    INPUT,
    NEVER,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    Exit,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool2D,
    Network,
    Tensor,
)
from hw.numerics import Rounding, Scale, quantize_scale
from models.compression.fakequant import INPUT_SCALE, INPUT_ZERO_POINT, FakeQuantNet
from models.compression.levels import units
from models.datasets.sources import Progress
from models.datasets.splits import Split
from models.frontends.pytorch.graph import GraphStep, lower
from models.frontends.pytorch.merge import merged
from models.networks.ensemble import members_of
from models.networks.residual_net import to_torch
from models.training.pieces import Piece, Run
from models.training.standard_pieces import FixedMask
from models.training.train import Schedule, fit

__all__ = ["encode", "image_quantization", "images_of", "quantize", "to_network"]

_CALIBRATION = 512  # images that set the first ranges


def encode(images: Any, network: Network) -> np.ndarray:
    """Images as the network takes them.

    Parameters
    ----------
    images : array of float, (N, height, width, channels)
        Where the network takes pixels (scale 1/255, zero point -128), in 0..1; else in the units of its input.

    Returns
    -------
    array of int8, (N, height, width, channels)
        ``round(pixel * (1 / scale)) + zero_point``, ties to even, clamped to int8.

    Raises
    ------
    ValueError
        When the shape isn't the network's, or a value isn't a number, is a pixel outside 0..1, or else is further
        outside the range of the input's codes than that range is wide: it then has other units.
    """
    pixels = images_of(images, network.input.shape)
    _check_range(pixels, network.input.scale, network.input.zero_point)
    codes = np.rint(pixels.astype(np.float64) * (1.0 / network.input.scale)) + network.input.zero_point
    return codes.clip(-128, 127).astype(np.int8)


def images_of(images: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Images of a shape, or of any, after they were checked."""
    pixels = np.asarray(images)
    expected = "height, width, channels" if shape is None else ", ".join(map(str, shape))
    right = pixels.ndim == 4 and (shape is None or pixels.shape[1:] == shape)
    if not right or not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(f"images must be a floating-point array (N, {expected}), not {pixels.dtype} {pixels.shape}")
    return pixels


def _check_range(images: np.ndarray, scale: float, zero_point: int) -> None:
    """Refuse values of images that codes of this scale and zero point aren't for."""
    if images.size == 0:
        return
    least, most = float(images.min()), float(images.max())
    if (scale, zero_point) == (INPUT_SCALE, INPUT_ZERO_POINT):
        if not (least >= 0 and most <= 1):
            raise ValueError(f"pixels must be numbers from 0 to 1, not {least} to {most}")
        return
    low, high = scale * (-128 - zero_point), scale * (127 - zero_point)
    if not (2 * low - high <= least and most <= 2 * high - low):
        raise ValueError(
            f"values of images must be numbers about in {low:g}..{high:g}, which the network's input has codes for, "
            f"not {least:g} to {most:g}"
        )


def image_quantization(images: np.ndarray) -> tuple[float, int]:
    """Scale and zero point for images: those of pixels where all are in 0..1, else of their range, which holds zero.

    Raises
    ------
    ValueError
        When a value is no finite number.
    """
    least, most = min(float(images.min()), 0.0), max(float(images.max()), 0.0)
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError(f"values of images must be finite numbers, not {least} to {most}")
    if least >= 0 and most <= 1:
        return INPUT_SCALE, INPUT_ZERO_POINT
    scale = (most - least) / 255
    return scale, round(-128 - least / scale)


class _FrozenRanges(Piece):
    """Ranges follow the batches for the first two thirds of the epochs."""

    def __init__(self, twin: FakeQuantNet) -> None:
        self.twin = twin

    def before_epoch(self, run: Run) -> None:
        self.twin.observing = run.epoch < run.schedule.epochs - run.schedule.epochs // 3


def quantize(
    model: nn.Module,
    split: Split,
    schedule: Schedule,
    *,
    seed: int,
    exits: bool = True,
    levels: str | None = None,
    pieces: Callable[[FakeQuantNet], Sequence[Piece]] | None = None,
    image: tuple[float, int] = (INPUT_SCALE, INPUT_ZERO_POINT),
    checkpoint: Path | None = None,
    history: list[dict[str, float]] | None = None,
    progress: Progress | None = None,
    text: str = "quantize",
) -> FakeQuantNet:
    """Train a network on as int8: batch norms folded, zero weights kept, ranges fixed for the last third.

    Parameters
    ----------
    model : Module
        Float network as :func:`models.frontends.pytorch.graph.lower` takes it, or an ensemble of such
        (:mod:`models.networks.ensemble`).
    split : Split
        Images that set the ranges and train.
    schedule : Schedule
    seed : int
    exits : bool
        False drops the early exits and what only they need.
    levels : str or None
        Kind of levels of the convolutions' weights (:mod:`models.compression.levels`), which stay exactly what they
        are.
    pieces : function or None
        Of the twin, further pieces of its training (:mod:`models.training.pieces`).
    image : tuple of float and int
        Scale and zero point of the images.
    checkpoint : Path or None
        File of the run in progress, see :func:`models.training.train.fit`.
    history : list or None
        Gets the metrics of every epoch.
    progress : function or None
        Called with steps done, steps in all and a text.

    Returns
    -------
    FakeQuantNet
        In evaluation mode.

    Raises
    ------
    ValueError
        When the network has an unsupported module, a weight that is no number, or weights of other levels.
    FloatingPointError
        When training diverges.
    """
    model.eval()
    height, width, channels = split.images.shape[1:]
    members = members_of(model)
    graphs = [lower(member, (height, width, channels)) for member in members]
    found = [units(*pair, levels) if levels else {} for pair in zip(members, graphs, strict=True)]
    together = {name: torch.cat([values[name] for values in found]) for name in found[0]}
    graph = merged(graphs)
    twin = FakeQuantNet(graph if exits else graph.final_only(), together, image)
    with torch.no_grad():
        twin.train()(to_torch(split.images[:_CALIBRATION]))
    every = [_FrozenRanges(twin), FixedMask(twin.masks()), *(pieces(twin) if pieces else ())]
    metrics = fit(twin, split, schedule, seed=seed, pieces=every, checkpoint=checkpoint, progress=progress, text=text)
    if history is not None:
        history.extend(metrics)
    return twin


def to_network(twin: FakeQuantNet, name: str, thresholds: Sequence[int] = ()) -> Network:
    """The integer network of a twin, in TensorFlow Lite's arithmetic (:mod:`hw.numerics`).

    Parameters
    ----------
    name : str
    thresholds : sequence of int
        Of the early exits; by default none is ever taken (:data:`hw.network.network.NEVER`).

    Raises
    ------
    ValueError
        When a weight is no number; the message names the layer.
    """
    for step, node in zip(twin.graph.steps, twin.nodes, strict=True):
        for values in node.parameters():
            if not torch.isfinite(values).all():
                raise ValueError(f"{step.name}: weights must be finite, not NaN or infinite")
    quantization = twin.quantization()
    shapes = {INPUT: twin.graph.shape} | {step.name: step.shape for step in twin.graph.steps}
    tensors = {
        key: Tensor(shape=shapes[key], scale=scale, zero_point=zero) for key, (scale, zero) in quantization.items()
    }
    heads = twin.graph.exits
    early = tuple(thresholds) or (NEVER,) * (len(heads) - 1)
    if len(early) != len(heads) - 1:
        raise ValueError(f"thresholds must be one for each of {len(heads) - 1} early exits, not {len(early)}")
    return Network(
        name=name,
        input=tensors[INPUT],
        layers=tuple(_layer(twin, number, tensors) for number in range(len(twin.graph.steps))),
        exits=tuple(Exit(logits=head, threshold=value) for head, value in zip(heads, (*early, None), strict=True)),
        classes=shapes[heads[-1]][2],
    )


def _layer(twin: FakeQuantNet, number: int, tensors: dict[str, Tensor]) -> Layer:
    step = twin.graph.steps[number]
    output = tensors[step.name]
    common: dict[str, Any] = {"name": step.name, "inputs": step.inputs, "output": output}
    if step.relu:
        common["clamp"] = (output.zero_point, 127)
    if step.kind == "add":
        return Add(**common)
    if step.kind == "pool":
        if step.window == tensors[step.inputs[0]].shape[:2]:
            return GlobalAveragePool(**common)
        assert step.window is not None
        return AveragePool2D(**common, window=step.window, stride=step.stride)
    if step.kind == "max_pool":
        assert step.window is not None
        return MaxPool2D(**common, window=step.window, stride=step.stride, pads=step.pads)
    raw = step.name in twin.graph.exits
    common |= {"select": step.select, "threshold": twin.nodes[number].threshold}
    common |= _weights(step, twin.nodes[number], tensors[step.inputs[0]].scale, None if raw else output.scale)
    if step.kind == "linear":
        return Linear(**common, rounding=Rounding.SINGLE, raw=raw)
    kind = DepthwiseConv2D if step.kind == "depthwise" else Conv2D
    return kind(**common, rounding=Rounding.DOUBLE, stride=step.stride, pads=step.pads)


def _weights(step: GraphStep, node: Any, source_scale: float, output_scale: float | None) -> dict[str, np.ndarray]:
    """Integer weights, biases and requantization of one layer; raw layers (``output_scale`` None) scale by zero."""
    scale, weight = node.weight_scale(source_scale).cpu(), node.weight.detach().cpu()
    codes = (weight / scale[:, None, None, None]).round().permute(0, 2, 3, 1)
    scales = scale.double().numpy() * source_scale
    bias = np.rint(node.bias.detach().cpu().double().numpy() / scales)
    requantization = [Scale(0, 0)] * len(scales)
    if output_scale is not None:
        requantization = [quantize_scale(float(value) / output_scale) for value in scales]
    return {
        "weight": np.ascontiguousarray(codes.numpy().astype(np.int8)),
        "bias": bias.astype(np.int32),
        "multiplier": np.array([scale.multiplier for scale in requantization], dtype=np.int32),
        "shift": np.array([scale.shift for scale in requantization], dtype=np.int32),
    }
