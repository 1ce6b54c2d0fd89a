"""The demo network: residual, with one early-exit branch, small enough for one core."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import nn

from hw.config import MAX_CLASSES
from hw.rules import integer, shown
from hw.typed import call

__all__ = ["MOST_CHANNELS", "Architecture", "Description", "Head", "ResidualNet", "to_torch"]

#: Most channels of a map, in whole words, and most rows and columns of one that an instruction can name.
MOST_CHANNELS = 4088
_MOST_SIDE = 255


@dataclass(frozen=True, kw_only=True)
class Description:
    """What every architecture says, and the form in which checkpoints and recipes hold it.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.
    classes : int

    Raises
    ------
    ValueError
        When a size is impossible; the message names the size, the rule and the value.
    """

    shape: tuple[int, int, int]
    classes: int

    def __post_init__(self) -> None:
        least = self.least_side
        sides, channels = self.shape[:2], self.shape[2:]
        if not (_within(sides, 2, least, _MOST_SIDE) and _within(channels, 1, 1, MOST_CHANNELS)):
            raise ValueError(
                f"shape must be (height, width, channels) of {least} to {_MOST_SIDE} rows and columns and at most "
                f"{MOST_CHANNELS} channels, not {shown(self.shape)}"
            )
        self._check("classes", 1, least=2, most=MAX_CLASSES)

    @property
    def least_side(self) -> int:
        """Fewest rows and columns of an image."""
        return 4

    def _check(self, name: str, count: int, *, least: int = 1, most: int = MOST_CHANNELS) -> None:
        """Refuse a field that isn't so many whole numbers from the least to the most."""
        value = getattr(self, name)
        if not _within(value if isinstance(value, tuple) else (value,), count, least, most):
            what = f"{count} whole number{'s' * (count != 1)}" if isinstance(value, tuple) else "a whole number"
            raise ValueError(f"{name} must be {what} from {least} to {most}, not {shown(value)}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, manifest: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        ValueError
            When a key is missing or unknown, or a value impossible.
        """
        return call(cls, manifest, "architecture")


def _within(values: Sequence[int], count: int, least: int, most: int) -> bool:
    """Whether values are so many whole numbers from the least to the most."""
    return len(values) == count and all(integer(value) and least <= value <= most for value in values)


@dataclass(frozen=True, kw_only=True)
class Architecture(Description):
    """What defines a :class:`ResidualNet` apart from its weights.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.
    classes : int
    widths : tuple of 2 int
        Channels before and behind the branch.
    branch_width : int
        Channels of the branch's own convolution; 0 when it has none and classifies the means of the maps it sees.
    stem_stride : int
        1, or 2 for images whose maps would fill the accelerator's memories.

    Raises
    ------
    ValueError
        When a size is impossible; the message names the size, the rule and the value.
    """

    widths: tuple[int, int]
    branch_width: int
    stem_stride: int = 1

    def __post_init__(self) -> None:
        self._check("stem_stride", 1, most=2)
        super().__post_init__()
        self._check("widths", 2)
        self._check("branch_width", 1, least=0)

    @property
    def least_side(self) -> int:
        return 4 * self.stem_stride


def to_torch(images: Any) -> torch.Tensor:
    """Images (N, height, width, channels) as PyTorch lays them out: (N, channels, height, width)."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).contiguous()


class _ConvNormActivation(nn.Module):
    """Convolution, batch norm, and ReLU where asked for."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv(x)))


class _BasicBlock(nn.Module):
    """Basic residual block (He et al. 2016, arXiv 1512.03385), projection shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _ConvNormActivation(inputs, outputs, 1, stride, relu=False)
        self.first = _ConvNormActivation(inputs, outputs, 3, stride, relu=True)
        self.second = _ConvNormActivation(outputs, outputs, 3, 1, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The shortcut comes first: the accelerator adds while it writes the second convolution's result.
        passed = self.shortcut(x)
        return self.relu(self.second(self.first(x)) + passed)


class Head(nn.Module):
    """Global average pool and linear layer."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.flatten(self.pool(x)))


class ResidualNet(nn.Module):
    """Stem, residual block, exit branch, residual block of half the resolution, head.

    The forward pass takes images (N, channels, height, width) in 0..1 and returns the logits of every exit,
    each (N, classes), the branch first.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        early, late = architecture.widths
        width = architecture.branch_width
        self.architecture = architecture
        self.stem = _ConvNormActivation(architecture.shape[2], early, 3, architecture.stem_stride, relu=True)
        self.early = _BasicBlock(early, early, 1)
        self.branch = _ConvNormActivation(early, width, 3, 2, relu=True) if width else nn.Identity()
        self.branch_head = Head(width or early, architecture.classes)
        self.late = _BasicBlock(early, late, 2)
        self.head = Head(late, architecture.classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.early(self.stem(x))
        exit_logits = self.branch_head(self.branch(x))
        return exit_logits, self.head(self.late(x))
