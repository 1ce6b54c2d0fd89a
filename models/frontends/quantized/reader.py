"""Reads a program with quantize and dequantize operators into an integer network, and says how far the two differ.

Such programs come from PyTorch's PT2E quantization, and from ONNX files whose operators have been made those of
PyTorch. Between a dequantize and the next quantize they compute in float, divide, and round half to even; the
accelerator adds integers up, multiplies by an integer multiplier, and rounds half up. So codes can differ by one where
a value lies next to the middle between two codes. A bias in float is rounded to a step of its layer's accumulator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from hw.network.layers import is_raw
from hw.network.network import INPUT, NEVER, Exit, Network, Tensor
from models.frontends.identities import runnable, with_logits
from models.frontends.pytorch.calls import undisturbed
from models.frontends.pytorch.exported import (
    exported_program,
    functional,
    image_taken,
    images_taken,
    program_of,
    recorded,
)
from models.frontends.pytorch.lowering import LAST, AxisOrder
from models.frontends.quantized.layers import LayerBuilder
from models.frontends.quantized.lowering import Quantization
from models.frontends.quantized.operators import quantized_steps
from models.integer import golden
from models.integer.exact import exact

__all__ = ["QuantizedImport", "compared", "import_quantized", "read_quantized"]

_SEED = 19  # of the images on which layers are compared
_FARTHEST = 255  # code from its zero point


@dataclass(frozen=True, kw_only=True)
class QuantizedImport:
    """A network that was read from a program, and what a user must know of that: sentences."""

    network: Network
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A program and where it computes what a network's tensors are.

    Attributes
    ----------
    program : ExportedProgram
    images : tuple of int
        Shape of what the program takes.
    network : Network
    nodes : dict of str to str
        The node whose codes a tensor has.
    orders : dict of str to tuple of 3 int
        The order of a tensor's axes (channels, rows, columns) in which its node has its values.
    outputs : dict of str to (str, Quantization or None)
        The node that a raw layer stands for.
    rounded : dict of str to array
        Steps by which each weight (outputs, height, width, inputs) of a raw layer has been rounded to one scale.
    """

    program: ExportedProgram
    images: tuple[int, ...]
    network: Network
    nodes: Mapping[str, str]
    orders: Mapping[str, AxisOrder]
    outputs: Mapping[str, tuple[str, Quantization | None]]
    rounded: Mapping[str, np.ndarray]

    def tensors(self, images: torch.Tensor) -> dict[str, np.ndarray]:
        """What the program makes of images: codes (N, height, width, channels), of a raw layer what it returns."""
        parts = []
        for start in range(0, len(images), self.images[0]):
            part = images[start : start + self.images[0]]
            filled = torch.cat([part, part[-1:].expand(self.images[0] - len(part), *part.shape[1:])])
            with torch.inference_mode(False), exact():
                values = {node.name: (node, each) for node, each in recorded(self.program, filled).items()}
            parts.append({name: each[: len(part)] for name, each in self._codes(values).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _codes(self, values: Mapping[str, tuple[Any, Any]]) -> dict[str, np.ndarray]:
        found = {}
        for name, place in [*self.nodes.items(), *((name, node) for name, (node, _) in self.outputs.items())]:
            node, value = values[place]
            if name in self.nodes and value.is_floating_point():  # dequantized: the image itself is of integers
                _, value = values[node.args[0].name]
            if value.dtype == torch.uint8:
                value = (value.to(torch.int16) - 128).to(torch.int8)
            if name in self.nodes:
                height, width, channels = self.network.tensors()[name].shape
                order = self.orders[name]
                value = value.reshape(-1, *((channels, height, width)[axis] for axis in order))
                value = value.permute(0, *(1 + order.index(axis) for axis in LAST))
            found[name] = value.reshape(len(value), -1).numpy() if name in self.outputs else value.contiguous().numpy()
        return found


def read_quantized(
    source: nn.Module | ExportedProgram, shape: tuple[int, int, int] | None = None, *, name: str = "network"
) -> Network:
    """The integer network of a quantized program.

    Supported: activations of int8 or uint8 with one scale, weights of int8 or uint8 with one scale in all or one for
    each output channel, biases of integers or in float; convolutions of one or two dimensions, in groups, dilated;
    linear layers; ReLU and clamps; sums and concatenations of channels; pools; views that flatten; what keeps the
    order of logits at the end, which is left out. Several outputs are exits that are never taken early;
    where one has fewer values than another, those it lacks are the least it can give.

    Every layer has been compared with the program on random images: on the program's own input codes it differs by one
    code at most. Logits that aren't quantized and whose weights have a scale for each output are sums of weights in
    steps of one scale: they differ by what that changes.

    Parameters
    ----------
    source : Module or ExportedProgram
        Of one image tensor (images, channels, height, width), (images, channels, columns) or (images, values), in
        float or of integers, with operators of ``torch.ops.quantized_decomposed``.
    shape : tuple of 3 int or None
        Height, width, channels of an image; of a module only.
    name : str
        Of the network.

    Raises
    ------
    ValueError
        When something can't be followed: the message names the operators. When a layer differs by more than one code:
        it names the layer.
    """
    return import_quantized(source, shape, name=name).network


def import_quantized(
    source: nn.Module | ExportedProgram, shape: tuple[int, int, int] | None = None, *, name: str = "network"
) -> QuantizedImport:
    """As :func:`read_quantized`, with what else there is to know."""
    found = _read(source, shape, name)
    _check(found)
    notes = tuple(
        f"{layer}: its weights have a scale for each output, its logits one in all: rounded to a quarter of the "
        f"coarsest, they may change a logit by {_most(off) * found.network.layer(layer).output.scale:.3g} at most"
        for layer, off in found.rounded.items()
    )
    return QuantizedImport(network=found.network, notes=notes)


def compared(
    source: nn.Module | ExportedProgram, network: Network, images: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What the layers of a network and its program make of images, each computing by itself from the same image codes.

    Parameters
    ----------
    source : Module or ExportedProgram
        What the network has been read from.
    network : Network
    images : array, (N, height, width, channels)
        Of int8: codes as the network takes them; else values as the program takes them.

    Returns
    -------
    dict of str to (array, array)
        By the layer's name, of network and program: codes, of a head the logits in steps of one scale. Layers that only
        rearrange others' codes are left out.

    Raises
    ------
    ValueError
        When the network isn't this program's.
    """
    found = _read(source, network.input.shape, network.name)
    if found.network.to_dict() != network.to_dict():
        raise ValueError(f"{network.name}: the network must be what this program has been read into")
    if images.ndim != 4 or images.shape[1:] != network.input.shape or not len(images):
        raise ValueError(f"images must be of shape (N, {', '.join(map(str, network.input.shape))}), not {images.shape}")
    expected = found.tensors(_of_codes(found, images) if images.dtype == np.int8 else _as_taken(images, found.images))
    made = golden.run(network, expected[INPUT]).tensors
    return {name: _pair(found, name, made[name], expected[name]) for name in expected if name != INPUT}


def _read(source: nn.Module | ExportedProgram, shape: tuple[int, int, int] | None, name: str) -> _Source:
    program = _program(source, shape)
    taken, image = images_taken(program)
    if shape is not None and shape != image:
        raise ValueError(f"shape must be that of the program's images {image}, not {shape}")
    with torch.inference_mode(False), exact():
        found = quantized_steps(exported_program(program, image, _zeros(program, taken)))
    builder = LayerBuilder(found)
    heads = [builder.head(output) for output in found.exits]
    if found.problems:
        builder.prepare(found.steps)  # what stands before an operator that was refused, too
        raise ValueError("; ".join(found.problems))
    if not heads:
        raise ValueError("a network must return at least 1 tensor, not 0")
    assert builder.image is not None
    layers = runnable(builder.image, builder.layers)
    classes = max(layer.output.shape[2] for layer in layers if layer.name in heads)
    tensors = {INPUT: builder.image} | {layer.name: layer.output for layer in layers}
    layers = tuple(
        with_logits(layer, tensors[layer.inputs[0]], classes) if is_raw(layer) else layer for layer in layers
    )
    exits = tuple(Exit(logits=head, threshold=None if head == heads[-1] else NEVER) for head in heads)
    network = Network(name=name, input=builder.image, layers=layers, exits=exits, classes=classes)
    known = {node.name: each.order for node, each in found.maps.items() if each is not None}
    orders = {tensor: known[node] for tensor, node in builder.nodes.items()}
    return _Source(
        program=program, images=taken, network=network, nodes=builder.nodes, orders=orders, outputs=builder.outputs,
        rounded=builder.rounded,
    )  # fmt: skip


def _program(source: nn.Module | ExportedProgram, shape: tuple[int, int, int] | None) -> ExportedProgram:
    if isinstance(source, ExportedProgram):
        return functional(source)
    if shape is None:
        raise ValueError("shape must be given of a module: height, width, channels of an image")
    with undisturbed(source):
        return program_of(source, shape)


def _zeros(program: ExportedProgram, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(shape, dtype=image_taken(program).dtype)


def _as_taken(images: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    """Images (N, height, width, channels) in a program's layout."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).reshape(-1, *shape[1:])


def _most(off: np.ndarray) -> float:
    """Steps by which rounding weights may change a logit at most, whatever the codes that they are multiplied by."""
    return float(off.sum(axis=(1, 2, 3)).max()) * _FARTHEST


def _check(found: _Source) -> None:
    """Refuse a network of which a layer differs from its program by more than a code, on equal inputs.

    A logit whose weights have been rounded may differ by as much more as that changes it on these inputs.
    """
    network = found.network
    expected = found.tensors(_samples(found))
    known = {INPUT: expected[INPUT]}
    for layer in network.layers:
        made = golden.compute(network, layer, [known[source] for source in layer.inputs])
        known[layer.name] = made
        if layer.name in expected:
            by = _apart(*_pair(found, layer.name, made, expected[layer.name]))
            most = np.ones_like(by)
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


def _samples(found: _Source) -> torch.Tensor:
    """Images of all codes: two of noise, one that is faint, one that is smooth."""
    image, random = found.network.input, np.random.default_rng(_SEED)
    noise = random.integers(-128, 128, (2, *image.shape))
    faint = image.zero_point + random.integers(-8, 9, image.shape)
    smooth = np.linspace(-128, 127, int(np.prod(image.shape))).reshape(image.shape)
    codes = np.stack([*noise, faint, smooth]).clip(-128, 127).round()
    return _of_codes(found, codes)


def _of_codes(found: _Source, codes: np.ndarray) -> torch.Tensor:
    """What a program makes codes of its network's input of."""
    image, like = found.network.input, image_taken(found.program)
    values = codes.astype(np.float64)
    if like.is_floating_point():
        values = (values - image.zero_point) * image.scale
    elif like.dtype == torch.uint8:
        values = values + 128
    return _as_taken(values, found.images).to(like.dtype)


def _pair(found: _Source, name: str, made: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a layer and the program compute, on one scale."""
    if name in found.outputs:
        return _comparable(found.network.layer(name).output, found.outputs[name][1], made, expected)
    return made, expected


def _apart(made: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(made.astype(np.int64) - expected.astype(np.int64))


def _comparable(
    tensor: Tensor, quantization: Quantization | None, logits: np.ndarray, outputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Raw logits and a program's outputs on one scale: that of the outputs, or of the logits if they have none."""
    logits = logits.reshape(len(logits), -1)[:, : outputs.shape[1]]
    if quantization is None:
        return logits, np.rint(outputs.astype(np.float64) / tensor.scale)
    codes = np.rint(logits * (tensor.scale / quantization.scale)) + quantization.zero_point
    return codes.clip(quantization.low, quantization.high), outputs
