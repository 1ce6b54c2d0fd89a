import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from models.frontends.quantized.program_file import read_program
from models.frontends.quantized.reader import import_quantized
from tests.models.frontends.quantized.quantized_programs import Quantized, difference, images, two_layers


class Touched:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture(scope="module")
def program():
    return torch.export.export(Quantized(two_layers), (torch.zeros(1, 2, 4, 4),))


@pytest.fixture(scope="module")
def entries(program):
    """What a file of the program holds."""
    file = io.BytesIO()
    torch.export.save(program, file)
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path, entries, **values):
    with zipfile.ZipFile(path, "w", **values) as archive:
        for name, data in entries.items():
            archive.writestr(f"net/{name}", data)
    return path


def changed(entries, name, change):
    """The entries with one that is JSON changed in place."""
    tree = json.loads(entries[name])
    change(tree)
    return entries | {name: json.dumps(tree).encode()}


def test_what_torch_saves_is_read(tmp_path, program):
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    read = read_program(path)
    network = import_quantized(read).network
    assert network.to_dict() == import_quantized(program).network.to_dict()
    found = difference(read, network, images(4, 4, 2))
    assert found.keys() == {"conv2d", "linear"}
    assert found["conv2d"].largest <= 1


def test_any_number_of_images_and_float_programs_are_read(tmp_path):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
    exported = torch.export.export(net, (torch.rand(4, 2, 4, 4),), dynamic_shapes={"input": {0: torch.export.Dim.AUTO}})
    torch.export.save(exported, tmp_path / "net.pt2")
    x = torch.rand(4, 2, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(read_program(tmp_path / "net.pt2").module()(x), net(x))


GRAPH, WEIGHTS, CONSTANTS = (
    "models/model.json", "data/weights/model_weights_config.json", "data/constants/model_constants_config.json",
)  # fmt: skip


def node(tree, operator):
    return next(each for each in tree["graph_module"]["graph"]["nodes"] if operator in each["target"])


def pickled(tree):
    next(iter(tree["config"].values()))["use_pickle"] = True


def opaque(tree):
    next(iter(tree["config"].values()))["path_name"] = "opaque_obj_0"


def custom(tree):
    tree["config"]["x"] = {"path_name": "custom_obj_0", "use_pickle": True}


def sized(tree):
    next(iter(tree["config"].values()))["tensor_meta"]["sizes"] = [{"as_int": 1 << 40}]


def elsewhere(tree):
    next(iter(tree["config"].values()))["path_name"] = "../constants/tensor_0"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (WEIGHTS, pickled, "a program's constants must be tensors as plain numbers, not pickled"),
        (WEIGHTS, opaque, "a program's constants must be tensors as plain numbers"),
        (WEIGHTS, elsewhere, "a program's constants must be tensors as plain numbers"),
        (WEIGHTS, sized, r"a tensor of \[1099511627776\] must have its numbers in the file, not 16 bytes"),
        (WEIGHTS, lambda tree: tree.clear(), "must be a whole file of torch.export.save: KeyError"),
        (GRAPH, lambda t: node(t, "conv2d").update(target="torch.hub.load"), "operators must be of torch.ops.aten or"),
        (GRAPH, lambda t: node(t, "conv2d").update(target="torch.ops.higher_order.cond"), "operators must be of"),
        (GRAPH, lambda t: node(t, "conv2d").update(target="#x.y"), "operators must be of torch.ops.aten or"),
        (GRAPH, lambda t: node(t, "conv2d").update(target=None), "operators must be of .*, not None"),
        (
            GRAPH,
            lambda t: t["graph_module"]["graph"]["sym_int_values"].update(
                s={"as_expr": {"expr_str": "__import__('os').abort()", "hint": None}}
            ),
            r"a size must be a sum or product, not .*__import__",
        ),
        (
            GRAPH,
            lambda t: t["graph_module"]["graph"]["sym_int_values"].update(
                s={"as_expr": {"expr_str": "9**9**9", "hint": None}}
            ),
            r"a size must be a sum or product, not '9\*\*9\*\*9'",
        ),
        (
            GRAPH,
            lambda t: node(t, "conv2d")["inputs"][0].update(arg={"as_custom_obj": {"name": "x"}}),
            "a program must hold tensors and operators alone, not as_custom_obj",
        ),
        (
            GRAPH,
            lambda t: t["graph_module"]["module_call_graph"][0]["signature"].update(
                in_spec=json.dumps([1, {"type": "os.path", "context": "null", "children_spec": []}])
            ),
            "inputs and outputs must be tensors in tuples, lists or dicts, not in 'os.path'",
        ),
        (GRAPH, lambda t: t.pop("graph_module"), "must be a whole file of torch.export.save: KeyError"),
        (GRAPH, lambda t: node(t, "conv2d")["inputs"].clear(), "must be a whole file of torch.export.save: "),
    ],
)  # fmt: skip
def test_a_file_that_holds_something_else_is_refused(tmp_path, entries, name, change, message):
    path = write(tmp_path / "net.pt2", changed(entries, name, change))
    with pytest.raises(ValueError, match=f"^{path}: .*{message}") as caught:
        read_program(path)
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(tmp_path, entries):
    """Neither what isn't needed nor what says that it is a pickle."""
    mark = tmp_path / "mark"
    data = pickle.dumps(Touched(mark))
    sample = entries | {"data/sample_inputs/model.pt": data, "data/aotinductor/model/x.so": data, "extra/x": data}
    read_program(write(tmp_path / "net.pt2", sample))
    for more in ({"data/weights/model.pt": data}, {"data/constants/model.pt": data}):
        read_program(write(tmp_path / "net.pt2", entries | more))
    for name in (WEIGHTS, CONSTANTS):
        path = write(tmp_path / "net.pt2", changed(entries, name, custom))
        with pytest.raises(ValueError, match="not pickled objects"):
            read_program(path)
    assert not mark.exists()


def test_guards_are_dropped(tmp_path, entries):
    """They are Python's code, which a module of the program would run."""
    path = write(tmp_path / "net.pt2", changed(entries, GRAPH, lambda t: t.update(guards_code=["1 / 0"])))
    assert not read_program(path)._guards_code


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        ("torch.ops.aten.ones.default", [{"as_ints": [1 << 40]}]),
        ("torch.ops.aten.ones.default", [{"as_ints": [1 << 14, 1 << 14]}]),
    ],
)
def test_operators_that_give_gigabytes_are_not_run(tmp_path, entries, operator, values):
    def change(tree):
        graph = tree["graph_module"]["graph"]
        meta = dict(next(iter(graph["tensor_values"].values())))
        graph["tensor_values"]["large"] = meta
        graph["nodes"].insert(
            0,
            {
                "target": operator,
                "inputs": [{"name": "size", "arg": values[0], "kind": 1}],
                "outputs": [{"as_tensor": {"name": "large"}}],
                "metadata": {},
                "is_hop_single_tensor_return": None,
                "name": "large",
            },
        )

    path = write(tmp_path / "net.pt2", changed(entries, GRAPH, change))
    with pytest.raises(ValueError, match=r"large: a map must have at most 134217728 values, not \d+"):
        read_program(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, _: path.write_bytes(b"PK\3\4" + b"x" * 100), "torch.export.save: File is not a"),
        (lambda path, _: path.write_bytes(pickle.dumps({})), "torch.export.save: File is not a"),
        (lambda path, _: None, "torch.export.save: .*No such file"),
        (lambda path, _: torch.save({"a": torch.zeros(1)}, path), "must be a file of torch.export.save, with"),
        (
            lambda path, found: write(path, found, compression=zipfile.ZIP_DEFLATED),
            "entries of a program's file must be stored as they are, not compressed",
        ),
        (lambda path, found: write(path, found | {GRAPH: b"{" * 100000}), "Expecting property name"),
        (lambda path, found: write(path, found | {GRAPH: b"[" * 100000}), "torch.export.save: RecursionError"),
        (lambda path, found: write(path, found | {GRAPH: b"\xff"}), "whole file of torch.export.save: 'utf-8' codec"),
        (
            lambda path, found: write(path, {name: data for name, data in found.items() if "weight_0" not in name}),
            "must be a whole file of torch.export.save: KeyError",
        ),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path, entries, make, message):
    path = tmp_path / "net.pt2"
    make(path, entries)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
        read_program(path)


def test_an_entry_with_a_wrong_checksum_is_refused(tmp_path, program):
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    data = path.read_bytes()
    place = data.index(np.arange(4, dtype=np.float32).tobytes())
    path.write_bytes(data[:place] + b"\1" + data[place + 1 :])
    with pytest.raises(ValueError, match=r"torch.export.save: Bad CRC-32"):
        read_program(path)
