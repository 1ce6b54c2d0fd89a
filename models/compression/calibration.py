"""A float network of any style becomes an integer network as it is: images alone set the ranges of activations.

The network's steps (:mod:`models.frontends.quantized.float_operators`) get a quantize and a dequantize where the
accelerator rounds; what comes out is a program as PyTorch's own quantization makes them, which is read as any other
(:mod:`models.frontends.quantized.reader`). Weights are symmetric with one scale per output channel, but for logits,
which have one in all so that they compare; activations have a scale and a zero point per map (Jacob et al. 2018, arXiv
1712.05877). What behind a layer only clamps is part of it. Average pools and clamps by themselves keep their map's
scale.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from torch import nn
from torch.export import ExportedProgram

from hw.network.network import INPUT, Network
from models.compression.fakequant import LARGEST_BIAS
from models.compression.quantize import image_quantization, images_of
from models.compression.range_rules import Ranges, check_ranges
from models.compression.ranges import TINIEST, RangeObserver, asymmetric
from models.frontends.pytorch.calls import undisturbed
from models.frontends.pytorch.exported import export, exported_program, program_of
from models.frontends.pytorch.functional import functional, image_taken, images_taken
from models.frontends.pytorch.steps import Graph, GraphStep
from models.frontends.quantized.float_operators import float_steps
from models.frontends.quantized.program_tensors import QuantizedSource
from models.frontends.quantized.reader import import_quantized
from models.frontends.quantized.step_module import StepModule
from models.integer.exact import exact
from models.networks.named_steps import NamedSteps
from models.networks.residual_net import to_torch

__all__ = ["Calibrated", "calibrate"]

_QD = torch.ops.quantized_decomposed
_WEIGHTED = ("conv", "depthwise", "linear")
#: What keeps the scale of its map, if that has been rounded.
_KEEPING = ("pool", "max_pool", "clip")
_BATCH = 64  # images that are computed at once, whose smallest and largest values are one sample of a range
_SEED = 20  # of the images on which a program and its steps are compared
_COUNT = 8  # images that the program takes at once
_COMPARED = 32  # images on which the stages are compared
_FINEST = 1.001  # steps of an accumulator that a step of the output is at least: its factor stays below 1
_RATIO = 1 / 60  # of the step of a map to that of what it becomes part of, at least: rescaling ends at 64
_LEAST_RATIO = 0.0  # decibel of signal to noise, of a map


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A network and what it was made by.

    Attributes
    ----------
    network : Network
    source : QuantizedSource
        Its program with quantize and dequantize operators, of several images.
    ratios : tuple of float
        Signal to noise of each output against the float network, in decibel, on calibration images.
    graph : Graph
        Steps of the float network.
    """

    network: Network
    source: QuantizedSource
    ratios: tuple[float, ...]
    graph: Graph

    def float_maps(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What the float network computes where the integer network's layers stand, clamps behind them with it.

        Parameters
        ----------
        images : array of float, (N, height, width, channels)

        Returns
        -------
        dict of str to array (N, height, width, channels)
            By the layer's name; layers that the float network lacks are left out.
        """
        twin, readers = _Twin(self.graph).eval(), _readers(self.graph)
        found = {}
        with torch.inference_mode(), exact():
            values = twin.values(to_torch(images.astype(np.float32)))
        for layer in self.network.layers:
            name = layer.name
            if name not in twin.steps:
                continue
            while name not in self.graph.exits and [twin.steps[reader].kind for reader in readers[name]] == ["clip"]:
                (name,) = readers[name]
            made = values[name].numpy()
            found[layer.name] = made.transpose(0, 2, 3, 1) if made.ndim == 4 else made.reshape(len(made), 1, 1, -1)
        return found


def calibrate(
    model: nn.Module | ExportedProgram, images: np.ndarray, name: str = "network", *, ranges: Ranges = "minmax"
) -> Calibrated:
    """The int8 network of a float one; nothing is trained.

    Parameters
    ----------
    model : Module or ExportedProgram
        Of any style: what counts are the operators that it computes
        (:mod:`models.frontends.quantized.float_operators`). Neither its modes nor its buffers change.
    images : array of float, (N, height, width, channels)
        At least one; some hundred of all classes serve. Those all in 0..1 are taken for pixels; others set the range of
        the network's input.
    name : str
        Of the network.
    ranges : str
        How the range of a map is chosen (:mod:`models.compression.ranges`): ``minmax``, ``percentile`` or ``mse``.

    Returns
    -------
    Calibrated
        It is the same whatever the process has told PyTorch: autocast, default types, precision of convolutions.

    Raises
    ------
    ValueError
        When the network can't run on the accelerator: all reasons, before an image is computed. When there is no image,
        or activations aren't finite. When a layer is nothing like the float one: it names the first.
    """
    images = images_of(images)
    if images.size == 0:
        raise ValueError("images must be at least 1, not 0")
    check_ranges(ranges)
    image = image_quantization(images)
    height, width, channels = images.shape[1:]
    shape = (height, width, channels)
    graph = _float_graph(model, shape)
    with torch.inference_mode(False), exact():
        twin = _Twin(graph, image).eval()
        for batch in _batches(images, _BATCH):
            twin.observe(batch)
        for batch in _batches(images, _BATCH) if ranges != "minmax" else ():
            twin.count(batch)
        sample = next(_batches(images, _COMPARED))
        expected = twin.values(sample)
        twin.quantize(ranges)
        ratios = _ratios(twin, expected, twin.values(sample))
    with undisturbed(twin):
        program = program_of(twin, shape, _COUNT)
    found = import_quantized(program, name=name, step_names=twin.step_names)
    return Calibrated(network=found.network, source=found.source, ratios=ratios, graph=graph)


def _batches(images: np.ndarray, count: int) -> Iterator[torch.Tensor]:
    """Images as PyTorch takes them, so many at once."""
    for start in range(0, len(images), count):
        yield to_torch(images[start : start + count].astype(np.float32))


def _float_graph(model: nn.Module | ExportedProgram, shape: tuple[int, int, int]) -> Graph:
    """The steps of a module or a program in float."""
    if isinstance(model, nn.Module):
        with undisturbed(model):
            return float_steps(export(model, shape))
    program = functional(model)
    taken, image = images_taken(program)
    if image != shape:
        raise ValueError(f"images must be of the shape of the program's {image}, not {shape}")
    random = torch.Generator("cpu").manual_seed(_SEED)
    samples = torch.rand(taken, generator=random, dtype=torch.float32, device="cpu")
    with torch.inference_mode(False), exact():
        return float_steps(exported_program(program, shape, samples.to(image_taken(program).dtype)))


class _Twin(NamedSteps):
    """Computes a graph in float, and when it has been quantized, with the roundings of an integer network.

    Parameters
    ----------
    graph : Graph
    image : tuple of float and int, or None
        Scale and zero point of the images; None: nothing is going to be rounded.
    """

    def __init__(self, graph: Graph, image: tuple[float, int] | None = None) -> None:
        super().__init__()
        self.graph, self.image = graph, image
        self.steps = {step.name: step for step in graph.steps}
        self.sites = _sites(graph)
        self.observers = {name: RangeObserver(name) for name in self.sites}
        self.scales: dict[str, tuple[float, int]] = {}
        self.modules_of = {step.name: StepModule(step) for step in graph.steps}
        self.in_order = nn.ModuleList(self.modules_of.values())
        self.step_names = {f"in_order.{number}": name for number, name in enumerate(self.modules_of)}

    def observe(self, images: torch.Tensor) -> None:
        """Note how far the values of every map reach that is rounded."""
        values = self.values(images)
        for name, observer in self.observers.items():
            observer.observe(values[name])

    def count(self, images: torch.Tensor) -> None:
        """Count the values of these maps; all images must have been observed."""
        values = self.values(images)
        for name, observer in self.observers.items():
            observer.count(values[name])

    def quantize(self, ranges: Ranges) -> None:
        """Set all scales from the ranges, and let weights be integers."""
        assert self.image is not None
        self.scales[INPUT] = self.image
        finest: dict[str, float] = {}  # of what isn't rounded yet, the smallest step that it may be rounded to
        for name, step in self.steps.items():
            sources = [self.scales[source] for source in step.inputs if source in self.scales]
            if step.kind in _WEIGHTED:
                scale = _weight_scale(step, sources[0][0], name in self.graph.exits)
                self.modules_of[name].quantize(scale)
                least = sources[0][0] * float(scale.max()) * _FINEST
            else:
                inner = [finest[source] for source in step.inputs if source in finest]
                least = max([*inner, *(scale * _RATIO for scale, _ in sources)])
            if step.kind in _KEEPING and sources:
                self.scales[name] = sources[0]
            elif name in self.sites:
                self.scales[name] = asymmetric(*self.observers[name].bounds(ranges), least)
            else:
                finest[name] = least

    def values(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """What every step computes, rounded where the network rounds; outputs that aren't have names of their own."""
        values = {INPUT: self._rounded(INPUT, images)}
        for name, step in self.steps.items():
            result = self.modules_of[name](*(values[source] for source in step.inputs))
            values[name] = self._rounded(name, result) if name in self.sites else result
            if name in self.graph.exits and _is_raw(step):
                values[_raw(name)] = result
        return values

    def _rounded(self, name: str, value: torch.Tensor) -> torch.Tensor:
        if name not in self.scales:
            return value
        scale, zero_point = self.scales[name]
        codes = _QD.quantize_per_tensor(value, scale, zero_point, -128, 127, torch.int8)
        return _QD.dequantize_per_tensor(codes, scale, zero_point, -128, 127, torch.int8)

    def outputs(self) -> tuple[str, ...]:
        """What the outputs are called among the values."""
        return tuple(_raw(name) if _is_raw(self.steps[name]) else name for name in self.graph.exits)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs (N, values) of images (N, channels, height, width)."""
        values = self.values(images)
        return tuple(values[name].flatten(1) for name in self.outputs())


def _is_raw(step: GraphStep) -> bool:
    """Whether an output of this step isn't rounded: sums of products, or of all positions, are in order as they are."""
    return step.kind == "linear" or (step.kind == "pool" and step.shape[:2] == (1, 1))


def _raw(name: str) -> str:
    return f"{name}, not rounded"


def _readers(graph: Graph) -> dict[str, list[str]]:
    """The steps that read each step."""
    readers: dict[str, list[str]] = {step.name: [] for step in graph.steps}
    for step in graph.steps:
        for name in step.inputs:
            if name != INPUT:
                readers[name].append(step.name)
    return readers


def _sites(graph: Graph) -> set[str]:
    """Steps behind which values are rounded: not those whose only reader is a clamp or puts maps together."""
    kinds, readers = {step.name: step.kind for step in graph.steps}, _readers(graph)
    found = set()
    for step in graph.steps:
        read, is_output = [kinds[name] for name in readers[step.name]], step.name in graph.exits
        fused = step.kind != "pool" and read in (["clip"], ["concat"])
        if is_output:
            if read or not _is_raw(step):
                found.add(step.name)
        elif not fused and step.kind != "max_pool":
            found.add(step.name)
    return found


def _weight_scale(step: GraphStep, source: float, is_output: bool) -> torch.Tensor:
    """Real value of one step of the weights, per output channel; of an output the same for all.

    Channels whose weights are zero or nothing beside their bias have steps as large as the bias needs.
    """
    assert step.weight is not None
    assert step.bias is not None
    largest = step.weight.abs().amax(dim=(1, 2, 3)) / 127
    for_bias = step.bias.abs() / (source * LARGEST_BIAS)
    scale = torch.maximum(largest, for_bias).clamp_min(TINIEST)
    return scale.max().repeat(len(scale)) if is_output else scale


def _ratios(twin: _Twin, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> tuple[float, ...]:
    """Signal to noise of the outputs, in decibel; a map that is more noise than signal is refused."""
    ratios = {}
    for name in (*twin.sites, *twin.outputs()):
        signal = float(expected[name].double().square().mean())
        noise = float((found[name].double() - expected[name].double()).square().mean())
        ratios[name] = 10 * math.log10(signal / noise) if signal and noise else math.inf
    for name in found:
        if ratios.get(name, math.inf) <= _LEAST_RATIO:
            raise ValueError(
                f"{name}: a layer must be more than {_LEAST_RATIO:g} dB above its noise as int8, not "
                f"{ratios[name]:.1f} dB: check that the images are what the network was trained on"
            )
    return tuple(ratios[name] for name in twin.outputs())
