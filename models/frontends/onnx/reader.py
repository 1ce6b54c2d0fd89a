"""Reads an ONNX file into a module of PyTorch's: float networks, and quantized ones in all of ONNX's forms.

Supported are opsets 7 to the newest of the package ``onnx``, the operators of
:data:`models.frontends.onnx.operators.OPERATORS` and :data:`models.frontends.onnx.quantized.QUANTIZED`,
QuantizeLinear and DequantizeLinear with a Clip of codes between them, and whatever computes constants and sizes alone.
Softmax, LogSoftmax, Sigmoid, Tanh and ArgMax over all values at the end are left out, and the module's notes say so.
"""

from dataclasses import replace
from pathlib import Path

from hw.rules import integers
from models.frontends.onnx.builder import build
from models.frontends.onnx.check import compare, refusals
from models.frontends.onnx.file import OnnxInput, parse
from models.frontends.onnx.layout import is_channels_last
from models.frontends.onnx.module import OnnxModule
from models.frontends.onnx.stand_in import OnnxRefusalError
from models.frontends.onnx.tail import without_tail

__all__ = ["read"]


def read(path: Path | str, shape: tuple[int, int, int] | None = None) -> OnnxModule:
    """The module of an ONNX file, in evaluation mode.

    What it computes has been compared with ONNX's reference implementation, tensor by tensor, on random images.

    Parameters
    ----------
    path : Path or str
        Weights in files of their own must lie in its folder.
    shape : tuple of 3 int or None
        Height, width, channels of an image, where the file leaves sizes open.

    Raises
    ------
    ValueError
        When the file can't be read, is damaged or too large, or computes what the module doesn't.
    OnnxRefusalError
        When it holds what isn't supported: one message names all of it.
    ModuleNotFoundError
        When the package ``onnx`` isn't installed.
    """
    graph, notes, tails = without_tail(parse(path))
    try:
        graph = replace(graph, input=replace(graph.input, is_channels_last=is_channels_last(graph)))
        source, found = _sized(graph.input, shape)
        graph = replace(graph, input=source)
        module = build(graph, found, notes).eval()
        reasons = refusals(module, graph)
        if not reasons:
            shapes = compare(module, graph)
            for tail in tails:
                tail.check(shapes[tail.logits])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if reasons:
        raise OnnxRefusalError(path, reasons, module)
    return module


def _sized(source: OnnxInput, shape: tuple[int, int, int] | None) -> tuple[OnnxInput, tuple[int, int, int]]:
    """The input with all sizes but the number of images, and height, width, channels of an image."""
    count = len(source.sizes)
    if shape is not None and not (integers(shape, 3) and min(shape) >= 1):
        raise ValueError(f"shape must be a tuple of 3 positive integers (height, width, channels), not {shape!r}")
    axes: dict[int, tuple[int, int | None, int | None]] = {4: (1, 2, 3), 3: (1, None, 2), 2: (1, None, None)}
    if source.is_channels_last:
        axes = {4: (3, 1, 2), 3: (2, None, 1)}
    channels, height, width = axes[count]
    said = [1 if axis is None else source.sizes[axis] for axis in (height, width, channels)]
    if shape is None and None in said:
        raise ValueError(f"input {source.name!r} leaves sizes open: height, width, channels of an image must be given")
    whole = tuple(given if size is None else size for size, given in zip(said, shape or said, strict=True))
    if shape is not None and whole != shape:
        raise ValueError(f"images must be of shape {whole} (height, width, channels), not {shape}")
    sizes = list(source.sizes)
    for axis, size in zip((height, width, channels), whole, strict=True):
        if axis is not None:
            sizes[axis] = size
    return replace(source, sizes=tuple(sizes)), (whole[0] or 0, whole[1] or 0, whole[2] or 0)
