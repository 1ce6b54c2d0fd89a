"""ResNet-8 of MLPerf Tiny's image classification, with early exits, and its official float weights.

Banbury et al. 2021, "MLPerf Tiny Benchmark" (arXiv 2106.07597): a stem and three residual blocks of 16, 32 and 64
channels (He et al. 2016, arXiv 1512.03385), a 1x1 projection without batch norm where the shape changes, and padding as
TensorFlow's SAME: a convolution of stride 2 over an even map pads nothing before and one position behind.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hw.arrays import read_npz
from hw.rules import shown
from models.networks.residual_net import Description, Head

__all__ = ["WEIGHTS", "ResNet8", "ResNet8Architecture", "official_state", "same_pads"]

#: Where the official float weights lie in the data folder.
WEIGHTS = Path("mlperf_tiny") / "pretrainedResnet_float.npz"

_KERAS_EPS = 1e-3  # of batch norms in the official network; here PyTorch's
_PIXEL = 255  # the official network takes pixels 0..255

#: Official names of convolutions with their batch norms, by ours.
_OFFICIAL = {
    "stem": ("c", "b"),
    **{f"block{n}.first": (f"s{n}.c1", f"s{n}.b1") for n in (1, 2, 3)},
    **{f"block{n}.second": (f"s{n}.c2", f"s{n}.b2") for n in (1, 2, 3)},
}
#: Official names of what is taken as it is, by ours.
_UNCHANGED = {
    **{f"block{n}.shortcut.{kind}": f"s{n}.sc.{kind}" for n in (2, 3) for kind in ("weight", "bias")},
    **{f"head.linear.{kind}": f"fc.{kind}" for kind in ("weight", "bias")},
}
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, kw_only=True)
class ResNet8Architecture(Description):
    """What defines a :class:`ResNet8` apart from its weights.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image; at least 4 rows and columns.
    classes : int
    widths : tuple of 3 int
        Channels of the blocks; the stem has as many as the first.
    strides : tuple of 3 int
        1 or 2, of the blocks: 2 halves the maps. MLPerf Tiny's first block has 1, the others 2.
    stem_stride : int
        1 or 2.
    exits : tuple of int
        Blocks, 1 or 2, behind which there is an early exit, ascending.
    exit_widths : tuple of int
        Of each early exit, channels of its own 3x3 convolution of stride 2; 0 when it has none and classifies the means
        of the maps it sees.

    Raises
    ------
    ValueError
        When a size is impossible; the message names the size, the rule and the value.
    """

    widths: tuple[int, int, int] = (16, 32, 64)
    strides: tuple[int, int, int] = (1, 2, 2)
    stem_stride: int = 1
    exits: tuple[int, ...] = ()
    exit_widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("widths", 3)
        self._check("strides", 3, most=2)
        self._check("stem_stride", 1, most=2)
        if self.exits not in ((), (1,), (2,), (1, 2)):
            raise ValueError(f"exits must be among 1 and 2, ascending, not {shown(self.exits)}")
        self._check("exit_widths", len(self.exits), least=0)


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Positions before and behind a map's side that TensorFlow's SAME padding adds."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class _SameConvNormActivation(nn.Module):
    """Padding as TensorFlow's SAME, 3x3 convolution, batch norm, ReLU where asked for."""

    def __init__(self, size: tuple[int, int], inputs: int, outputs: int, stride: int, relu: bool) -> None:
        super().__init__()
        (top, bottom), (left, right) = (same_pads(side, 3, stride) for side in size)
        even = (top, left) == (bottom, right)
        self.pad = nn.Identity() if even else nn.ZeroPad2d((left, right, top, bottom))
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=(top, left) if even else 0, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.norm(self.conv(self.pad(x))))


class _ResNet8Block(nn.Module):
    def __init__(self, size: tuple[int, int], inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        after = (-(-size[0] // stride), -(-size[1] // stride))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)
        self.first = _SameConvNormActivation(size, inputs, outputs, stride, relu=True)
        self.second = _SameConvNormActivation(after, outputs, outputs, 1, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The shortcut comes first: the accelerator adds while it writes the second convolution's result.
        passed = self.shortcut(x)
        return self.relu(self.second(self.first(x)) + passed)


class _Exit(nn.Module):
    """An early exit: convolution, if it has one, and classifier."""

    def __init__(self, size: tuple[int, int], inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.body = _SameConvNormActivation(size, inputs, width, 2, relu=True) if width else nn.Identity()
        self.head = Head(width or inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


class ResNet8(nn.Module):
    """The network. Images (N, channels, height, width) in 0..1 go in, a tuple of logits (N, classes) comes out, early
    exits first.

    Parameters
    ----------
    architecture : ResNet8Architecture
    """

    def __init__(self, architecture: ResNet8Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        size = architecture.shape[:2]
        first, second, third = architecture.widths
        self.stem = _SameConvNormActivation(size, architecture.shape[2], first, architecture.stem_stride, relu=True)
        sizes = []  # before each block, and behind the last
        for stride in (architecture.stem_stride, *architecture.strides):
            size = (-(-size[0] // stride), -(-size[1] // stride))
            sizes.append(size)
        self.block1 = _ResNet8Block(sizes[0], first, first, architecture.strides[0])
        self.block2 = _ResNet8Block(sizes[1], first, second, architecture.strides[1])
        self.block3 = _ResNet8Block(sizes[2], second, third, architecture.strides[2])
        self.exits = nn.ModuleDict(
            {
                str(block): _Exit(sizes[block], architecture.widths[block - 1], width, architecture.classes)
                for block, width in zip(architecture.exits, architecture.exit_widths, strict=True)
            }
        )
        self.head = Head(third, architecture.classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = []
        x = self.block1(self.stem(x))
        if "1" in self.exits:
            logits.append(self.exits["1"](x))
        x = self.block2(x)
        if "2" in self.exits:
            logits.append(self.exits["2"](x))
        return (*logits, self.head(self.block3(x)))


def official_state(path: Path) -> dict[str, torch.Tensor]:
    """The official float weights as the state of a :class:`ResNet8` without early exits.

    The function is the same: biases before a batch norm move into its mean, the other epsilon into its variance, the
    pixels' scale into the stem, whose channels get an ordinary size for training on (each batch norm undoes it).

    Parameters
    ----------
    path : Path
        ``pretrainedResnet_float.npz``.

    Raises
    ------
    ValueError
        When the file can't be read, is damaged, or an array is missing, of another type or shape, or not finite.
    """
    model = ResNet8(ResNet8Architecture(shape=(32, 32, 3), classes=10))
    arrays = {name: torch.from_numpy(array) for name, array in _official(path, model).items()}
    state: dict[str, torch.Tensor] = {}
    for name, (conv, norm) in _OFFICIAL.items():
        _put(state, arrays, name, conv, norm)
    for name, source in _UNCHANGED.items():
        state[name] = arrays[source]
    spread = (state["stem.norm.running_var"] + model.stem.norm.eps).sqrt()
    state["stem.conv.weight"] *= (_PIXEL / spread)[:, None, None, None]
    state["stem.norm.running_mean"] /= spread
    state["stem.norm.running_var"] = torch.full_like(spread, 1.0 - model.stem.norm.eps)
    return state


def _official(path: Path, model: ResNet8) -> dict[str, np.ndarray]:
    """The arrays of the official file, each of the type and the shape that the model asks for."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    expected = {source: shapes[name] for name, source in _UNCHANGED.items()}
    for name, (conv, norm) in _OFFICIAL.items():
        expected[f"{conv}.weight"], expected[f"{conv}.bias"] = (
            shapes[f"{name}.conv.weight"],
            shapes[f"{name}.norm.bias"],
        )
        for kind in _NORM:
            expected[f"{norm}.{kind}"] = shapes[f"{name}.norm.{kind}"]
    arrays = read_npz(path)
    for name, shape in expected.items():
        if name not in arrays:
            raise ValueError(f"{path}: must hold {name!r}")
        dtype, found = np.int64 if name.endswith("num_batches_tracked") else np.float32, arrays[name]
        if found.dtype != dtype or found.shape != shape:
            raise ValueError(
                f"{path}: {name} must be {np.dtype(dtype)} of shape {shape}, not {found.dtype} of shape {found.shape}"
            )
        if not np.isfinite(found).all():
            raise ValueError(f"{path}: {name} must be finite, not NaN or infinite")
        if name.endswith("running_var") and found.min() < 0:
            raise ValueError(f"{path}: {name} must not be negative, but holds {found.min()}")
    return {name: arrays[name] for name in expected}


def _put(state: dict[str, torch.Tensor], arrays: dict[str, torch.Tensor], name: str, conv: str, norm: str) -> None:
    """A convolution with its batch norm."""
    state[f"{name}.conv.weight"] = arrays[f"{conv}.weight"].clone()
    for kind in ("weight", "bias", "num_batches_tracked"):
        state[f"{name}.norm.{kind}"] = arrays[f"{norm}.{kind}"]
    state[f"{name}.norm.running_mean"] = arrays[f"{norm}.running_mean"] - arrays[f"{conv}.bias"]
    state[f"{name}.norm.running_var"] = arrays[f"{norm}.running_var"] + (_KERAS_EPS - nn.BatchNorm2d(1).eps)
