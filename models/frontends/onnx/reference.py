"""What others compute for an ONNX file: the reference implementation in the package ``onnx``, and ONNX Runtime."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from models.frontends.onnx.file import OnnxGraph
from models.frontends.onnx.kernels import kernels
from models.frontends.onnx.module import OnnxProgram
from models.frontends.onnx.proto import open_model
from models.frontends.runtimes import UnableError, installed

#: Of ONNX Runtime's: what quantizes weights that the file has in float.
_OPTIMIZERS = ["WeightBiasQuantization"]

__all__ = ["feed", "reference", "runtime", "runtime_outputs"]


def reference(graph: OnnxGraph) -> Any:
    """The reference implementation for a graph's nodes."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    kept = {name for node in graph.nodes for name in node.outputs if name}
    nodes = [node for node in model.graph.node if node.op_type == "Constant" or kept.intersection(node.output)]
    for field, values in ((model.graph.node, nodes), (model.graph.output, [_output(name) for name in graph.outputs])):
        del field[:]
        field.extend(values)
    return ReferenceEvaluator(model, new_ops=kernels(graph.opset))


def _output(name: str) -> Any:
    """A graph's output of this name."""
    import onnx

    return onnx.ValueInfoProto(name=name)


def feed(program: OnnxProgram, images: np.ndarray) -> np.ndarray:
    """Images (N, channels, height, width), as a module takes them, as its file takes them."""
    import onnx

    source, of, values = program.source, program.codes, images
    if of is not None:
        values = (np.rint(values / np.float32(of.scale)) + of.zero_point).clip(of.low, of.high)
    if len(source.sizes) == 3:
        values = values.squeeze(2)
    elif len(source.sizes) == 2:
        values = values.reshape(len(values), -1)
    if source.is_channels_last:
        values = np.moveaxis(values, 1, -1)
    return values.astype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(source.dtype)))


def runtime_outputs(path: Path | str, inputs: np.ndarray, tensors: Sequence[str] = ()) -> list[np.ndarray]:
    """What ONNX Runtime computes for a file: a session of :func:`runtime` for one run."""
    return runtime(path, tensors)(inputs)


def runtime(path: Path | str, tensors: Sequence[str] = ()) -> Callable[[np.ndarray], list[np.ndarray]]:
    """ONNX Runtime for a file.

    Parameters
    ----------
    tensors : sequence of str
        Tensors of the file that are computed instead of its outputs; without optimizations.

    Returns
    -------
    function of array (N, ...)
        Gives arrays (N, ...) for what the file's input takes (:func:`feed`). A file for a fixed number of images gets
        so many at a time, in the last run some of them again.

    Raises
    ------
    ModuleNotFoundError
        When the package ``onnxruntime`` isn't installed.
    ValueError
        When the file can't be read.
    UnableError
        When ONNX Runtime can't run it; the function that is returned raises it, too.
    """
    with installed("ONNX Runtime", "onnxruntime"):
        import onnxruntime
    path = Path(path)
    try:
        model = open_model(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if tensors:
        del model.graph.output[:]
        model.graph.output.extend(map(_output, tensors))
    with _unable(path):
        session = _session(onnxruntime, model.SerializeToString(), bool(tensors))
    taken = session.get_inputs()[0]

    def run(inputs: np.ndarray) -> list[np.ndarray]:
        batch = taken.shape[0] if taken.shape and isinstance(taken.shape[0], int) else max(1, len(inputs))
        found: list[list[np.ndarray]] = []
        for start in range(0, len(inputs), batch):
            rows = np.arange(start, start + batch) % len(inputs)
            with _unable(path):
                found.append(session.run(None, {taken.name: inputs[rows]}))
        return [np.concatenate(parts)[: len(inputs)] for parts in zip(*found, strict=True)]

    return run


@contextmanager
def _unable(path: Path) -> Iterator[None]:
    """Let whatever ONNX Runtime raises be one error of ours."""
    try:
        yield
    except Exception as error:  # ONNX Runtime's have no common type.
        said = " ".join(str(error).split())
        raise UnableError(f"{path}: ONNX Runtime can't run it: {said[:300]}") from error


def _session(onnxruntime: Any, model: bytes, within: bool) -> Any:
    """A session for a model that computes what it says.

    Without optimizations where these fail, as on some files of Brevitas', and where tensors within the graph are asked
    for, whose axes they may turn (seen with 1.32).
    """
    levels = onnxruntime.GraphOptimizationLevel
    for level in (levels.ORT_DISABLE_ALL,) if within else (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.graph_optimization_level = 4, level
        # Otherwise kernels for CPUs without VNNI limit sums of two products of int8 weights to 16 bits.
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            return onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_OPTIMIZERS
            )
        except Exception as error:  # They have no common type.
            failure = error
    raise failure
