"""Reads a program with quantize and dequantize operators into an integer network, and says how far the two differ.

Such programs come from PyTorch's PT2E quantization, and from ONNX files whose operators have been made those of
PyTorch. Between a dequantize and the next quantize they compute in float, divide, and round half to even; the
accelerator adds integers up, multiplies by an integer multiplier, and rounds half up. So codes can differ by one where
a value lies next to the middle between two codes. A bias in float is rounded to a step of its layer's accumulator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram

from hw.network.layers import is_raw
from hw.network.network import INPUT, NEVER, Exit, Network
from models.frontends.identities import runnable, with_logits
from models.frontends.pytorch.calls import undisturbed
from models.frontends.pytorch.exported import exported_program, program_of
from models.frontends.pytorch.functional import functional, image_taken, images_taken
from models.frontends.quantized.float_summands import codes_off
from models.frontends.quantized.layers import LayerBuilder
from models.frontends.quantized.operators import DEQUANTIZE, quantized_steps
from models.frontends.quantized.program_tensors import QuantizedSource
from models.integer import golden
from models.integer.exact import exact
from models.networks.named_steps import NamedSteps

__all__ = ["QuantizedImport", "UnroundedError", "import_quantized"]

_SEED = 19  # of the images on which layers are compared
_FARTHEST = 255  # code from its zero point


@dataclass(frozen=True, kw_only=True)
class QuantizedImport:
    """A network that was read from a program, with the program, and what a user must know of that: sentences."""

    network: Network
    source: QuantizedSource
    notes: tuple[str, ...]


class UnroundedError(ValueError):
    """A program can't be followed, only because something reads maps in float.

    Parameters
    ----------
    nodes : tuple of str
        Those that compute these maps.
    problems : sequence of str
        A sentence for each.
    """

    def __init__(self, nodes: tuple[str, ...], problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.nodes = nodes


def import_quantized(
    source: nn.Module | ExportedProgram,
    shape: tuple[int, int, int] | None = None,
    *,
    name: str = "network",
    step_names: Mapping[str, str] | None = None,
) -> QuantizedImport:
    """The integer network of a quantized program, with the program and what a user must know of it.

    Supported: activations of int8 or uint8 with one scale, weights of int8 or uint8 with one scale in all or one for
    each output channel, biases of integers or in float; convolutions of one or two dimensions, in groups, dilated;
    linear layers; ReLU and clamps; sums and concatenations of channels; pools; views that flatten; what keeps the
    order of logits at the end, which is left out. Several outputs are exits that are never taken early;
    where one has fewer values than another, those it lacks are the least it can give.

    Every layer has been compared with the program on random images: on the program's own input codes it differs by one
    code at most; by two, where it is a sum of which the program leaves a summand in float. Logits that aren't quantized
    and whose weights have a scale for each output are sums of weights in steps of one scale: they differ by what that
    changes.

    Parameters
    ----------
    source : Module or ExportedProgram
        Of one image tensor (images, channels, height, width), (images, channels, columns) or (images, values), in
        float or of integers, with operators of ``torch.ops.quantized_decomposed``.
    shape : tuple of 3 int or None
        Height, width, channels of an image; of a module only.
    name : str
        Of the network.
    step_names : dict of str to str, optional
        As of :class:`models.networks.named_steps.NamedSteps`; of a program, which doesn't hold them.

    Raises
    ------
    ValueError
        When something can't be followed: the message names the operators. When a layer differs by more than one code:
        it names the layer.
    """
    if isinstance(source, NamedSteps):
        step_names = source.step_names
    found = _read(source, shape, name, step_names)
    _check(found)
    notes = tuple(
        f"{layer}: its weights have a scale for each output, its logits one in all: rounded to a quarter of the "
        f"coarsest, they may change a logit by {_most(off) * found.network.layer(layer).output.scale:.3g} at most"
        for layer, off in found.rounded.items()
    )
    notes += tuple(
        f"{name}: a summand that the program leaves in float is rounded once more: codes may differ by {off}"
        for name, off in found.codes_off.items()
        if name in found.nodes
    )
    return QuantizedImport(network=found.network, source=found, notes=notes)


def _read(
    source: nn.Module | ExportedProgram,
    shape: tuple[int, int, int] | None,
    name: str,
    step_names: Mapping[str, str] | None,
) -> QuantizedSource:
    program = _program(source, shape)
    taken, image = images_taken(program)
    if shape is not None and shape != image:
        raise ValueError(f"shape must be that of the program's images {image}, not {shape}")
    with torch.inference_mode(False), exact():
        found = quantized_steps(exported_program(program, image, _zeros(program, taken), step_names))
    builder = LayerBuilder(found)
    heads = [builder.head(output) for output in found.exits]
    if found.problems:
        builder.prepare(found.steps)  # what stands before an operator that was refused, too
        unrounded = {found.nodes[name].name: None for name in builder.unrounded}
        if len(found.problems) == len(unrounded):
            raise UnroundedError(tuple(unrounded), found.problems)
        raise ValueError("; ".join(found.problems))
    if not heads:
        raise ValueError("a network must return at least 1 tensor, not 0")
    assert builder.built.image is not None
    layers = runnable(builder.built.image, builder.built.layers)
    classes = max(layer.output.shape[2] for layer in layers if layer.name in heads)
    tensors = {INPUT: builder.built.image} | {layer.name: layer.output for layer in layers}
    layers = tuple(
        with_logits(layer, tensors[layer.inputs[0]], classes) if is_raw(layer) else layer for layer in layers
    )
    exits = tuple(Exit(logits=head, threshold=None if head == heads[-1] else NEVER) for head in heads)
    network = Network(name=name, input=builder.built.image, layers=layers, exits=exits, classes=classes)
    known = {node.name: each.order for node, each in found.maps.items() if each is not None}
    orders = {tensor: known[node] for tensor, node in builder.nodes.items()}
    nodes = {node.name: node for node in program.graph.nodes}
    return QuantizedSource(
        program=program, images=taken, network=network, orders=orders, outputs=builder.outputs,
        nodes={tensor: _coded(nodes[node]) for tensor, node in builder.nodes.items()}, rounded=builder.rounded,
        codes_off={name: codes_off(off, tensors[name].scale) for name, off in builder.built.errors.items()},
    )  # fmt: skip


def _coded(node: fx.Node) -> str:
    """The node of a map's codes or values: where an image of integers is dequantized, that before it."""
    return node.all_input_nodes[0].name if node.target in DEQUANTIZE else node.name


def _program(source: nn.Module | ExportedProgram, shape: tuple[int, int, int] | None) -> ExportedProgram:
    if isinstance(source, ExportedProgram):
        return functional(source)
    if shape is None:
        raise ValueError("shape must be given of a module: height, width, channels of an image")
    with undisturbed(source):
        return program_of(source, shape)


def _zeros(program: ExportedProgram, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(shape, dtype=image_taken(program).dtype)


def _most(off: np.ndarray) -> float:
    """Steps by which rounding weights may change a logit at most, whatever the codes that they are multiplied by."""
    return float(off.sum(axis=(1, 2, 3)).max()) * _FARTHEST


def _check(found: QuantizedSource) -> None:
    """Refuse a network of which a layer differs from its program by more than a code, on equal inputs.

    A logit whose weights have been rounded may differ by as much more as that changes it on these inputs.
    """
    network = found.network
    images = _samples(network)
    expected = found.tensors(found.given(images))
    known = {INPUT: found.image_codes(images, expected)}
    for layer in network.layers:
        made = golden.compute(network, layer, [known[source] for source in layer.inputs])
        known[layer.name] = made
        if layer.name in expected:
            by = _apart(*found.pair(layer.name, made, expected[layer.name]))
            most = np.full_like(by, found.codes_off.get(layer.name, 1))
            if layer.name in found.rounded:
                zero = network.tensors()[layer.inputs[0]].zero_point
                most += _changed(found.rounded[layer.name], known[layer.inputs[0]], zero)
            if (by > most).any():
                first = (by - most).argmax()
                up_to = f"{most.flat[first]} code{'s' * bool(most.flat[first] > 1)}"
                raise ValueError(
                    f"{layer.name}: a layer must compute what the program does, up to {up_to}, but differs by "
                    f"{by.flat[first]}; please report the program"
                )
            if layer.name in found.nodes:
                known[layer.name] = expected[layer.name]


def _changed(off: np.ndarray, codes: np.ndarray, zero_point: int) -> np.ndarray:
    """Steps by which rounding weights may change the logits (images, outputs) of these codes.

    Weights that int8 can't hold read copies of the map, side by side: the first one is the map.
    """
    values = np.abs(codes[..., : off.shape[3]].astype(np.int64) - zero_point)
    return np.ceil(np.einsum("nhwc,ohwc->no", values, off)).astype(np.int64)


def _samples(network: Network) -> np.ndarray:
    """Images of all codes: two of noise, one that is faint, one that is smooth."""
    image, random = network.input, np.random.default_rng(_SEED)
    noise = random.integers(-128, 128, (2, *image.shape))
    faint = image.zero_point + random.integers(-8, 9, image.shape)
    smooth = np.linspace(-128, 127, int(np.prod(image.shape))).reshape(image.shape)
    return np.stack([*noise, faint, smooth]).clip(-128, 127).round().astype(np.int8)


def _apart(made: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(made.astype(np.int64) - expected.astype(np.int64))
