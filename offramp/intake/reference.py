"""What the source of a network computes in its own runtime, compared with the golden model tensor by tensor."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.network.network import INPUT, Network
from hw.rules import require, shown
from models.datasets.sources import Progress
from models.frontends.onnx.file_tensors import file_tensors, module_values
from models.frontends.onnx.module import OnnxModule
from models.frontends.onnx.reference import feed, runtime
from models.frontends.quantized.program_tensors import QuantizedSource
from models.frontends.runtimes import UnableError, installed
from models.frontends.tflite.edges import FileInput
from models.frontends.tflite.reader import Imported
from models.integer import golden

__all__ = ["Agreement", "LayerAgreement", "litert", "named", "onnx_images", "onnx_runtime", "program"]

#: Images that are computed at a time: tensors of all layers are held.
_BATCH = 16
#: Has LiteRT run a file once.
_TRIAL = """
import sys
from ai_edge_litert.interpreter import Interpreter, OpResolverType
model, kernels = sys.stdin.buffer.read(), OpResolverType.BUILTIN_REF
interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kernels)
interpreter.allocate_tensors()
interpreter.invoke()
"""


@dataclass(frozen=True, kw_only=True)
class LayerAgreement:
    """How golden stands to another way of computing the same layer, over all images.

    Parameters
    ----------
    differing : float
        Share of its values that differ, 0..1.
    largest : int
        Largest difference, in codes or, of logits that aren't rounded to codes, in steps of the accumulators.
    rounded : bool
        Whether it is in codes.
    """

    differing: float
    largest: int
    rounded: bool


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How golden stands to another way of computing the same images.

    Parameters
    ----------
    classes : int64 array (N,), or None
        The other's; None where its output is no choice of a class.
    same : bool array (N,)
        Images whose tensors, those that were compared, are all equal.
    tensors : int
        Compared of each image.
    largest : int
        Largest difference of two codes.
    largest_logit : int or None
        Largest difference of two logits that aren't rounded to codes, in steps of the accumulators; None where all are.
    share : float
        Of the values that differ, 0..1.
    first : str or None
        The first layer, in execution order, with a difference.
    layers : dict of str to LayerAgreement
        By the layer's name, of those that were compared.
    """

    classes: np.ndarray | None
    same: np.ndarray
    tensors: int
    largest: int
    largest_logit: int | None
    share: float
    first: str | None
    layers: Mapping[str, LayerAgreement]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return bool(self.same.all())


def named(outputs: np.ndarray) -> np.ndarray | None:
    """Classes (N,) of outputs (N, values): the largest value; None where one value can't choose."""
    return None if outputs.shape[1] == 1 else np.asarray(outputs.astype(np.float64).argmax(axis=1))


class _Tally:
    """Counts differences, batch by batch.

    Parameters
    ----------
    unrounded : frozenset of str
        Layers whose logits are compared as accumulators; all others are compared as codes.
    """

    def __init__(self, network: Network, unrounded: frozenset[str] = frozenset()) -> None:
        self.unrounded = unrounded
        self.order = [layer.name for layer in network.layers]
        self.same: list[np.ndarray] = []
        self.outputs: list[np.ndarray] = []
        #: Of each layer that was compared: values that differ, all values, the largest difference.
        self.counts: dict[str, tuple[int, int, int]] = {}
        self.tensors = 0

    def add(self, pairs: Iterable[tuple[str, np.ndarray, np.ndarray]], outputs: np.ndarray, count: int) -> None:
        """Two computations of layers for ``count`` images, and the other's outputs (count, ...)."""
        same, tensors = np.ones(count, dtype=bool), 0
        for name, made, expected in pairs:
            values = [array.astype(np.int64).reshape(count, -1) for array in (made, expected)]
            off = np.abs(values[0] - values[1])
            tensors += 1
            differing, every, largest = self.counts.get(name, (0, 0, 0))
            largest = max(largest, int(off.max(initial=0)))
            self.counts[name] = (differing + int(np.count_nonzero(off)), every + off.size, largest)
            same &= ~off.any(axis=1)
        self.tensors = tensors
        self.same.append(same)
        self.outputs.append(outputs.reshape(count, -1))

    def agreement(self) -> Agreement:
        """Of all that was added."""
        off, every = (sum(counts[which] for counts in self.counts.values()) for which in (0, 1))
        largest = {True: 0, False: 0}
        for name, (*_, most) in self.counts.items():
            rounded = name not in self.unrounded
            largest[rounded] = max(largest[rounded], most)
        return Agreement(
            classes=named(np.concatenate(self.outputs)),
            same=np.concatenate(self.same),
            tensors=self.tensors,
            largest=largest[True],
            largest_logit=largest[False] if self.unrounded else None,
            share=off / max(1, every),
            first=next((name for name in self.order if self.counts.get(name, (0,))[0]), None),
            layers={
                name: LayerAgreement(differing=off / max(1, every), largest=most, rounded=name not in self.unrounded)
                for name, (off, every, most) in self.counts.items()
            },
        )


def litert(model: bytes, found: Imported, codes: np.ndarray, progress: Progress | None = None) -> Agreement:
    """Against LiteRT's reference kernels: every tensor that a layer stands for, and the outputs.

    Parameters
    ----------
    model : bytes
        The file.
    found : Imported
        What was read from it.
    codes : int8 array (N, height, width, channels)
        Images as the network takes them.

    Raises
    ------
    ModuleNotFoundError
        When ``ai-edge-litert`` isn't installed.
    UnableError
        When LiteRT can't run the file.
    """
    run, tally, values = _interpreter(model), _Tally(found.network), _values(found.source, codes)
    end = found.outputs[-1]
    for start in range(0, len(codes), _BATCH):
        part = slice(start, start + _BATCH)
        made = golden.run(found.network, codes[part])
        numbers = {*found.tensors.values(), *(output.number for output in found.outputs)}
        expected = run(values[part], numbers)
        pairs = [(name, made.tensors[name], expected[number]) for name, number in found.tensors.items()]
        for output in found.outputs:
            logits = made.tensors[output.head].reshape(len(values[part]), -1)
            pairs.append((output.head, output.codes(logits), _signed(expected[output.number])))
        tally.add(pairs, expected[end.number], len(values[part]))
        if progress is not None:
            progress(min(start + _BATCH, len(codes)), len(codes), "LiteRT, reference kernels")
    return tally.agreement()


def program(source: QuantizedSource, codes: np.ndarray, progress: Progress | None = None) -> Agreement:
    """Against a quantized program as PyTorch runs it, in float between its quantize and dequantize operators.

    Parameters
    ----------
    codes : int8 array (N, height, width, channels)
        Images as the network takes them.
    """
    tally, last = _Tally(source.network, source.unrounded), source.network.exits[-1].logits
    for start in range(0, len(codes), _BATCH):
        part = codes[start : start + _BATCH]
        pairs = source.compared(part)
        tally.add(((name, *pair) for name, pair in pairs.items()), pairs[last][1], len(part))
        if progress is not None:
            progress(min(start + _BATCH, len(codes)), len(codes), "PyTorch, quantized program")
    return tally.agreement()


def onnx_runtime(
    path: str, module: OnnxModule, source: QuantizedSource, codes: np.ndarray, progress: Progress | None = None
) -> Agreement:
    """Against ONNX Runtime: every tensor of the file that a layer stands for, without optimizations.

    Classes are those of the file's last output, with optimizations, as its users get it.

    Parameters
    ----------
    path : str
        The file.
    module : OnnxModule
        What was read from it.
    codes : int8 array (N, height, width, channels)
        Images as the network takes them.

    Raises
    ------
    ModuleNotFoundError
        When ``onnxruntime`` isn't installed.
    UnableError
        When it can't run the file.
    """
    nodes = {name: node for name, node in source.all_nodes.items() if name != INPUT}
    tensors, tally = file_tensors(path, module, source.program, nodes), _Tally(source.network, source.unrounded)
    whole, within = runtime(path), runtime(path, list(tensors.values()))
    for start in range(0, len(codes), _BATCH):
        part = codes[start : start + _BATCH]
        images, made = feed(module.program, onnx_images(source.network, part)), golden.run(source.network, part)
        expected = {
            name: source.arranged(name, module_values(module, tensor, each))
            for (name, tensor), each in zip(tensors.items(), within(images), strict=True)
        }
        pairs = ((name, *source.pair(name, made.tensors[name], each)) for name, each in expected.items())
        tally.add(pairs, whole(images)[-1], len(part))
        if progress is not None:
            progress(min(start + _BATCH, len(codes)), len(codes), "ONNX Runtime")
    return tally.agreement()


def onnx_images(network: Network, codes: np.ndarray) -> np.ndarray:
    """Values (N, channels, height, width) that codes (N, height, width, channels) stand for."""
    values = ((codes.astype(np.float64) - network.input.zero_point) * network.input.scale).astype(np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def _values(source: FileInput, codes: np.ndarray) -> np.ndarray:
    """Values that a file takes and its own first operators make these codes of: (N, *shape).

    Raises
    ------
    ValueError
        When there are codes that it makes of no value.
    """
    if source.dtype == "UINT8":
        every = np.arange(256, dtype=np.uint8)
        filled = np.resize(every, (-(-256 // max(1, int(np.prod(source.shape)))), *source.shape))
        reached = dict(zip(source.codes(filled).reshape(-1)[:256].tolist(), every.tolist(), strict=False))
        lost = sorted(set(np.unique(codes).tolist()) - set(reached))
        require(not lost, f"{source.name}: the file makes codes {shown(lost)} of no uint8 value")
        values = np.vectorize(reached.get, otypes=[np.uint8])(codes)
    elif source.dtype == "FLOAT32":
        values = ((codes.astype(np.float64) - source.zero_point) * source.scale).astype(np.float32)
    else:
        values = codes
    values = values.reshape(len(codes), *source.shape)
    require(np.array_equal(source.codes(values), codes), f"{source.name}: these images can't be given to the file")
    return values


def _signed(codes: np.ndarray) -> np.ndarray:
    """Codes of uint8 less 128."""
    return (codes.astype(np.int16) - 128).astype(np.int8) if codes.dtype == np.uint8 else codes


def _interpreter(model: bytes) -> Callable[[np.ndarray, Iterable[int]], dict[int, np.ndarray]]:
    """A function that gives tensors of a file, by number, for a batch of images, one run each."""
    with installed("LiteRT", "ai-edge-litert"):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    _check_runs(model)
    interpreter: Any = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    taken = interpreter.get_input_details()[0]
    batch = taken["shape"][0]
    require(batch == 1, f"a file for {batch} images at a time can't be compared: export it for 1")

    def run(values: np.ndarray, numbers: Iterable[int]) -> dict[int, np.ndarray]:
        made: dict[int, list[np.ndarray]] = {number: [] for number in numbers}
        for image in values:
            interpreter.set_tensor(taken["index"], image[np.newaxis].reshape(taken["shape"]))
            interpreter.invoke()
            for number, found in made.items():
                found.append(interpreter.get_tensor(number).copy())
        return {number: np.stack(found).reshape(len(found), -1) for number, found in made.items()}

    return run


def _check_runs(model: bytes) -> None:
    """Refuse a file that LiteRT can't run. It is tried in a process of its own, which LiteRT ends at some of them.

    Modules aren't looked for in the folder that the user happens to be in (``-P``).
    """
    ran = subprocess.run([sys.executable, "-P", "-c", _TRIAL], input=model, capture_output=True, check=False)
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip().splitlines()[-1:]
        reason = "it ends its process" if ran.returncode < 0 or not said else said[0]
        raise UnableError(f"LiteRT's reference kernels can't run the file: {reason}")
