"""The edges of a TensorFlow Lite file: how a user's values become codes, and what logits are of the file's outputs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from hw.network.network import Tensor
from hw.numerics import Rounding, requantize
from models.frontends.identities import ONE_VALUE, own_logits
from models.frontends.tflite.assembly import Assembly
from models.frontends.tflite.file import Operator, Subgraph
from models.frontends.tflite.rounding import channel_scale, real_rounded

__all__ = [
    "BEHIND",
    "End",
    "FileInput",
    "FileOutput",
    "end_of",
    "file_input",
    "first_codes",
    "needed",
    "refusal",
    "view",
]

#: Operators that give values on in the same order.
_VIEWS = ("EXPAND_DIMS", "RESHAPE", "SQUEEZE")
#: Operators behind the logits: they keep the order of the values.
BEHIND = ("DEQUANTIZE", "LOGISTIC", "SOFTMAX")


@dataclass(frozen=True, kw_only=True)
class FileInput:
    """What the file takes.

    Parameters
    ----------
    name : str
        Of the file's input.
    dtype : str
        ``INT8``, ``UINT8`` or ``FLOAT32``.
    shape : tuple of int
        Of one input, without the batch.
    scale, zero_point : float, int
        Real value of a step, and code of the real zero: of UINT8 values as they are, otherwise of the network's codes.
    image : Tensor
        The network's input.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    image: Tensor

    def codes(self, values: np.ndarray) -> np.ndarray:
        """The network's images, as the file's QUANTIZE makes them of what the file takes.

        Parameters
        ----------
        values : array (N, *shape)
            Of ``dtype``; for FLOAT32 of any real type.

        Returns
        -------
        int8 array (N, height, width, channels)

        Raises
        ------
        ValueError
            When the values have another type or shape, or are no numbers.
        """
        dtype = {"INT8": "int8", "UINT8": "uint8"}.get(self.dtype, str(values.dtype))
        real = np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)
        if str(values.dtype) != dtype or not real or values.shape[1:] != self.shape:
            wanted = "real" if self.dtype == "FLOAT32" else dtype
            raise ValueError(
                f"{self.name}: values must be {wanted} of shape (N, {', '.join(map(str, self.shape))}), not "
                f"{values.dtype} of shape {values.shape}"
            )
        if self.dtype == "INT8":
            codes = values
        elif self.dtype == "UINT8":
            power, scale = channel_scale(self.scale / self.image.scale)
            activations = (np.arange(256) - self.zero_point) * power
            table = requantize(activations, *scale, Rounding.DOUBLE) + self.image.zero_point
            codes = table.clip(-128, 127).astype(np.int8)[values]
        else:
            if np.isnan(values).any():
                raise ValueError(f"{self.name}: values must be numbers, not NaN")
            with np.errstate(over="ignore"):
                steps = (values.astype(np.float32) / np.float32(self.scale)).clip(-512, 512)
            whole = np.trunc(steps)
            whole += np.copysign(np.abs(steps - whole) >= 0.5, steps)
            codes = (whole + self.zero_point).clip(-128, 127).astype(np.int8)
        return codes.reshape(len(values), *self.image.shape)


@dataclass(frozen=True, kw_only=True)
class FileOutput:
    """What an exit's logits are in the file.

    Parameters
    ----------
    name : str
        Of the file's output.
    number : int
        Of the tensor that the logits stand for: the output, or what the operators behind it begin with.
    head : str
        The layer that delivers the logits.
    shape : tuple of int
        Of the tensor, without the batch.
    scale, zero_point : float, int
        Of the tensor's int8 codes; those of UINT8 are taken less 128.
    accumulators : Tensor or None
        The head's output where it delivers accumulators; None: the codes less the zero point.
    behind : tuple of str
        Operators from there to the file's output, which keep the order of the values and aren't computed.
    """

    name: str
    number: int
    head: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    accumulators: Tensor | None
    behind: tuple[str, ...]

    def codes(self, logits: np.ndarray) -> np.ndarray:
        """The tensor's int8 codes.

        Parameters
        ----------
        logits : int64 array (N, logits)

        Returns
        -------
        int8 array (N, *shape)
        """
        steps = own_logits(logits, prod(self.shape))
        if self.accumulators is not None:
            steps = real_rounded(steps, self.accumulators.scale / self.scale)
        return (steps + self.zero_point).clip(-128, 127).astype(np.int8).reshape(-1, *self.shape)

    def note(self) -> str:
        """One sentence: what the classes are."""
        if prod(self.shape) == 1:
            first = f"output {self.name} is {ONE_VALUE}"
        elif self.accumulators is not None:
            first = (
                f"classes of output {self.name} are those of its accumulators: where two int8 codes of the file are "
                "equal, its argmax may name another class"
            )
        else:
            first = f"classes of output {self.name} are those of its int8 codes, ties included"
        order = [name for name in self.behind if name in ("LOGISTIC", "SOFTMAX")]
        return f"{first}; {' and '.join(order)} behind them {'are' if order[1:] else 'is'} left out" if order else first


@dataclass(frozen=True, kw_only=True)
class End:
    """An output of the file, the tensor that its values come from, and the operators between, in order."""

    output: int
    number: int
    behind: tuple[str, ...]


def end_of(graph: Subgraph, writers: Mapping[int, Operator], output: int) -> End:
    """Where the operators begin that keep the order of an output's values."""
    number, behind = output, list[str]()
    while number in writers and len(behind) <= len(graph.operators):
        operator = writers[number]
        first = operator.inputs[0] if operator.inputs else -1
        kept = operator.name == "QUANTIZE" and _same_codes(graph, first, number)
        mixes = operator.name == "SOFTMAX" and not (_rises(operator) and _is_flat(graph, first))
        if operator.objections or mixes or not (operator.name in (*BEHIND, *_VIEWS) or kept):
            break
        behind.insert(0, operator.name)
        number = first
    return End(output=output, number=number, behind=tuple(behind))


def refusal(operator: Operator) -> str:
    """Why an operator that keeps the order of values isn't followed where it stands."""
    if operator.name == "SOFTMAX" and not _rises(operator):
        return f"SOFTMAX with beta {operator.options['beta']}; nearest: above 0"
    if operator.name == "SOFTMAX":
        return "SOFTMAX before the end, or over the channels of a map; nearest: at the end only, over all values"
    return f"{operator.name} before the end; nearest: at the end only"


def _rises(operator: Operator) -> bool:
    """Whether a SOFTMAX keeps the order of the logits."""
    return bool(0 < operator.options["beta"] < np.inf)


def _is_flat(graph: Subgraph, number: int) -> bool:
    """Whether all values of an image are along a tensor's last axis, over which a SOFTMAX is."""
    shape = graph.tensors[number].shape
    return shape[-1:] == (prod(shape[1:]),)


def _same_codes(graph: Subgraph, first: int, second: int) -> bool:
    """Whether a QUANTIZE from INT8 to UINT8 only adds 128."""
    before, after = graph.tensors[first], graph.tensors[second]
    return (
        (before.dtype, after.dtype) == ("INT8", "UINT8")
        and before.scales.tolist() == after.scales.tolist()
        and (before.zero_points + 128).tolist() == after.zero_points.tolist()
    )


def first_codes(graph: Subgraph) -> tuple[int, int]:
    """The tensor that holds the network's first codes, and the one whose shape is the image's.

    Behind the input are operators that change its shape, and of values that aren't INT8 a QUANTIZE. Of the shapes that
    other operators read the image has that of four dimensions.
    """
    start = graph.inputs[0]
    reached, codes, shapes = {start}, start, list[int]()
    coded = graph.tensors[start].dtype == "INT8"
    for operator in graph.operators:
        if not operator.inputs or operator.inputs[0] not in reached:
            shapes += [number for number in operator.inputs if number in reached]
        elif operator.name in _VIEWS:
            reached.update(operator.outputs)
        elif operator.name == "QUANTIZE" and not coded and graph.tensors[operator.inputs[0]].dtype != "INT8":
            codes = operator.outputs[0] if codes == start else codes
            reached.update(operator.outputs)
        else:
            shapes += [number for number in operator.inputs if number in reached]
    shapes = [number for number in (*shapes, start) if graph.tensors[number].shape[:1] == (1,)]
    shapes.sort(key=lambda number: {4: 0, 2: 1, 3: 1}.get(len(graph.tensors[number].shape), 2))
    return codes, (shapes or [start])[0]


def view(found: Assembly, operator: Operator) -> None:
    """A RESHAPE, SQUEEZE or EXPAND_DIMS: the same values in the same order."""
    name, source = operator.name, found.source(operator, coded=False)
    before, after = (found.tensors[number] for number in (operator.inputs[0], operator.outputs[0]))
    if prod(before.shape) != prod(after.shape):
        raise ValueError(f"{name} from {list(before.shape)} to {list(after.shape)}")
    # It gives codes on as they are: they would mean something else.
    if (before.dtype, before.scales.tolist(), before.zero_points.tolist()) != (
        after.dtype,
        after.scales.tolist(),
        after.zero_points.tolist(),
    ):
        raise ValueError(f"{name} to another scale or zero point")
    if name == "RESHAPE" and (asked := _asked(found, operator)) != []:
        sizes = list(after.shape)
        known = asked is not None and len(asked) == len(sizes) and asked.count(-1) <= 1
        if not known or asked is None or any(a not in (-1, b) for a, b in zip(asked, sizes, strict=True)):
            raise ValueError(f"RESHAPE to {asked or 'a computed shape'} of a tensor of shape {sizes}")
    found.same(operator, source)


def _asked(found: Assembly, operator: Operator) -> list[int] | None:
    """What a RESHAPE asks for: nothing, sizes of which one may be -1, or None when it is only known later."""
    if len(operator.inputs) < 2:
        shape: list[int] = operator.options["shape"]
        return shape
    data = found.tensors[operator.inputs[1]].data
    return None if data is None else [int(size) for size in data.reshape(-1)[:9]]


def needed(writers: Mapping[int, Operator], numbers: Iterable[int]) -> set[int]:
    """Positions of the operators that tensors are computed by."""
    found: set[int] = set()
    left = list(numbers)
    while left:
        operator = writers.get(left.pop())
        if operator is not None and operator.position not in found:
            found.add(operator.position)
            left += operator.inputs
    return found


def file_input(found: Assembly, number: int, image: Tensor) -> FileInput:
    """What a file takes with its tensor of this number, of which the image is made."""
    tensor, scale, zero_point = found.tensors[number], image.scale, image.zero_point
    if tensor.dtype == "UINT8":
        scale, zero_point = found.quantization(number)
        zero_point += 128
        channel_scale(scale / image.scale)
    return FileInput(
        name=tensor.name, dtype=tensor.dtype, shape=tensor.shape[1:], scale=scale, zero_point=zero_point, image=image
    )
