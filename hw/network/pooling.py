"""Layers of an integer network that pool: means and largest codes."""

from dataclasses import dataclass
from typing import Any, ClassVar

from hw.network.base_layer import Layer, Tensor, check_pads, check_strides
from hw.rules import integers, require

__all__ = ["AveragePool2D", "GlobalAveragePool", "MaxPool2D"]


def _check_window(name: str, window: Any) -> None:
    """Refuse a window of a pool that is no window."""
    require(
        integers(window, 2) and min(window) >= 1 and window != (1, 1),
        f"{name}: window must be two positive integers, 2 positions or more, not {window}",
    )


@dataclass(frozen=True, kw_only=True)
class _Pool(Layer):
    """What all pools share: codes keep their meaning.

    An average is that of the codes, half away from zero (TFLite ``AVERAGE_POOL_2D``). Not that of TFLite's ``MEAN``:
    its reference kernel rounds otherwise, with results that differ by one (LiteRT 2.3.0).
    """

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        source = sources[0]
        require(
            (source.scale, source.zero_point) == (self.output.scale, self.output.zero_point),
            f"{self.name}: a pool must keep scale and zero point",
        )


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePool(_Pool):
    """Mean of the codes over all positions, half away from zero."""

    kind: ClassVar[str] = "global_average_pool"

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        shape = (1, 1, sources[0].shape[2])
        require(self.output.shape == shape, f"{self.name}: output must be {shape}, not {self.output.shape}")


@dataclass(frozen=True, kw_only=True)
class AveragePool2D(_Pool):
    """Mean of the codes over a window that moves within the map, half away from zero; no padding.

    Parameters
    ----------
    window : tuple of 2 int
        Height, width; smaller than the map, whose mean is a :class:`GlobalAveragePool`.
    stride : tuple of 2 int
        Vertical, horizontal.
    """

    kind: ClassVar[str] = "average_pool2d"

    window: tuple[int, int]
    stride: tuple[int, int]

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        height, width, channels = sources[0].shape
        _check_window(self.name, self.window)
        rows, columns = self.window
        require(
            rows <= height and columns <= width and self.window != (height, width),
            f"{self.name}: window {rows}x{columns} must be smaller than {self.inputs[0]} {height}x{width}",
        )
        check_strides(self.name, self.stride)
        shape = ((height - rows) // self.stride[0] + 1, (width - columns) // self.stride[1] + 1, channels)
        require(shape == self.output.shape, f"{self.name}: output must be {shape}, not {self.output.shape}")


@dataclass(frozen=True, kw_only=True)
class MaxPool2D(_Pool):
    """Largest of the codes in a window that moves over the map (TFLite ``MAX_POOL_2D``).

    Parameters
    ----------
    window : tuple of 2 int
        Height, width.
    stride : tuple of 2 int
        Vertical, horizontal.
    pads : tuple of 4 int
        Rows above and below, columns left and right; padded positions are never the largest.
    """

    kind: ClassVar[str] = "max_pool2d"

    window: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        height, width, channels = sources[0].shape
        _check_window(self.name, self.window)
        check_strides(self.name, self.stride)
        check_pads(self.name, self.pads)
        require(
            max(self.pads[:2]) < self.window[0] and max(self.pads[2:]) < self.window[1],
            f"{self.name}: pads must be less than the window {self.window[0]}x{self.window[1]}, so that every window "
            f"holds a position of the map, not {self.pads}",
        )
        rows, columns = height + sum(self.pads[:2]) - self.window[0], width + sum(self.pads[2:]) - self.window[1]
        require(
            min(rows, columns) >= 0,
            f"{self.name}: window {self.window[0]}x{self.window[1]} must fit into {self.inputs[0]} {height}x{width} "
            f"with its pads {self.pads}",
        )
        shape = (rows // self.stride[0] + 1, columns // self.stride[1] + 1, channels)
        require(shape == self.output.shape, f"{self.name}: output must be {shape}, not {self.output.shape}")
