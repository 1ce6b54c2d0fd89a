"""Tensors, and what all layers of an integer network have in common."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hw.rules import integer, integers, require, shown

__all__ = ["Layer", "Tensor", "check_pads", "check_strides"]

#: Largest stride: maps are no wider or higher.
_STRIDE = (1 << 16) - 1


def check_strides(name: str, stride: Any) -> None:
    """Refuse strides of a layer that are no strides."""
    require(integers(stride, 2) and min(stride) >= 1, f"{name}: strides must be two positive integers, not {stride}")
    require(max(stride) <= _STRIDE, f"{name}: strides must be at most {_STRIDE}, not {shown(max(stride))}")


def check_pads(name: str, pads: Any) -> None:
    """Refuse pads of a layer that are no pads."""
    require(integers(pads, 4) and min(pads) >= 0, f"{name}: pads must be four integers of at least 0, not {pads}")


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
        require(
            integers(self.shape, 3) and min(self.shape) > 0,
            f"{name}: shape must be three positive integers (height, width, channels), not {self.shape!r}",
        )
        require(
            isinstance(self.scale, float) and 0 < self.scale < np.inf,
            f"{name}: scale must be positive and finite, not {self.scale!r}",
        )
        require(
            integer(self.zero_point) and -128 <= self.zero_point <= 127,
            f"{name}: zero point must be an integer in -128..127, not {self.zero_point!r}",
        )


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
        require(len(sources) == self.arity, f"{self.name}: {self.kind} reads {self.arity} tensors, not {len(sources)}")
        self.output.check(self.name)
        require(
            integers(self.clamp, 2) and -128 <= self.clamp[0] <= self.clamp[1] <= 127,
            f"{self.name}: clamp must be two ordered integers in -128..127, not {self.clamp}",
        )
        low, high = self.clamp
        require(
            low <= self.output.zero_point <= high,
            f"{self.name}: clamp {self.clamp} must contain the zero point {self.output.zero_point}",
        )
