"""Random TensorFlow Lite files of everything that is followed, one operator behind another, against LiteRT."""

import numpy as np
import pytest

from tests.models.frontends.tflite.litert_reference import assert_equals_litert
from tests.models.frontends.tflite.test_reader import random_weight
from tests.models.frontends.tflite.tflite_builder import Builder

KINDS = (
    "ADD", "ADD constant", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "MUL",
    "PAD", "QUANTIZE", "RELU", "RELU6", "SUB", "SUB constant",
)  # fmt: skip


class RandomFile:
    """Draws operators that read maps drawn before."""

    def __init__(self, seed: int) -> None:
        self.rng, self.b = np.random.default_rng([seed, 7]), Builder()
        self.maps = [self._map((1, *self.rng.integers(3, 9, 2), self.rng.integers(1, 7)))]
        for _ in range(self.rng.integers(2, 9)):
            self._operator(str(self.rng.choice(KINDS)))

    def _map(self, shape, like: int | None = None) -> int:
        shape = tuple(int(size) for size in shape)
        if like is not None:
            return self.b.tensor(shape, self.b.tensors[like]["scales"], self.b.tensors[like]["points"])
        points = (-128, 127, 0, int(self.rng.integers(-128, 128)))
        return self.b.tensor(
            shape, float(self.rng.choice([0.1, 0.25, self.rng.uniform(0.05, 0.4)])), self.rng.choice(points)
        )

    def _constants(self, count: int) -> np.ndarray:
        return self.rng.integers(-1500, 1500, count).astype(np.int32)

    def _operator(self, kind: str) -> None:
        b, rng = self.b, self.rng
        source = int(rng.choice(self.maps[-2:]))
        shape = b.tensors[source]["shape"]
        _, height, width, channels = shape
        activation, stride = int(rng.choice([0, 1, 3])), tuple(int(n) for n in rng.integers(1, 3, 2))
        padding, kernel = (
            int(rng.integers(2)),
            tuple(int(rng.integers(1, min(4, size) + 1)) for size in (height, width)),
        )
        size = [-(-(n - (k - 1) * padding) // s) for n, k, s in zip((height, width), kernel, stride, strict=True)]
        moved = {"Padding": padding, "FusedActivationFunction": activation}
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            depthwise = kind.startswith("D")
            count = channels * int(rng.integers(1, 3)) if depthwise else int(rng.integers(1, 8))
            made = self._map((1, *size, count))
            weight = (
                random_weight(rng, 1, *kernel, count) if depthwise else random_weight(rng, count, *kernel, channels)
            )
            values = moved | {"StrideH": stride[0], "StrideW": stride[1]}
            values |= {"DepthMultiplier": count // channels} if depthwise else {}
            call = b.depthwise if depthwise else b.convolution
            call(source, weight, self._constants(count), rng.uniform(0.0005, 0.004, count), made, **values)
        elif kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
            average = kind.startswith("A")
            if average:
                moved["Padding"], size = (
                    1,
                    [(n - k) // s + 1 for n, k, s in zip(shape[1:], kernel, stride, strict=False)],
                )
            made = self._map((1, *size, channels), source)
            (b.average_pool if average else b.max_pool)(source, made, kernel, stride, **moved)
        elif kind == "PAD":
            rows, columns = rng.integers(0, 4, (2, 2)).tolist()
            made = self._map((1, height + sum(rows), width + sum(columns), channels), source)
            b.operator(kind, [source, b.integers([0, 0], rows, columns, [0, 0])], [made], "PadOptions")
        elif kind == "CONCATENATION":
            alike = [m for m in self.maps if b.tensors[m]["shape"][:3] == shape[:3] and self._same(m, source)]
            others = [int(n) for n in rng.choice(alike, rng.integers(1, 4))]
            count = sum(b.tensors[m]["shape"][3] for m in others)
            made = self._map((1, height, width, count), source)
            b.operator(kind, others, [made], "ConcatenationOptions", Axis=3)
        elif kind in ("ADD", "SUB"):
            alike = [m for m in self.maps if b.tensors[m]["shape"] == shape]
            made = self._map(shape)
            options = f"{kind.title()}Options"
            b.operator(kind, [source, int(rng.choice(alike))], [made], options, FusedActivationFunction=activation)
        elif kind.split(maxsplit=1)[0] in ("ADD", "SUB", "MUL"):
            name, made = kind.split(maxsplit=1)[0], self._map(shape)
            values = rng.integers(-128, 128, channels).astype(np.int8)
            scale = float(rng.uniform(0.002, 0.01))
            operands = [source, b.tensor((channels,), scale, int(rng.choice([0, -128])), data=values)]
            if rng.random() < 0.5:
                operands.reverse()
            b.operator(name, operands, [made], f"{name.title()}Options", FusedActivationFunction=activation)
        else:
            made = self._map(shape, source if rng.random() < 0.5 else None)
            b.operator(kind, [source], [made])
        self.maps.append(made)

    def _same(self, first: int, second: int) -> bool:
        return all((self.b.tensors[first][key] == self.b.tensors[second][key]).all() for key in ("scales", "points"))

    def data(self) -> bytes:
        """The file, with one of several endings."""
        b, rng, last = self.b, self.rng, self.maps[-1]
        shape = b.tensors[last]["shape"]
        kind = int(rng.integers(4))
        if kind == 0 and np.prod(shape) < 300:
            return b.finish([self.maps[0]], [last])
        if kind == 1:
            mean = self._map((1, shape[3]))
            b.operator("MEAN", [last, b.integers(1, 2)], [mean], "ReducerOptions")
            last = mean
        count = int(np.prod(b.tensors[last]["shape"]))
        out, scales = self._map((1, 5)), 0.002 if kind == 2 else rng.uniform(0.0005, 0.004, 5)
        b.fully_connected(last, random_weight(rng, 5, count), self._constants(5), scales, out)
        end = b.tensor((1, 5), 1 / 256, -128)
        b.operator("SOFTMAX", [out], [end], "SoftmaxOptions", Beta=1.0)
        return b.finish([self.maps[0]], [end])


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(40, 2000, 40))])
def test_random_files_equal_the_reference_kernels(tmp_path, first):
    for seed in range(first, first + 40):
        try:
            assert_equals_litert(tmp_path, RandomFile(seed).data(), seed=seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
