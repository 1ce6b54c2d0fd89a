"""A file's ONNX model with all its weights, believing nothing; with the package ``onnx`` alone.

Weights may lie in other files, beside it or below its folder, never elsewhere. What a file says is checked before
anything of its size is made: a claim of gigabytes costs nothing.
"""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.rules import require, shown

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

__all__ = ["files_beside", "open_model"]

_LARGEST = 1 << 28  # bytes of a file, and of all weights
_STRUCTURE = 1 << 24  # bytes of a file that aren't weights; parsed, they grow some twenty times
_FIELDS = 1 << 18  # of a graph, and of what its nodes hold
#: Numbers of fields in onnx.proto: of a model its graph, of a graph nodes and initializers, of a node attributes, of
#: an attribute its tensor, of a tensor contents that parsed are as long as they were.
_GRAPH, _NODE, _INITIALIZER, _ATTRIBUTE, _TENSOR, _CONTENTS = 7, 1, 5, 5, 5, (4, 9, 10)


def open_model(path: Path) -> "ModelProto":
    """A file's model with all its weights in it, its sizes checked and nothing else.

    Raises
    ------
    ValueError
        When the file or one with weights can't be read, is no ONNX file, or is too large.
    """
    import onnx

    model = _parsed(path)
    left = _LARGEST
    for tensor in _tensors(model):
        left -= _size(tensor)
        require(left >= 0, f"weights must take at most {_LARGEST} bytes together, not more")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load(tensor, path)
    return model


def files_beside(path: Path) -> set[Path]:
    """Files with weights of a file's model; none of a file that can't be read."""
    try:
        tensors = list(_tensors(_parsed(path)))
    except (ValueError, ModuleNotFoundError):
        return set()
    said = (entry for tensor in tensors for entry in tensor.external_data)
    return {path.parent / entry.value for entry in said if entry.key == "location" and "\0" not in entry.value}


def _parsed(path: Path) -> "ModelProto":
    """A file's model without the weights beside it."""
    import onnx
    from google.protobuf.message import DecodeError

    data = _contents(path, 0, None)
    if _structure(data) > _STRUCTURE:
        raise ValueError(f"an ONNX file must hold at most {_STRUCTURE} bytes besides its weights, not more")
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ValueError("must be an ONNX file, not damaged or of another kind") from error
    require(model.HasField("graph"), "must be an ONNX file with a graph, not of another kind")
    require(all(isinstance(name, str) for name in _names(model)), "names must be texts in UTF-8, not other bytes")
    return model


def _contents(path: Path, offset: int, length: int | None) -> bytes:
    """Bytes of a file, all of them without a length."""
    try:
        if not path.is_file():
            raise ValueError("cannot be read: must be a file that exists")
        end = path.stat().st_size
        length = end - offset if length is None else length
        if length > _LARGEST:
            raise ValueError(f"files must be at most {_LARGEST} bytes, not {length}")
        if not 0 <= offset <= offset + length <= end:
            raise ValueError(f"{path.name} must hold bytes {offset} to {offset + length}, not {end} in all")
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def _fields(data: memoryview, left: list[int]) -> Iterator[tuple[int, memoryview]]:
    """Numbers and contents of a message's fields that have a length; what isn't a message ends it."""
    offset = 0
    while offset < len(data):
        left[0] -= 1
        require(left[0] >= 0, f"a graph must have at most {_FIELDS} nodes, weights and attributes, not more")
        key, offset = _varint(data, offset)
        kind = key & 7
        if kind == 2:
            length, offset = _varint(data, offset)
            yield key >> 3, data[offset : offset + length]
            offset += length
        elif kind == 0:
            _, offset = _varint(data, offset)
        elif kind in (1, 5):
            offset += 8 if kind == 1 else 4
        else:
            return


def _varint(data: memoryview, offset: int) -> tuple[int, int]:
    """A number at an offset, and the offset behind it; whether it's whole is for the parser to say."""
    value, shift = 0, 0
    while offset < len(data) and shift < 70:
        value |= (data[offset] & 127) << shift
        offset, shift = offset + 1, shift + 7
        if data[offset - 1] < 128:
            break
    return value, offset


def _structure(data: bytes) -> int:
    """How many bytes of a file aren't weights."""
    left, whole = [_FIELDS], len(data)
    for number, graph in _fields(memoryview(data), left):
        for kind, part in _fields(graph, left) if number == _GRAPH else ():
            tensors = [part] if kind == _INITIALIZER else []
            if kind == _NODE:
                attributes = (inner for n, inner in _fields(part, left) if n == _ATTRIBUTE)
                tensors = [tensor for inner in attributes for n, tensor in _fields(inner, left) if n == _TENSOR]
            for tensor in tensors:
                whole -= sum(len(field) for n, field in _fields(tensor, left) if n in _CONTENTS)
    return whole


def _names(model: "ModelProto") -> Iterator[Any]:
    """Every name that is read; what isn't UTF-8 is bytes."""
    graph = model.graph
    yield from (value.name for value in (*graph.input, *graph.output))
    yield from (entry.domain for entry in model.opset_import)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)
    for tensor in _tensors(model):
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)


def _tensors(model: "ModelProto") -> Iterator["TensorProto"]:
    """Initializers, and tensors of attributes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _size(tensor: "TensorProto") -> int:
    """Bytes of a tensor's elements, as arrays have them."""
    import onnx

    what = f"tensor {shown(tensor.name)}"
    if tensor.HasField("segment") or tensor.data_type not in onnx.TensorProto.DataType.values():
        raise ValueError(f"{what} must be whole and of a type of ONNX's, not {tensor.data_type} or a segment")
    if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        raise ValueError(f"{what} must hold numbers, not {onnx.TensorProto.DataType.Name(tensor.data_type)}")
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"{what} must have sizes of 0 or more, not {shown(list(tensor.dims))}")
    return math.prod(tensor.dims) * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _load(tensor: "TensorProto", path: Path) -> None:
    """Read a tensor's contents from the file beside the model that it names."""
    import onnx

    what = f"tensor {shown(tensor.name)}"
    said = {entry.key: entry.value for entry in tensor.external_data}
    unknown = sorted(said.keys() - {"location", "offset", "length", "checksum"})
    if unknown or not said.get("location"):
        raise ValueError(f"{what} must name location, offset, length and checksum of its file, not {shown(unknown)}")
    folder = path.resolve().parent
    beside = (folder / said["location"]).resolve() if "\0" not in said["location"] else folder
    if Path(said["location"]).is_absolute() or not beside.is_relative_to(folder) or beside == folder:
        raise ValueError(f"{what} must lie in a file beside the model's, not in {shown(said['location'])}")
    numbers = {key: said[key] for key in ("offset", "length") if key in said}
    for key, value in numbers.items():
        if not (value.isascii() and value.isdigit() and len(value) < 20):
            raise ValueError(f"{what}: {key} must be a number of bytes, not {shown(value)}")
    length = _size(tensor)
    if tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):  # two to a byte
        length = (length + 1) // 2
    if int(numbers.get("length", length)) != length:
        raise ValueError(f"{what}: length must be {length} bytes, not {numbers['length']}")
    contents = _contents(beside, int(numbers.get("offset", 0)), length)
    if "checksum" in said and hashlib.sha1(_contents(beside, 0, None)).hexdigest() != said["checksum"].lower():
        raise ValueError(f"{what}: {beside.name} must have the checksum that the model says, not another")
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT
    tensor.raw_data = contents
