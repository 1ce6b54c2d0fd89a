"""What operators of an ONNX graph share on their way to modules: attributes, constants, integer codes, refusals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from hw.rules import shown
from models.frontends.onnx.file import OnnxNode

__all__ = ["Codes", "Coding", "RefusalError", "Site"]

_DTYPES = {np.dtype(np.int8): torch.int8, np.dtype(np.uint8): torch.uint8, np.dtype(np.int32): torch.int32}


class RefusalError(ValueError):
    """A node can't be followed; the message says why and what can."""


@dataclass(frozen=True, kw_only=True)
class Coding:
    """What the codes of a map stand for: ``(code - zero_point) * scale``, codes from ``low`` to ``high``."""

    scale: float
    zero_point: int
    dtype: torch.dtype
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Codes:
    """A constant in integers that stand for floats.

    Attributes
    ----------
    values : array of int8, uint8 or int32
    scale : array of float32
        A single number, or (size of the axis,).
    zero_point : array of int, as many
    axis : int
    """

    values: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0

    def transposed(self) -> "Codes":
        """Of a matrix, its transpose."""
        return replace(self, values=self.values.T, axis=1 - self.axis)

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> "Codes | None":
        """What becomes of them where all values move alike; None: they have other scales than along one axis then."""
        values = move(self.values)
        found = [
            move(np.array(np.broadcast_to(self._wide(each), self.values.shape)))
            for each in (self.scale, self.zero_point)
        ]
        if all(each.size and (each == each.flat[0]).all() for each in found):
            scale, zero_point = (each.reshape(-1)[0] for each in found)
            return Codes(values=values, scale=np.asarray(scale), zero_point=np.asarray(zero_point))
        for axis in range(values.ndim):
            lines = [np.moveaxis(each, axis, 0).reshape(values.shape[axis], -1) for each in found]
            if all((line == line[:, :1]).all() for line in lines):
                scales, zero_points = (line[:, 0] for line in lines)
                return Codes(values=values, scale=scales, zero_point=zero_points, axis=axis)
        return None

    def _wide(self, values: np.ndarray) -> np.ndarray:
        """Scales or zero points, to be broadcast over the values."""
        return values.reshape([-1 if n == self.axis else 1 for n in range(self.values.ndim)]) if values.ndim else values

    def floats(self) -> np.ndarray:
        """What they stand for, as float32."""
        centred = self.values.astype(np.float32) - self._wide(self.zero_point.astype(np.float32))
        return np.asarray(centred * self._wide(self.scale), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A node with what is known of its inputs before any image is.

    Attributes
    ----------
    batch : int or None
        Images that the file's sizes are for; None where it leaves that open.
    constants : dict of str to array
    codes : dict of str to Codes
        Constants that a DequantizeLinear makes floats of.
    maps : dict of str to Coding
        Maps of integer codes.
    """

    node: OnnxNode
    opset: int
    batch: int | None
    constants: Mapping[str, np.ndarray]
    codes: Mapping[str, Codes] = field(default_factory=dict)
    maps: Mapping[str, Coding] = field(default_factory=dict)

    def refuse(self, rule: str) -> RefusalError:
        """The error for a rule that the node breaks: ``group must be 1 or more, not 0``."""
        return RefusalError(f"{self.node}: {rule}")

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value, of the type that its default has."""
        value = self.node.attributes.get(name, default)
        if default is not None and not isinstance(value, type(default)):
            raise self.refuse(f"{name} must be {type(default).__name__}, not {shown(value)}")
        return value

    def fixed(self, **only: Any) -> None:
        """Refuse attributes that have another value than the one that can be followed."""
        for name, value in only.items():
            if (found := self.attribute(name, value)) != value:
                raise self.refuse(f"{name} must be {value!r}, not {shown(found)}")

    def sizes(self, name: str, count: int | None = None, least: int = 0) -> tuple[int, ...] | None:
        """An attribute of integers, None where it's left out."""
        value = self.node.attributes.get(name)
        if value is None:
            return None
        right = isinstance(value, tuple) and all(isinstance(size, int) for size in value)
        if not right or (count is not None and len(value) != count) or any(not least <= n < 1 << 31 for n in value):
            what = "integers" if count is None else f"{count} integers"
            raise self.refuse(f"{name} must be {what} of {least} or more, not {shown(value)}")
        return tuple(value)

    def name(self, number: int) -> str:
        """The tensor of an input, empty where it's left out."""
        return self.node.inputs[number] if number < len(self.node.inputs) else ""

    def is_constant(self, number: int) -> bool:
        return self.name(number) in self.constants or self.name(number) in self.codes

    def constant(self, number: int, what: str) -> np.ndarray | None:
        """An input's numbers, None where it's left out."""
        name = self.name(number)
        if not name:
            return None
        if name in self.codes:
            return self.codes[name].floats()
        if name not in self.constants:
            raise self.refuse(f"{what} must be constant, not computed")
        return self.constants[name]

    def floats(self, number: int, what: str) -> np.ndarray | None:
        """The same, as float32 that are numbers."""
        found = self.constant(number, what)
        if found is None:
            return None
        if found.dtype != np.float32 or not np.isfinite(found).all():
            raise self.refuse(f"{what} must be finite floats, not {found.dtype} with NaN or infinity")
        return found

    def weights(self, number: int, what: str) -> np.ndarray | Codes | None:
        """An input's floats, or the codes that stand for them."""
        return self.codes.get(self.name(number)) or self.floats(number, what)

    def integers(self, number: int, what: str) -> list[int] | None:
        """An input's integers, in one dimension or none."""
        found = self.constant(number, what)
        if found is None:
            return None
        if found.dtype.kind not in "iu" or found.ndim > 1:
            raise self.refuse(f"{what} must be integers in one dimension, not {found.dtype} of {list(found.shape)}")
        return [int(value) for value in found.reshape(-1)]

    def axes(self, number: int) -> list[int] | None:
        """Axes, which older operators have as an attribute and newer ones as an input; None where there are none."""
        found = self.sizes("axes", least=-(1 << 31))
        return self.integers(number, "axes") if found is None else list(found)

    def quantization(self, number: int, default: type = np.uint8) -> Coding:
        """Scale and zero point, which stand in this input and the next; 0 of a type where that is left out."""
        scale, zero = self.floats(number, "the scale"), self.constant(number + 1, "the zero point")
        if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
            raise self.refuse("activations must have one scale and one zero point, not one per channel")
        zero = np.zeros(1, default) if zero is None else zero
        if zero.dtype not in (np.int8, np.uint8):
            raise self.refuse(f"activations must be INT8 or UINT8, not {zero.dtype}")
        if not scale.item() > 0:
            raise self.refuse(f"the scale must be above 0, not {scale.item()}")
        bounds = np.iinfo(zero.dtype)
        return Coding(
            scale=float(scale.item()), zero_point=int(zero.item()), dtype=_DTYPES[zero.dtype],
            low=int(bounds.min), high=int(bounds.max),
        )  # fmt: skip

    def dequantized(self, number: int, axis: int = 1) -> Codes:
        """The constant integers of this input, whose scale and zero point are the next two."""
        values, scale = self.constant(number, "codes"), self.floats(number + 1, "the scale")
        zero = self.constant(number + 2, "the zero point")
        if values is None or scale is None or values.dtype not in _DTYPES:
            raise self.refuse(
                f"constant codes must be INT8, UINT8 or INT32, not {values if values is None else values.dtype}"
            )
        scale = scale.reshape(()) if scale.size == 1 else scale
        axis = axis + values.ndim if axis < 0 else axis
        if scale.ndim and (not 0 <= axis < values.ndim or scale.shape != values.shape[axis : axis + 1]):
            raise self.refuse(f"scales must be one, or one for each along axis {axis}, not {list(scale.shape)}")
        if not (scale > 0).all():
            raise self.refuse("scales must be above 0")
        zero = np.zeros(scale.shape, values.dtype) if zero is None else zero
        if zero.dtype != values.dtype or zero.size not in (1, scale.size):
            raise self.refuse(f"zero points must be {values.dtype}, one or as many as scales, not {zero.dtype}")
        zero = np.broadcast_to(zero.reshape(-1) if scale.ndim else zero.reshape(()), scale.shape)
        return Codes(values=values, scale=scale, zero_point=zero, axis=max(axis, 0))

    def inner(self, operator: str, inputs: tuple[str, ...], codes: Mapping[str, Codes], **attributes: Any) -> "Site":
        """The float operator within a quantized one, which has its name; attributes are those given alone."""
        node = replace(self.node, operator=operator, inputs=inputs, attributes=attributes)
        return replace(self, node=node, codes={**self.codes, **codes})
