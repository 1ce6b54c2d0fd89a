"""Reads a file of ``torch.export.save`` (``.pt2``), believing nothing.

``torch.export.load`` unpickles what a file asks it to, evaluates its expressions, loads its compiled code, and says
itself that it must not be given a file of unknown origin. Here it gets a copy with nothing of that kind in it: an
archive that is written anew, of the graph and of tensors that lie in the file as plain numbers. What is trusted: the
readers of ZIP and JSON of Python, PyTorch's own reader of such a graph, and the operators named
``torch.ops.aten`` and ``torch.ops.quantized_decomposed`` themselves.
"""

import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers operators of quantized programs
from torch.export import ExportedProgram
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from hw.rules import first_line, require, shown

__all__ = ["read_program"]

_LARGEST = 1 << 30  # bytes of a file's entries
_ELEMENTS = 1 << 27  # of what an operator gives
_DEPTH = 100  # of JSON in JSON
_CONFIG = {"weights": "model_weights_config.json", "constants": "model_constants_config.json"}
_GRAPH = "models/model.json"
_TENSOR = re.compile(r"(weight|tensor)_\d{1,9}")
#: Small entries that say what the archive is; the rest is left out.
_MARKS = ("archive_format", "archive_version", "byteorder", ".data/version", "version")
_OPERATOR = re.compile(r"torch\.ops\.(aten|quantized_decomposed)\.\w{1,80}\.\w{1,80}|_operator\.getitem")
#: Sizes that depend on the number of images; no powers, which could be large.
_SIZE = re.compile(
    r"(?!.*\*\*)([su]\d{1,6}|Symbol\('[su]\d{1,6}'(, (positive|integer)=True)*\)|\d{1,9}|[-+*(), ]|//|Max|Min|Mod"
    r"|FloorDiv){1,100}"
)
_CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict", None)


def read_program(path: Path | str) -> ExportedProgram:
    """The program of a file.

    Raises
    ------
    ValueError
        When the file can't be read, is damaged, too large, or holds anything but a graph of PyTorch's operators and
        plain tensors; nothing of it has been run then.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive)
        clean = _clean(entries)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise ValueError(f"{path}: must be a whole file of torch.export.save: {first_line(error)}") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: must be a whole file of torch.export.save: {type(error).__name__}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {first_line(error)}") from error
    try:
        with _quiet():
            program = torch.export.load(clean)
            _check_sizes(program)
    except Exception as error:  # PyTorch's reader has no type of its own for a damaged file.
        raise ValueError(f"{path}: must be a whole file of torch.export.save: {first_line(error)}") from error
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is logged or printed inside: what is wrong with a file is said once."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _entries(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """What the entries hold, by their names below the archive's only folder."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    require(len(set(names)) == len(names), "names of an archive's entries must be unique")
    require(
        all(info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size for info in infos),
        "entries of a program's file must be stored as they are, not compressed",
    )
    size = sum(info.file_size for info in infos)
    require(size <= _LARGEST, f"a program's file must hold at most {_LARGEST} bytes, not {size}")
    folders = {name.partition("/")[0] for name in names}
    require(len(folders) == 1, f"a program's file must hold one folder, not {len(folders)}")
    found = {info.filename.partition("/")[2]: archive.read(info) for info in infos}
    require(
        found.get("archive_format") == b"pt2" and _GRAPH in found,
        f"must be a file of torch.export.save, with archive_format and {_GRAPH}",
    )
    return found


def _clean(entries: dict[str, bytes]) -> io.BytesIO:
    """An archive of the graph and its tensors alone, after both have been checked."""
    kept = {name: entries[name] for name in _MARKS if name in entries}
    graph = _json(entries[_GRAPH])
    _check_graph(graph)
    kept[_GRAPH] = json.dumps(graph).encode()
    kept["data/sample_inputs/model.pt"] = b""
    for folder, config in _CONFIG.items():
        payloads = _json(entries[f"data/{folder}/{config}"])
        for name, payload in payloads["config"].items():
            path = f"data/{folder}/{_record(name, payload)}"
            kept[path] = entries[path]
            _check_tensor(name, payload["tensor_meta"], len(kept[path]))
        kept[f"data/{folder}/{config}"] = json.dumps(payloads).encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, data in kept.items():
            archive.writestr(f"model/{name}", data)
    written.seek(0)
    return written


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise ValueError(f"must be a whole file of torch.export.save: {first_line(error)}") from error


def _record(name: str, payload: dict[str, Any]) -> str:
    """The entry that a tensor lies in."""
    path = payload["path_name"]
    require(
        payload["use_pickle"] is False and isinstance(path, str) and _TENSOR.fullmatch(path),
        f"{shown(name)}: a program's constants must be tensors as plain numbers, not pickled objects ({shown(path)})",
    )
    return str(path)


def _check_tensor(name: str, said: dict[str, Any], size: int) -> None:
    """Refuse a tensor that has more elements than its entry has bytes."""
    sizes = [each["as_int"] for each in said["sizes"]]
    require(
        all(isinstance(each, int) and each >= 0 for each in sizes) and prod(sizes) <= size,
        f"{shown(name)}: a tensor of {shown(sizes)} must have its numbers in the file, not {size} bytes",
    )
    require(said["device"]["type"] == "cpu", f"{shown(name)}: tensors must be on the CPU, not {shown(said['device'])}")


def _check_graph(graph: dict[str, Any]) -> None:
    """Refuse whatever isn't an operator on tensors, and drop what a graph doesn't need: guards, notes of tools."""
    graph["guards_code"] = []
    graph["graph_module"]["metadata"] = {}
    graph["graph_module"]["treespec_namedtuple_fields"] = {}
    for module in graph["graph_module"]["module_call_graph"]:
        signature = module["signature"]
        for name in ("in_spec", "out_spec") if signature else ():
            _check_containers(json.loads(signature[name])[1])
    _check_values(graph, 0)


def _check_containers(spec: dict[str, Any]) -> None:
    """Refuse inputs and outputs in any containers but those of Python."""
    require(
        spec["type"] in _CONTAINERS and (spec["context"] is None or re.fullmatch(r"null|\[[^{]*\]", spec["context"])),
        f"inputs and outputs must be tensors in tuples, lists or dicts, not in {shown(spec['type'])}",
    )
    for child in spec["children_spec"]:
        _check_containers(child)


def _check_values(value: Any, depth: int) -> None:
    """Refuse operators of others, objects, subgraphs and expressions, wherever in the graph they are."""
    require(depth <= _DEPTH, f"a graph must be nested at most {_DEPTH} deep")
    if isinstance(value, list):
        for each in value:
            _check_values(each, depth + 1)
    if not isinstance(value, dict):
        return
    if "inputs" in value and "target" in value:
        _check_operator(value["target"])
        own = value.get("metadata") or {}
        value["metadata"] = {key: own[key] for key in ("stack_trace", "nn_module_stack") if key in own}
    if "as_operator" in value:
        _check_operator(value["as_operator"])
    if "expr_str" in value:
        found = value["expr_str"]
        require(
            isinstance(found, str) and _SIZE.fullmatch(found), f"a size must be a sum or product, not {shown(found)}"
        )
    for key, each in value.items():
        refused = key in ("as_custom_obj", "custom_obj", "as_graph", "as_opaque") and each
        require(not refused, f"a program must hold tensors and operators alone, not {key}")
        if key != "metadata":
            _check_values(each, depth + 1)


def _check_operator(target: Any) -> None:
    require(
        isinstance(target, str) and _OPERATOR.fullmatch(target),
        f"operators must be of torch.ops.aten or torch.ops.quantized_decomposed, not {shown(target)}",
    )


def _check_sizes(program: ExportedProgram) -> None:
    """Refuse operators that give more than a network would, before they give it."""

    class Sizes(FakeTensorProp):
        def run_node(self, n: torch.fx.Node) -> Any:
            result = super().run_node(n)
            count = result.numel() if isinstance(result, torch.Tensor) else 0
            require(count <= _ELEMENTS, f"{n.name}: a map must have at most {_ELEMENTS} values, not {count}")
            return result

    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    Sizes(program.graph_module, inputs[0].meta["val"].fake_mode if inputs else None).propagate_dont_convert_inputs(
        *(node.meta["val"] for node in inputs)
    )
