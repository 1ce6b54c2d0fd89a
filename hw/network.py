"""The integer network: what the importers and the quantizer produce, what the compiler and the golden model read.

A network is a list of layers in execution order. Tensors are named by the layer that writes them; ``INPUT`` is the image.
All maps are (height, width, channels), all weights (output channels, kernel height, kernel width, input channels), as in
TensorFlow Lite. Semantics of the integers: :mod:`hw.numerics`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from hw.numerics import Rounding

__all__ = [
    "INPUT",
    "Add",
    "Conv2D",
    "Exit",
    "GlobalAveragePool",
    "Layer",
    "Linear",
    "Network",
    "Tensor",
]

#: Name of the image tensor.
INPUT = "input"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Shape and quantization of one map of int8 codes, or of raw logits.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels.
    scale : float
        Real value of one step; positive and finite.
    zero_point : int
        Code of the real zero, -128..127; 0 for raw logits.
    """

    shape: tuple[int, int, int]
    scale: float
    zero_point: int

    def check(self, name: str) -> None:
        """Refuse impossible values, naming the tensor."""
        _require(
            len(self.shape) == 3 and all(isinstance(n, int) and n > 0 for n in self.shape),
            f"{name}: shape must be three positive integers (height, width, channels), not {self.shape!r}",
        )
        _require(
            bool(np.isfinite(self.scale)) and self.scale > 0,
            f"{name}: scale must be positive and finite, not {self.scale!r}",
        )
        _require(-128 <= self.zero_point <= 127, f"{name}: zero point must be in -128..127, not {self.zero_point}")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: its name is the name of the tensor it writes.

    Parameters
    ----------
    inputs : tuple of str
        Names of the tensors it reads.
    output : Tensor
        What it writes.
    clamp : tuple of 2 int
        Lowest and highest int8 code of the output: the fused activation function.
    """

    kind: ClassVar[str]
    arity: ClassVar[int] = 1

    name: str
    inputs: tuple[str, ...]
    output: Tensor
    clamp: tuple[int, int] = (-128, 127)

    def check(self, sources: tuple[Tensor, ...]) -> None:
        """Refuse values that contradict each other or the tensors read."""
        _require(
            len(sources) == self.arity, f"{self.name}: {self.kind} reads {self.arity} tensors, not {len(sources)}"
        )
        self.output.check(self.name)
        low, high = self.clamp
        _require(-128 <= low <= high <= 127, f"{self.name}: clamp must be ordered and in -128..127, not {self.clamp}")
        _require(
            low <= self.output.zero_point <= high,
            f"{self.name}: clamp {self.clamp} must contain the zero point {self.output.zero_point}",
        )


@dataclass(frozen=True, kw_only=True)
class _Weighted(Layer):
    """Fields that convolution and linear layers share.

    Parameters
    ----------
    weight : int8 array, (output channels, kernel height, kernel width, input channels)
    bias : int32 array, (output channels,)
    multiplier, shift : int32 arrays, (output channels,)
        Requantization, see :func:`hw.numerics.requantize`.
    rounding : Rounding
    """

    weight: np.ndarray = field(repr=False)
    bias: np.ndarray = field(repr=False)
    multiplier: np.ndarray = field(repr=False)
    shift: np.ndarray = field(repr=False)
    rounding: Rounding

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        _require(
            isinstance(self.weight, np.ndarray) and self.weight.dtype == np.int8 and self.weight.ndim == 4,
            f"{self.name}: weight must be a 4-dimensional int8 array, "
            f"not {getattr(self.weight, 'dtype', type(self.weight))} of shape {np.shape(self.weight)}",
        )
        channels = self.weight.shape[0]
        for name in ("bias", "multiplier", "shift"):
            array = getattr(self, name)
            _require(
                isinstance(array, np.ndarray) and array.dtype == np.int32 and array.shape == (channels,),
                f"{self.name}: {name} must be an int32 array of {channels} values, "
                f"not {getattr(array, 'dtype', type(array))} of shape {np.shape(array)}",
            )
        ranges = {"multiplier": (0, (1 << 31) - 1), "shift": (0, 31)}
        for name, (low, high) in ranges.items():
            array = getattr(self, name)
            _require(
                bool(((array >= low) & (array <= high)).all()), f"{self.name}: {name} must be in {low}..{high}"
            )
        _require(
            channels == self.output.shape[2],
            f"{self.name}: weight has {channels} output channels, the output {self.output.shape[2]}",
        )


@dataclass(frozen=True, kw_only=True)
class Conv2D(_Weighted):
    """2-D convolution.

    Parameters
    ----------
    stride : tuple of 2 int
        Vertical, horizontal.
    pads : tuple of 4 int
        Rows above and below, columns left and right; padded positions hold the zero point.
    """

    kind: ClassVar[str] = "conv2d"

    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        height, width, channels = sources[0].shape
        _, kernel_height, kernel_width, depth = self.weight.shape
        _require(depth == channels, f"{self.name}: weight has {depth} input channels, {self.inputs[0]} {channels}")
        _require(min(self.stride) >= 1, f"{self.name}: strides must be positive, not {self.stride}")
        top, bottom, left, right = self.pads
        _require(
            0 <= min(self.pads) and max(top, bottom) < kernel_height and max(left, right) < kernel_width,
            f"{self.name}: pads must be at least 0 and less than the kernel "
            f"{kernel_height}x{kernel_width}, not {self.pads}",
        )
        shape = (
            (height + top + bottom - kernel_height) // self.stride[0] + 1,
            (width + left + right - kernel_width) // self.stride[1] + 1,
            self.weight.shape[0],
        )
        _require(shape == self.output.shape, f"{self.name}: output must be {shape}, not {self.output.shape}")


@dataclass(frozen=True, kw_only=True)
class Linear(_Weighted):
    """Fully connected layer over the whole input map; its kernel is as large as the map.

    Parameters
    ----------
    raw : bool
        Deliver the int32 accumulators themselves (logits of a head): no requantization, no clamp. All output channels
        then share one weight scale, so that logits compare.
    """

    kind: ClassVar[str] = "linear"

    raw: bool = False

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        _require(
            self.weight.shape[1:] == sources[0].shape,
            f"{self.name}: weight must cover {self.inputs[0]} {sources[0].shape}, not {self.weight.shape[1:]}",
        )
        _require(
            self.output.shape[:2] == (1, 1), f"{self.name}: output must be 1x1 in space, not {self.output.shape[:2]}"
        )


@dataclass(frozen=True, kw_only=True)
class Add(Layer):
    """Residual add of two maps of equal shape (TFLite ``ADD``)."""

    kind: ClassVar[str] = "add"
    arity: ClassVar[int] = 2

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        shapes = [source.shape for source in sources]
        _require(
            shapes[0] == shapes[1] == self.output.shape,
            f"{self.name}: operands and output must have equal shapes, not {shapes} and {self.output.shape}",
        )


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePool(Layer):
    """Mean over all positions (TFLite ``AVERAGE_POOL_2D`` over the whole map, or ``MEAN`` with equal quantization)."""

    kind: ClassVar[str] = "global_average_pool"

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        source = sources[0]
        _require(
            self.output.shape == (1, 1, source.shape[2]),
            f"{self.name}: output must be {(1, 1, source.shape[2])}, not {self.output.shape}",
        )
        _require(
            (source.scale, source.zero_point) == (self.output.scale, self.output.zero_point),
            f"{self.name}: average pool must keep scale and zero point",
        )


@dataclass(frozen=True, kw_only=True)
class Exit:
    """A classifier head at which inference may end.

    Parameters
    ----------
    logits : str
        Name of a raw linear layer.
    threshold : int or None
        Leave when the margin of the two largest logits is at least this; None at the last exit, which is always taken.
    """

    logits: str
    threshold: int | None = None


_KINDS: dict[str, type[Layer]] = {kind.kind: kind for kind in (Conv2D, Linear, Add, GlobalAveragePool)}


@dataclass(frozen=True, kw_only=True)
class Network:
    """An integer network with its exits.

    Parameters
    ----------
    name : str
    input : Tensor
        The image.
    layers : tuple of Layer
        In execution order; a layer reads the input or earlier layers.
    exits : tuple of Exit
        In order of their heads; the last one has no threshold and reads the last layer.
    classes : int

    Raises
    ------
    ValueError
        When anything contradicts anything else; the message names the layer, the rule and the value.
    """

    name: str
    input: Tensor
    layers: tuple[Layer, ...]
    exits: tuple[Exit, ...]
    classes: int

    def __post_init__(self) -> None:
        self.input.check(INPUT)
        tensors = {INPUT: self.input}
        for layer in self.layers:
            _require(layer.name not in tensors, f"{layer.name}: names must be unique")
            for source in layer.inputs:
                _require(source in tensors, f"{layer.name}: reads {source!r}, which no earlier layer writes")
                _require(not _is_raw(self._find(source)), f"{layer.name}: reads the raw logits {source!r}")
            layer.check(tuple(tensors[source] for source in layer.inputs))
            tensors[layer.name] = layer.output
        _require(bool(self.exits), f"{self.name}: a network needs an exit")
        position = -1
        for number, head in enumerate(self.exits):
            layer_ = self._find(head.logits)
            _require(_is_raw(layer_), f"exit {number}: {head.logits!r} must be a raw linear layer")
            assert layer_ is not None
            _require(
                layer_.output.shape[2] == self.classes,
                f"exit {number}: {head.logits} has {layer_.output.shape[2]} outputs, the network {self.classes} classes",
            )
            index = self.layers.index(layer_)
            _require(index > position, f"exit {number}: exits must be in execution order")
            position = index
            last = number == len(self.exits) - 1
            _require(
                (head.threshold is None) == last,
                f"exit {number}: only the last exit, and always that, goes without a threshold",
            )
            _require(
                head.threshold is None or 0 <= head.threshold < 1 << 32,
                f"exit {number}: threshold must be in 0..{(1 << 32) - 1}, not {head.threshold}",
            )
        _require(position == len(self.layers) - 1, f"{self.name}: the last exit must read the last layer")

    def _find(self, name: str) -> Layer | None:
        return next((layer for layer in self.layers if layer.name == name), None)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, the image first."""
        return {INPUT: self.input} | {layer.name: layer.output for layer in self.layers}

    def layer(self, name: str) -> Layer:
        """The layer of that name."""
        found = self._find(name)
        _require(found is not None, f"{self.name} has no layer {name!r}")
        assert found is not None
        return found

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every array as ``layer/field``, for files."""
        for layer in self.layers:
            for entry in fields(layer):
                value = getattr(layer, entry.name)
                if isinstance(value, np.ndarray):
                    yield f"{layer.name}/{entry.name}", value

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON can hold it."""
        return {
            "name": self.name,
            "classes": self.classes,
            "input": _tensor_to_dict(self.input),
            "exits": [{"logits": head.logits, "threshold": head.threshold} for head in self.exits],
            "layers": [_layer_to_dict(layer) for layer in self.layers],
        }

    @classmethod
    def from_dict(cls, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> "Network":
        """The inverse of :meth:`to_dict` and :meth:`arrays`.

        Raises
        ------
        ValueError
            When a key is missing or unknown, or a value impossible.
        """
        try:
            return cls(
                name=manifest["name"],
                classes=manifest["classes"],
                input=_tensor_from_dict(manifest["input"]),
                exits=tuple(Exit(**head) for head in manifest["exits"]),
                layers=tuple(layer_from_dict(layer, arrays) for layer in manifest["layers"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"network description is incomplete or has unknown keys: {error}") from error


def _is_raw(layer: Layer | None) -> bool:
    return isinstance(layer, Linear) and layer.raw


def _tensor_to_dict(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "scale": tensor.scale, "zero_point": tensor.zero_point}


def _tensor_from_dict(manifest: dict[str, Any]) -> Tensor:
    return Tensor(**{**manifest, "shape": tuple(manifest["shape"])})


def _layer_to_dict(layer: Layer) -> dict[str, Any]:
    manifest: dict[str, Any] = {"kind": layer.kind}
    for entry in fields(layer):
        value = getattr(layer, entry.name)
        if isinstance(value, Tensor):
            value = _tensor_to_dict(value)
        elif isinstance(value, tuple):
            value = list(value)
        if not isinstance(value, np.ndarray):
            manifest[entry.name] = value
    return manifest


def layer_from_dict(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> Layer:
    """One layer from its description and the arrays ``layer/field``.

    Raises
    ------
    ValueError
        When its kind isn't supported; the message names the layer and the kinds that are.
    """
    values = dict(manifest)
    kind = values.pop("kind")
    if kind not in _KINDS:
        raise ValueError(f"{values.get('name')}: layer kind must be one of {', '.join(_KINDS)}, not {kind!r}")
    values["output"] = _tensor_from_dict(values["output"])
    for entry in fields(_KINDS[kind]):
        if entry.name in ("inputs", "clamp", "stride", "pads"):
            values[entry.name] = tuple(values[entry.name])
        elif entry.name == "rounding":
            values[entry.name] = Rounding(values[entry.name])
        elif f"{values['name']}/{entry.name}" in arrays:
            values[entry.name] = arrays[f"{values['name']}/{entry.name}"]
    return _KINDS[kind](**values)
