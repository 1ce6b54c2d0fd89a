"""Models that users bring, for the tests of what takes them."""

from pathlib import Path

import numpy as np

from tests.models.frontends.onnx.onnx_models import model, node, saved
from tests.models.frontends.tflite.tflite_builder import Builder

__all__ = ["MODULE", "onnx_file", "tflite_file"]

#: A file of a user's, in ordinary style.
MODULE = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.body(x) + x)
        return self.head(x.mean(dim=(2, 3)).view(-1, 6))


def net():
    torch.manual_seed(5)
    return Net()


def nothing():
    return 3


def broken():
    return {}["gone"]


def unfit():
    a, b = 1, 2, 3


def leaving():
    raise SystemExit(2)
"""


def tflite_file(folder: Path) -> Path:
    """A convolution and a head: images 4x4x1, 3 classes, SOFTMAX."""
    rng, b = np.random.default_rng(3), Builder()
    image, middle = b.tensor((1, 4, 4, 1), 1 / 255, -128), b.tensor((1, 2, 2, 4), 0.02, -128)
    flat, logits, out = b.tensor((1, 16), 0.02, -128), b.tensor((1, 3), 0.05, 4), b.tensor((1, 3), 1 / 256, -128)
    weight = rng.integers(-127, 128, (4, 3, 3, 1)).astype(np.int8)
    b.convolution(
        image, weight, np.arange(4, dtype=np.int32), (0.01,) * 4, middle, Padding=1, FusedActivationFunction=1
    )
    b.operator("RESHAPE", [middle, b.integers(1, 16)], [flat])
    b.fully_connected(flat, rng.integers(-127, 128, (3, 16)).astype(np.int8), None, 0.004, logits)
    b.operator("SOFTMAX", [logits], [out], "SoftmaxOptions", Beta=1.0)
    path = folder / "small.tflite"
    path.write_bytes(b.finish([image], [out]))
    return path


def onnx_file(folder: Path) -> Path:
    """A convolution with ReLU and a head in QDQ form: images 1x4x4, 3 classes, Softmax."""
    rng = np.random.default_rng(3)
    nodes = [
        node("QuantizeLinear", "x s z", "xq"), node("DequantizeLinear", "xq s z", "xd"),
        node("DequantizeLinear", "w t o", "wd"), node("Conv", "xd wd", "a"), node("Relu", "a", "r"),
        node("QuantizeLinear", "r s z", "rq"), node("DequantizeLinear", "rq s z", "rd"), node("Flatten", "rd", "f"),
        node("DequantizeLinear", "m t o", "md"), node("MatMul", "f md", "l"), node("Softmax", "l"),
    ]  # fmt: skip
    constants = {
        "w": rng.integers(-99, 99, (4, 1, 3, 3)).astype(np.int8), "m": rng.integers(-99, 99, (16, 3)).astype(np.int8),
        "s": np.float32(1 / 60), "t": np.float32(0.01), "z": np.int8(-3), "o": np.int8(0),
    }  # fmt: skip
    return saved(folder, model(nodes, ("n", 1, 4, 4), constants))
