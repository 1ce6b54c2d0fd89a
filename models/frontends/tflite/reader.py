"""Reads a fully int8 TensorFlow Lite file (schema version 3) into an integer network.

Every tensor of the network equals what LiteRT's *reference* kernels compute, bit for bit, up to the heads. A head that
is a FULLY_CONNECTED with one weight scale delivers its raw accumulators, because an exit decision wants full
resolution: their order is that of the logits, but where requantization makes two int8 outputs equal, the file's argmax
may name another class. Any other output is delivered as its int8 codes, ties included. SOFTMAX, LOGISTIC, DEQUANTIZE
and what changes only a shape are dropped behind the logits: they keep their order.

What operators become: :mod:`models.frontends.tflite.layers`, :mod:`models.frontends.tflite.elementwise`; what stands
before the first codes and behind the logits: :mod:`models.frontends.tflite.edges`.

A TFLite file carries no checksum: damage within the weights can't be noticed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from hw.network.layers import is_raw
from hw.network.network import INPUT, NEVER, Exit, Layer, Network, Tensor
from hw.rules import shown
from models.frontends.identities import MAX_OUTPUTS, raw_output, runnable
from models.frontends.tflite.assembly import Assembly, TooManyWeightsError, UnknownTensorError, bound
from models.frontends.tflite.edges import (
    BEHIND,
    End,
    FileInput,
    FileOutput,
    end_of,
    file_input,
    first_codes,
    needed,
    refusal,
    view,
)
from models.frontends.tflite.elementwise import ELEMENTWISE
from models.frontends.tflite.file import Operator, Subgraph, parse
from models.frontends.tflite.layers import LAYERS

__all__ = ["Imported", "imported", "read"]

_OPERATORS = LAYERS | ELEMENTWISE | dict.fromkeys(("EXPAND_DIMS", "RESHAPE", "SQUEEZE"), view)
#: What comes near operators that aren't followed.
_NEAREST = {
    "ARG_MAX": "to leave it out, the logits that it reads say which class it is",
    "BATCH_MATMUL": "FULLY_CONNECTED with constant weights",
    "BATCH_TO_SPACE_ND": "CONV_2D with dilation",
    "DIV": "MUL by a constant",
    "ELU": "RELU",
    "GELU": "RELU",
    "HARD_SWISH": "RELU6",
    "L2_POOL_2D": "AVERAGE_POOL_2D",
    "LEAKY_RELU": "RELU",
    "LOG_SOFTMAX": "SOFTMAX at the end",
    "MAXIMUM": "RELU",
    "MINIMUM": "RELU6",
    "MIRROR_PAD": "PAD",
    "PACK": "CONCATENATION",
    "PRELU": "RELU",
    "REDUCE_MAX": "MAX_POOL_2D",
    "RESIZE_BILINEAR": "AVERAGE_POOL_2D",
    "SLICE": "CONV_2D with weights of 0 and 1",
    "SPACE_TO_BATCH_ND": "CONV_2D with dilation",
    "SPLIT": "CONV_2D with weights of 0 and 1",
    "SPLIT_V": "CONV_2D with weights of 0 and 1",
    "STRIDED_SLICE": "CONV_2D with weights of 0 and 1",
    "SUM": "MEAN",
    "TANH": "RELU_N1_TO_1",
    "TRANSPOSE_CONV": "CONV_2D",
}
#: What comes near any other.
_USUAL = "CONV_2D, FULLY_CONNECTED, ADD or a pool"
#: Operators that one reason names.
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A network and how it stands to the file that it was read from.

    Parameters
    ----------
    network : Network
    source : FileInput
        What the file takes, and how that becomes the network's images.
    outputs : tuple of FileOutput
        One per exit: what its logits are in the file.
    tensors : dict of str to int
        The number of the file's tensor that a layer's codes equal, UINT8 less 128; heads and helpers aren't in it.
    notes : tuple of str
        Sentences: what the classes are, and what of the file isn't in the network.
    """

    network: Network
    source: FileInput
    outputs: tuple[FileOutput, ...]
    tensors: dict[str, int]
    notes: tuple[str, ...]


def read(path: Path | str, *, output: str | None = None) -> Network:
    """The network of a TFLite file. A layer's name is its kind and its operator's position in the file: ``conv2d_0``.

    Parameters
    ----------
    output : str or None
        Name of the output that the network computes. None: all of them, as exits, where they are classifiers of the
        same classes; otherwise the last.

    Raises
    ------
    ValueError
        When the file can't be read, is damaged, or holds what isn't supported: one message names all of it.
    ModuleNotFoundError
        When the package ``tflite`` isn't installed.
    """
    return imported(path, output=output).network


def imported(path: Path | str, *, output: str | None = None) -> Imported:
    """As :func:`read`, with what else there is to know of the file."""
    path = Path(path)
    graph = parse(path)
    try:
        return _imported(path.stem, graph, output)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _imported(name: str, graph: Subgraph, output: str | None) -> Imported:
    if len(graph.inputs) != 1 or not graph.outputs:
        raise ValueError(
            f"a network must have one input and an output or more, not {len(graph.inputs)} and {len(graph.outputs)}"
        )
    writers = {number: operator for operator in graph.operators for number in operator.outputs if number >= 0}
    ends, notes = _chosen(graph, [end_of(graph, writers, number) for number in graph.outputs], output)
    found = _assembled(graph, ends, needed(writers, [end.number for end in ends]))
    image = found.image_map
    made, outputs = _heads(found, graph, ends)
    layers = runnable(image, made)
    order = [layer.name for layer in layers]
    outputs.sort(key=lambda end: order.index(end.head))
    last = len(outputs) - 1
    network = Network(
        name=name,
        input=image,
        layers=layers,
        exits=tuple(
            Exit(logits=end.head, threshold=None if number == last else NEVER) for number, end in enumerate(outputs)
        ),
        classes=next(layer.output.shape[2] for layer in layers if layer.name == outputs[-1].head),
    )
    return Imported(
        network=network,
        source=file_input(found, graph.inputs[0], image),
        outputs=tuple(outputs),
        tensors={layer: number for layer, number in found.made.items() if layer not in {o.head for o in outputs}},
        notes=(*(end.note() for end in outputs), *notes),
    )


def _chosen(graph: Subgraph, ends: Sequence[End], output: str | None) -> tuple[list[End], list[str]]:
    """The outputs that the network computes, and what is said of the others."""
    names = [graph.tensors[end.output].name for end in ends]
    if output is not None:
        if names.count(output) != 1:
            raise ValueError(f"output must be one of {', '.join(map(shown, names[:_SHOWN]))}, not {shown(output)}")
        chosen = [ends[names.index(output)]]
    else:
        shapes = [graph.tensors[end.number].shape for end in ends]
        counts = {prod(shape) for shape in shapes}
        classes = all(shape and prod(shape) == shape[-1] > 1 for shape in shapes)
        exits = classes and len(counts) == 1 and len({end.number for end in ends}) == len(ends)
        chosen = list(ends) if exits else [ends[-1]]
    left = [name for name, end in zip(names, ends, strict=True) if end not in chosen]
    notes = [f"output {name} isn't computed" for name in left[:_SHOWN]]
    if len(chosen) > 1:
        notes.append("every output is an exit that is never taken before the last: give thresholds to leave early")
    return chosen, notes


def _assembled(graph: Subgraph, ends: Sequence[End], wanted: set[int]) -> Assembly:
    """The layers of the operators at these positions; one error names everything that isn't supported."""
    readers = [0] * len(graph.tensors)
    for number in [
        *(end.number for end in ends),
        *(number for o in graph.operators if o.position in wanted for number in o.inputs if number >= 0),
    ]:
        readers[number] += 1
    found = Assembly(graph, readers, {end.number for end in ends if readers[end.number] == 1})
    reasons: dict[str, list[str]] = {objection: [] for objection in graph.objections}
    _begin(found, graph, reasons)
    written = set(graph.inputs)
    for operator in graph.operators:
        where = f"operator {operator.position} {_named(graph, operator)}"
        for number in operator.outputs:
            if number >= 0 and (number in written or graph.tensors[number].data is not None):
                reason = f"{operator.name} that writes {found.label(number)}, which holds something already"
                reasons.setdefault(reason, []).append(where)
        written.update(operator.outputs)
        if operator.position in wanted:
            for reason in _followed(found, operator):
                reasons.setdefault(reason, []).append(where)
    for end in ends:
        if not found.has(end.number):
            reasons[f"output {found.label(end.number)} must be computed by an operator"] = []
        elif (count := prod(graph.tensors[end.number].shape)) > MAX_OUTPUTS:
            reasons[f"output {found.label(end.number)} must have at most {MAX_OUTPUTS} values, not {count}"] = []
    if reasons:
        raise ValueError(f"unsupported: {'; '.join(_listed(reason, where) for reason, where in reasons.items())}")
    return found


def _named(graph: Subgraph, operator: Operator) -> str:
    """The name of what an operator writes."""
    return shown(graph.tensors[operator.outputs[0]].name) if operator.outputs and operator.outputs[0] >= 0 else ""


def _listed(reason: str, where: Sequence[str]) -> str:
    """A reason with the operators that it is of."""
    more = f", {len(where) - _SHOWN} more" if len(where) > _SHOWN else ""
    return f"{reason} ({', '.join(where[:_SHOWN])}{more})" if where else reason


def _begin(found: Assembly, graph: Subgraph, reasons: dict[str, list[str]]) -> None:
    """Take the network's input."""
    start, (codes, shape) = graph.inputs[0], first_codes(graph)
    try:
        scale, zero_point = found.quantization(codes)
        if graph.tensors[codes].dtype != "INT8":
            raise ValueError(f"{found.label(codes)} must be INT8, or become so by a QUANTIZE, not UINT8")
        image = Tensor(shape=found.shape(shape), scale=scale, zero_point=zero_point)
        image.check(found.label(start))
        bound(prod(image.shape), found.label(start))
        if prod(image.shape) != prod(graph.tensors[start].shape):
            raise ValueError(f"{found.label(start)} must be a batch of one map, not {list(graph.tensors[start].shape)}")
        found.begin(start, image)
    except ValueError as error:
        reasons[str(error)] = []
        found.unknown([start])


def _followed(found: Assembly, operator: Operator) -> list[str]:
    """Make an operator's layers; returns why that can't be."""
    reasons = list(operator.objections)
    for number in (n for n in (*operator.inputs, *operator.outputs) if n >= 0):
        reasons += [f"{found.label(number)} {reason}" for reason in found.tensors[number].objections]
    if operator.name in BEHIND and not reasons:
        reasons.append(refusal(operator))
    elif operator.name not in (*_OPERATORS, *BEHIND):
        reasons.append(f"{operator.name}; nearest: {_NEAREST.get(operator.name, _USUAL)}")
    if not reasons:
        try:
            _OPERATORS[operator.name](found, operator)
        except UnknownTensorError:
            found.refused(operator.outputs)
        except TooManyWeightsError:
            raise
        except ValueError as error:
            reasons.append(str(error))
    if reasons:
        found.refused(operator.outputs)
    return list(dict.fromkeys(reasons))


def _heads(found: Assembly, graph: Subgraph, ends: Sequence[End]) -> tuple[list[Layer], list[FileOutput]]:
    """All layers with the heads among them, each behind what it reads, and what their logits are."""
    outputs, heads = [], dict[str, list[Layer]]()
    for end in ends:
        view = found.whole(end.number)
        layer = next((layer for layer in found.layers if layer.name == view.name), None)
        raw = is_raw(layer)
        head = layer
        if not raw:
            head = raw_output(f"output_{end.number}", view.name, view.map, channels_first=False)
            heads.setdefault(view.name, []).append(head)
        assert head is not None
        scale, zero_point = found.quantization(end.number)
        outputs.append(
            FileOutput(
                name=graph.tensors[end.output].name,
                number=end.number,
                head=head.name,
                shape=graph.tensors[end.number].shape[1:],
                scale=scale,
                zero_point=zero_point,
                accumulators=head.output if raw else None,
                behind=end.behind,
            )
        )
    layers = list(heads.get(INPUT, []))
    for layer in found.layers:
        layers += [layer, *heads.get(layer.name, [])]
    return layers, outputs
