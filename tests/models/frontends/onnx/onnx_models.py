"""ONNX files by hand and by exporters, and what ONNX Runtime computes for them."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

from models.frontends.onnx.module import OnnxModule
from models.frontends.onnx.reader import read
from models.frontends.onnx.reference import feed, runtime_outputs

OPSET = 17
MICROSOFT = "com.microsoft"


def node(operator: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; names of tensors with spaces between, ``-`` where one is left out."""
    domain, _, name = operator.rpartition(".")
    found = helper.make_node(
        name, [n.strip("-") for n in inputs.split()], outputs.split(), domain=domain or None, **attributes
    )
    found.name = f"/{name}/{outputs.split(maxsplit=1)[0]}"
    return found


def model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str | None],
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = OPSET,
    outputs: str = "y",
    dtype: int = TensorProto.FLOAT,
    ir: int = 8,
    result: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model from input ``x`` of a shape to outputs."""
    graph = helper.make_graph(
        list(nodes), "graph",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in (constants or {}).items()],
    )  # fmt: skip
    for value in graph.output:
        value.type.tensor_type.elem_type = result
        value.type.tensor_type.shape.SetInParent()
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def saved(folder: Path, made: onnx.ModelProto, name: str = "net.onnx") -> Path:
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path


def images(found: OnnxModule, count: int = 4, seed: int = 5) -> np.ndarray:
    height, width, channels = found.program.shape
    return np.random.default_rng(seed).standard_normal((count, channels, height, width)).astype(np.float32)


def checked(path: Path, shape: tuple[int, int, int] | None = None, tolerance: float = 1e-5) -> OnnxModule:
    """The module of a file, found to compute what ONNX Runtime does on images of its own."""
    found = read(path, shape)
    given = images(found)
    with torch.no_grad():
        results = found(torch.from_numpy(given))
    expected = runtime_outputs(path, feed(found.program, given))
    for one, other in zip(results if isinstance(results, tuple) else (results,), expected, strict=True):
        difference = np.abs(one.numpy().reshape(other.shape) - other).max()
        assert difference <= tolerance * max(1.0, np.abs(other).max()), f"{path}: {difference}"
    return found


def exported(folder: Path, net: nn.Module, shape: Sequence[int], *, opset: int = OPSET, free: bool = True) -> Path:
    """What PyTorch's exporter writes; it needs no other package in this form."""
    path = folder / "exported.onnx"
    axes = {"x": {0: "images"}} if free else None
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (torch.rand(*shape),), str(path), dynamo=False, opset_version=opset, input_names=["x"],
            dynamic_axes=axes,
        )  # fmt: skip
    return path


class _Images(CalibrationDataReader):
    def __init__(self, shape: Sequence[int]) -> None:
        rng = np.random.default_rng(3)
        self.rest = [rng.standard_normal(shape).astype(np.float32) for _ in range(8)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"x": self.rest.pop()} if self.rest else None


def quantized(
    path: Path,
    shape: Sequence[int],
    form: str,
    *,
    activations: str = "Int8",
    weights: str = "Int8",
    channels: bool = True,
) -> Path:
    """What ONNX Runtime's static quantizer makes of a float file: ``QDQ`` or ``QOperator``."""
    target = path.with_name(f"{form}.onnx")
    quantize_static(
        str(path), str(target), _Images(shape), quant_format=QuantFormat[form], per_channel=channels,
        activation_type=QuantType[f"Q{activations}"], weight_type=QuantType[f"Q{weights}"],
    )  # fmt: skip
    return target


def qcdq(folder: Path, net: nn.Module, shape: Sequence[int], monkeypatch: Any) -> Path:
    """What Brevitas exports; the passes of onnxoptimizer, which it would run afterwards, are left out."""
    path = folder / "qcdq.onnx"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from brevitas.export import export_onnx_qcdq
        from brevitas.export.onnx import manager

        monkeypatch.setattr(manager, "onnx", onnx)
        monkeypatch.setattr(manager, "opt", SimpleNamespace(optimize=lambda made, passes: made))
        export_onnx_qcdq(net.eval(), torch.rand(*shape), export_path=str(path), dynamo=False)
    return path


@cache
def two_files() -> list[bytes]:
    """Files to be changed: floats with sizes that are computed, and codes with operators of both kinds."""
    rng = np.random.default_rng(1)

    def weight(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def code(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape).astype(np.int8)

    whole = [
        node("Conv", "x w b", "a", pads=[0, 1, 2, 1], strides=[2, 2]),
        node("BatchNormalization", "a b b b v", "c"),
        node("Clip", "c low high", "d"), node("MaxPool", "d", "e", kernel_shape=[2, 2], pads=[1] * 4),
        node("Concat", "e e", "f", axis=1), node("Pad", "f p", "g"), node("Shape", "g", "h"),
        node("Gather", "h zero", "i"), node("Unsqueeze", "i axes", "j"), node("Concat", "j rest", "k", axis=0),
        node("Reshape", "g k", "l"), node("MatMul", "l m", "n"), node("Add", "n o", "q"),
        node("Softmax", "q"),
    ]  # fmt: skip
    constants = {
        "w": weight(4, 2, 3, 3), "b": weight(4), "v": np.ones(4, np.float32), "low": np.float32(0),
        "high": np.float32(6),
        "p": np.array([0, 0, 1, 0, 0, 0, 0, 0]), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]),
        "m": weight(160, 3), "o": weight(3),
    }  # fmt: skip
    coded = [
        node("QuantizeLinear", "x s z", "a"), node("QLinearConv", "a s z w ws wz t z c", "d", group=2),
        node("com.microsoft.QLinearAdd", "d t z d t z s z", "e"), node("MaxPool", "e", "f", kernel_shape=[2, 2]),
        node("DequantizeLinear", "f s z", "g"), node("Flatten", "g", "h"),
        node("DequantizeLinear", "m ms mz", "n", axis=0), node("Gemm", "h n o", "q", transB=1),
        node("QuantizeLinear", "q t z", "r"), node("Clip", "r low high", "k"),
        node("DequantizeLinear", "k t z"),
    ]  # fmt: skip
    codes = {
        "s": np.float32(0.05), "z": np.int8(3), "t": np.float32(0.07), "w": code(4, 1, 3, 3),
        "wz": np.zeros(4, np.int8),
        "ws": np.full(4, 0.01, np.float32), "c": np.arange(4, dtype=np.int32), "m": code(3, 36),
        "mz": np.zeros(3, np.int8),
        "ms": np.full(3, 0.02, np.float32), "o": weight(3), "low": np.int8(-100), "high": np.int8(90),
    }  # fmt: skip
    made = [model(whole, ("n", 2, 6, 6), constants), model(coded, (1, 2, 6, 6), codes, opset=21, ir=10)]
    return [each.SerializeToString() for each in made]
