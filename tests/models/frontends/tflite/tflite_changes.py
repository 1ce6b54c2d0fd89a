"""TensorFlow Lite files of all that is followed, and changes of what they say."""

from functools import cache

import numpy as np

from models.frontends.tflite.schema import FORMS
from tests.models.frontends.tflite.tflite_builder import Builder

__all__ = ["changed_graph", "tflite_builders"]


@cache
def tflite_builders() -> list[Builder]:
    """TFLite files: convolutions, sums, pools of either kind, views, linear layers, and what becomes such layers."""
    rng, found = np.random.default_rng(1), []

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape).astype(np.int8)

    for largest in (False, True):
        b, bias = Builder(), np.arange(4, dtype=np.int32)
        image, one, other, total = (
            b.tensor((1, 6, 6, channels), scale, -5) for channels, scale in ((2, 0.1), (4, 0.2), (4, 0.3), (4, 0.4))
        )
        small, flat = b.tensor((1, 3, 3, 4), 0.4, -5), b.tensor((1, 36), 0.4, -5)
        hidden, logits = b.tensor((1, 5), 0.4, -3), b.tensor((1, 3), 0.5, 2)
        scales = rng.uniform(0.001, 0.004, 4).astype(np.float32)
        b.convolution(image, weight(4, 3, 3, 2), bias, scales, one, Padding=0)
        b.depthwise(one, weight(1, 3, 3, 4), bias, scales, other, Padding=0, DepthMultiplier=1)
        b.operator("ADD", [one, other], [total], "AddOptions", FusedActivationFunction=1)
        (b.max_pool if largest else b.average_pool)(total, small, (2, 2), (2, 2), Padding=1)
        shape = b.tensor((2,), data=np.array([1, 36], dtype=np.int32), dtype="int32")
        b.operator("RESHAPE", [small, shape], [flat])
        b.fully_connected(flat, weight(5, 36), np.arange(5, dtype=np.int32), 0.0033, hidden)
        b.fully_connected(hidden, weight(3, 5), None, 0.0021, logits)
        b.inputs, b.outputs = [image], [logits]
        found.append(b)
    b = Builder()
    image, codes, padded = b.tensor((1, 24), dtype="float32"), b.tensor((1, 24), 0.1, 3), b.tensor((1, 5, 5, 2), 0.1, 3)
    b.operator("QUANTIZE", [image], [codes], "QuantizeOptions")
    shaped, wide, active = (
        b.tensor((1, 4, 3, 2), 0.1, 3),
        b.tensor((1, 5, 5, 4), 0.1, 3),
        b.tensor((1, 5, 5, 4), 0.2, -128),
    )
    b.operator("RESHAPE", [codes, b.integers(1, 4, 3, 2)], [shaped])
    b.operator("PAD", [shaped, b.integers([0, 0], [1, 0], [1, 1], [0, 0])], [padded], "PadOptions")
    b.operator("CONCATENATION", [padded, padded], [wide], "ConcatenationOptions", Axis=3)
    b.operator("RELU6", [wide], [active])
    scaled, less, mean, out = (b.tensor(s, 0.3, 1) for s in ((1, 5, 5, 4), (1, 5, 5, 4), (1, 4), (1, 4)))
    factor = b.tensor((4,), 0.01, -128, data=np.array([127, 1, -128, 0], np.int8))
    b.operator("MUL", [active, factor], [scaled], "MulOptions")
    b.operator("SUB", [factor, scaled], [less], "SubOptions", FusedActivationFunction=1)
    b.operator("MEAN", [less, b.integers(1, 2)], [mean], "ReducerOptions")
    b.fully_connected(mean, weight(4, 4), np.arange(4, dtype=np.int32), [0.002, 0.003, 0.004, 0.005], out)
    last = b.tensor((1, 4), 1 / 256, -128)
    b.operator("SOFTMAX", [out], [last], "SoftmaxOptions", Beta=1.0)
    b.inputs, b.outputs = [image], [last, mean]
    return [*found, b]


def changed_graph(b: Builder, rng: np.random.Generator) -> str:
    """Say something else of one operator or tensor."""
    sizes = (0, 1, 2, 3, 5, -1, 127, 1 << 16, (1 << 31) - 1)
    tensor, operator = b.tensors[rng.integers(len(b.tensors))], b.operators[rng.integers(len(b.operators))]
    kind, other = int(rng.integers(7)), int(rng.integers(len(b.tensors)))
    if kind == 0:
        shape = list(tensor["shape"])
        shape[rng.integers(len(shape))] = int(rng.choice(sizes))
        tensor["shape"] = shape
        return f"shape {shape}"
    if kind == 1 and tensor["scales"] is not None:
        tensor["scales"] = tensor["scales"] * np.float32(rng.choice([0.5, 2, 1e-3, 1e3, 1e30, 1e-30]))
        return f"scales {tensor['scales'][:3]}"
    if kind == 2 and tensor["points"] is not None:
        tensor["points"] = tensor["points"] + int(rng.choice([1, -1, 128, -256, 1 << 40]))
        return f"zero points {tensor['points'][:3]}"
    if kind == 3 and tensor["data"] is not None:
        tensor["data"] = tensor["data"].copy()
        tensor["data"].reshape(-1)[rng.integers(tensor["data"].size)] = rng.choice([-1, 0, 1, 2, 3, 127, -128])
        return "a constant"
    if kind == 4 and operator["values"]:
        name = sorted(operator["values"])[rng.integers(len(operator["values"]))]
        operator["values"] = operator["values"] | {name: int(rng.choice([0, 1, 2, 3, 100]))}
        return f"{name} {operator['values'][name]}"
    if kind == 5:
        operator["name"] = str(rng.choice(sorted(FORMS)))
        operator["options"] = None
        return f"operator {operator['name']}"
    place = operator[str(rng.choice(["inputs", "outputs"]))]
    place[rng.integers(len(place))] = other
    return f"{operator['name']} of tensor {other}"
