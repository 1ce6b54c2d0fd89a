"""Networks with the shapes of MLPerf Tiny and chosen densities, for measuring the accelerator without a data set.

Layer shapes and the densities of activations follow the official int8 models of MLPerf Tiny (github.com/mlcommons/tiny;
densities measured on the shipped TFLite files with real inputs). Weights are random at a given density, with filters of
unequal density as irregular pruning leaves them. Images are smooth noise; the bias of every output channel is then set
so that the channel is active as often as wanted, channels being unequally active. All of it follows from the seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from hw.network.base_layer import Layer, Tensor
from hw.network.layers import Add, Conv2D, DepthwiseConv2D, Linear
from hw.network.network import INPUT, Exit, Network
from hw.network.pooling import GlobalAveragePool
from hw.numerics import Rounding, add, add_scales, clamp, quantize_scale, requantize
from models.integer.activity import activity
from offramp.measure.workload_names import WORKLOADS, check_workload

__all__ = ["Workload", "make"]

#: Images that biases are set on.
_CALIBRATION = 16
#: Standard deviation, in codes, of a layer's outputs before its activation function.
_SPREAD = 40.0
#: Standard deviation of the logarithm of a filter's density. With the chance that single weights add, filters differ as
#: after magnitude pruning of each layer of the official ResNet-8's float weights: there the coefficient of variation
#: between filters of the 3x3 convolutions is 0.12 to 0.27 at 20 %, 0.19 to 0.45 at 10 % (first layer: 0.65 and 0.85).
_SKEW = 0.2


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A network, images for it, and the share of its tensors' activations that aren't zero.

    Attributes
    ----------
    network : Network
    codes : int8 array (N, height, width, channels)
    activity : dict of str to float array (channels,)
        Of the calibration images, see :func:`models.integer.activity.activity`.
    """

    network: Network
    codes: np.ndarray
    activity: dict[str, np.ndarray]


def _images(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Smooth noise, as codes of zero point -128: int8 (count, height, width, channels)."""
    height, width, channels = shape
    coarse = torch.from_numpy(rng.normal(size=(count, channels, -(-height // 4) + 1, -(-width // 4) + 1)))
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True).numpy()
    smooth = smooth + 0.3 * rng.normal(size=smooth.shape)
    contrast = rng.uniform(20, 60, size=(count, 1, 1, 1))
    return np.clip(np.round(smooth * contrast), -127, 127).astype(np.int8).transpose(0, 2, 3, 1)


class _Maker:
    """Builds a network layer by layer, with the values that the calibration images give."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], density: float, skew: float):
        self._rng = rng
        self._density = density
        self._skew = skew
        self._layers: list[Layer] = []
        self._tensors = {INPUT: Tensor(shape=shape, scale=0.02, zero_point=-128)}
        self.images = _images(rng, _CALIBRATION, shape)
        self._codes = {INPUT: self.images.astype(np.int64)}

    def network(self, name: str) -> Network:
        exits = (Exit(logits=self._layers[-1].name, threshold=None),)
        classes = self._layers[-1].output.shape[2]
        return Network(name=name, input=self._tensors[INPUT], classes=classes, layers=tuple(self._layers), exits=exits)

    def _append(self, layer: Layer) -> str:
        self._layers.append(layer)
        self._tensors[layer.name] = layer.output
        return layer.name

    def _weight(self, shape: tuple[int, ...]) -> np.ndarray:
        """Random weights, filter by filter of unequal density whose mean is the one wanted; no filter is empty."""
        rng, mean = self._rng, self._density
        if mean >= 1:
            weight = rng.integers(1, 128, shape) * rng.choice([-1, 1], shape)
            return weight.astype(np.int8)
        share = rng.lognormal(0, self._skew, shape[0])
        share = np.clip(share * mean / share.mean(), 0, 1)
        keep = rng.random(shape) < share[:, None, None, None]
        keep.reshape(shape[0], -1)[:, 0] |= ~keep.any(axis=(1, 2, 3))
        return (np.round(rng.normal(0, 30, shape)).clip(-127, 127) * keep).astype(np.int8)

    def _sums(
        self, source: str, weight: np.ndarray, stride: tuple[int, int], pads: Sequence[int], groups: int
    ) -> np.ndarray:
        """Accumulators without bias: int64 (images, height, width, channels). Exact: all integers are below 2**53."""
        values = torch.from_numpy((self._codes[source] - self._tensors[source].zero_point).astype(np.float64))
        top, bottom, left, right = pads
        padded = F.pad(values.permute(0, 3, 1, 2), (left, right, top, bottom))
        kernel = torch.from_numpy(weight.astype(np.float64)).permute(0, 3, 1, 2)
        if groups > 1:
            kernel = kernel.reshape(groups, 1, *kernel.shape[2:])
        return F.conv2d(padded, kernel, stride=stride, groups=groups).permute(0, 2, 3, 1).numpy().astype(np.int64)

    def conv(
        self,
        name: str,
        source: str,
        channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        *,
        active: float,
        depthwise: bool = False,
        residual: str | None = None,
    ) -> str:
        """Append a convolution with TensorFlow's SAME pads and ReLU, or with a residual add and ReLU behind it.

        ``active`` is the density of the result.
        """
        height, width, depth = self._tensors[source].shape
        pads: list[int] = []
        for size, taps, step in zip((height, width), kernel, stride, strict=True):
            total = max((-(-size // step) - 1) * step + taps - size, 0)
            pads += [total // 2, total - total // 2]
        weight = self._weight((channels, *kernel, 1 if depthwise else depth))
        sums = self._sums(source, weight, stride, pads, channels if depthwise else 1)
        deviation = sums.std(axis=(0, 1, 2)) + 1
        scale = np.minimum(_SPREAD / deviation, 0.9)
        other = 0 if residual is None else self._codes[residual] - self._tensors[residual].zero_point
        wanted = np.clip(self._rng.beta(4 * active, 4 * (1 - active), channels), 0.02, 0.98)
        before = np.sort((sums * scale + other).reshape(-1, channels), axis=0)
        rank = ((1 - wanted) * (len(before) - 1)).astype(int)
        bias = np.round(-before[rank, np.arange(channels)] / scale).astype(np.int32)
        fixed = [quantize_scale(float(s)) for s in scale]
        zero_point = -128 if residual is None else 0
        output = Tensor(shape=sums.shape[1:], scale=0.02, zero_point=zero_point)
        common = {
            "name": name,
            "inputs": (source,),
            "output": output,
            "weight": weight,
            "bias": bias,
            "multiplier": np.array([s.multiplier for s in fixed], dtype=np.int32),
            "shift": np.array([s.shift for s in fixed], dtype=np.int32),
            "rounding": Rounding.DOUBLE,
            "stride": stride,
            "pads": tuple(pads),
        }
        layer = DepthwiseConv2D(**common) if depthwise else Conv2D(**common)
        codes = requantize(sums + bias, layer.multiplier.astype(np.int64), layer.shift.astype(np.int64), layer.rounding)
        made = self._append(layer)
        self._codes[made] = clamp(codes + zero_point, -128, 127)
        if residual is None:
            return made
        joint = Tensor(shape=sums.shape[1:], scale=0.03, zero_point=-128)
        scales = add_scales(output.scale, self._tensors[residual].scale, joint.scale)
        codes = add(self._codes[made] - zero_point, other, scales)
        joined = self._append(Add(name=f"{name}_add", inputs=(made, residual), output=joint))
        self._codes[joined] = clamp(codes - 128, -128, 127)
        return joined

    def head(self, source: str, classes: int) -> None:
        """Append global average pool and classifier."""
        shape = self._tensors[source].shape
        pooled = Tensor(shape=(1, 1, shape[2]), scale=self._tensors[source].scale, zero_point=-128)
        pool = self._append(GlobalAveragePool(name="pool", inputs=(source,), output=pooled))
        weight = self._weight((classes, 1, 1, shape[2]))
        linear = Linear(
            name="logits",
            inputs=(pool,),
            output=Tensor(shape=(1, 1, classes), scale=0.001, zero_point=0),
            weight=weight,
            bias=np.zeros(classes, dtype=np.int32),
            multiplier=np.zeros(classes, dtype=np.int32),
            shift=np.zeros(classes, dtype=np.int32),
            rounding=Rounding.SINGLE,
            raw=True,
        )
        self._append(linear)


def _resnet8(maker: _Maker, active: Callable[[str], float]) -> None:
    """ResNet-8 of the image classification benchmark: 32x32x3, filters 16, 32, 64, 12.5 M multiply-accumulates."""
    here = maker.conv("c1", INPUT, 16, (3, 3), active=active("c1"))
    inner = maker.conv("c2", here, 16, (3, 3), active=active("c2"))
    here = maker.conv("c3", inner, 16, (3, 3), active=active("add1"), residual=here)
    for number, channels in enumerate((32, 64)):
        first = 4 + 3 * number
        short = maker.conv(f"c{first + 2}", here, channels, (1, 1), (2, 2), active=0.9)
        inner = maker.conv(f"c{first}", here, channels, (3, 3), (2, 2), active=active(f"c{first}"))
        here = maker.conv(f"c{first + 1}", inner, channels, (3, 3), active=active(f"add{number + 2}"), residual=short)
    maker.head(here, 10)


def _ds_cnn(maker: _Maker, active: Callable[[str], float]) -> None:
    """DS-CNN of keyword spotting: 49x10x1, 64 filters, 2.7 M multiply-accumulates."""
    here = maker.conv("c1", INPUT, 64, (10, 4), (2, 2), active=active("c1"))
    for n in range(1, 5):
        here = maker.conv(f"dw{n}", here, 64, (3, 3), active=active(f"dw{n}"), depthwise=True)
        here = maker.conv(f"pw{n}", here, 64, (1, 1), active=active(f"pw{n}"))
    maker.head(here, 12)


def _mobilenet(maker: _Maker, active: Callable[[str], float]) -> None:
    """MobileNetV1 0.25 of visual wake words: 96x96x3, 7.5 M multiply-accumulates."""
    here = maker.conv("c1", INPUT, 8, (3, 3), (2, 2), active=active("c1"))
    channels = [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256]
    strides = [1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1]
    for n, (depth, wide, step) in enumerate(zip(channels, channels[1:], strides, strict=False), 1):
        here = maker.conv(f"dw{n}", here, depth, (3, 3), (step, step), active=active(f"dw{n}"), depthwise=True)
        here = maker.conv(f"pw{n}", here, wide, (1, 1), active=active(f"pw{n}"))
    maker.head(here, 2)


def _table(names: str, values: str) -> dict[str, float]:
    return dict(zip(names.split(), (float(v) for v in values.split()), strict=True))


#: Densities of the official models' tensors.
_RESNET8 = _table("c1 c2 add1 c4 add2 c7 add3", "0.66 0.58 0.71 0.49 0.54 0.26 0.6")
_DS_CNN = _table("c1 dw1 pw1 dw2 pw2 dw3 pw3 dw4 pw4", "0.41 0.51 0.58 0.47 0.49 0.45 0.43 0.42 0.5")
_MOBILENET = _table(
    "c1 dw1 pw1 dw2 pw2 dw3 pw3 dw4 pw4 dw5 pw5 dw6 pw6 dw7 pw7 dw8 pw8 dw9 pw9 dw10 pw10 dw11 pw11 dw12 pw12 dw13 "
    "pw13",
    "0.83 0.69 0.78 0.77 0.79 0.52 0.63 0.72 0.62 0.47 0.53 0.50 0.56 0.37 0.37 0.16 0.22 0.09 0.18 0.06 0.28 0.08 "
    "0.42 0.16 0.26 0.08 0.06",
)


@dataclass(frozen=True)
class _Recipe:
    """How a workload is made: image shape, layers, weight density and its skew between filters, activations."""

    shape: tuple[int, int, int]
    layers: Callable[[_Maker, Callable[[str], float]], None]
    weights: float
    active: dict[str, float] | float
    skew: float = _SKEW


_RECIPES = dict(
    zip(
        WORKLOADS,
        (
            _Recipe((32, 32, 3), _resnet8, 1.0, _RESNET8),
            _Recipe((32, 32, 3), _resnet8, 0.2, 0.45),
            _Recipe((32, 32, 3), _resnet8, 0.1, 0.40),
            _Recipe((49, 10, 1), _ds_cnn, 1.0, _DS_CNN),
            _Recipe((96, 96, 3), _mobilenet, 1.0, _MOBILENET),
        ),
        strict=True,
    )
)


def make(
    name: str, images: int, seed: int = 0, *, weights: float | None = None, active: float | None = None
) -> Workload:
    """A workload with so many images.

    Parameters
    ----------
    weights, active : float, optional
        Other densities than the workload's own, above 0 and at most 1.

    Raises
    ------
    ValueError
        When there is no workload of that name, or a density is impossible.
    """
    check_workload(name)
    recipe = _RECIPES[name]
    weights = recipe.weights if weights is None else weights
    table = recipe.active if active is None else active
    for what, value in (("weight density", weights), ("activation density", active)):
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"{what} must be above 0 and at most 1, not {value}")
    rng = np.random.default_rng(seed)
    maker = _Maker(rng, recipe.shape, weights, recipe.skew)
    recipe.layers(maker, lambda tensor: table[tensor] if isinstance(table, dict) else table)
    network = maker.network(name)
    codes = _images(rng, images, recipe.shape)
    return Workload(network=network, codes=codes, activity=activity(network, maker.images))
