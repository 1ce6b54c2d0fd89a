"""Files that are no model, hold more than they may, or reach for weights that aren't theirs."""

import hashlib
import re
import struct

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.frontends.onnx import proto
from models.frontends.onnx.proto import files_beside, open_model
from models.frontends.onnx.reader import read
from tests.models.frontends.onnx.onnx_models import model, node, saved

W = np.ones((2, 3, 3, 3), np.float32)
MAP = ("n", 3, 8, 8)


def plain():
    return model([node("Conv", "x w")], MAP, {"w": W})


def nested(data: bytes, field: int = 7) -> bytes:
    """A message within a field of another."""
    length = len(data)
    parts = bytearray([field << 3 | 2])
    while length >= 128:
        parts.append(length & 127 | 128)
        length >>= 7
    return bytes([*parts, length]) + data


def test_files_that_are_none(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(ValueError, match="cannot be read: must be a file that exists"):
        open_model(path)
    for data in (b"", b"\x80", b"not ONNX at all", struct.pack("<Q", 9) * 9, nested(b"\xff" * 40)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="must be an ONNX file"):
            open_model(path)
    path.write_bytes(saved(tmp_path, plain(), "other").read_bytes()[:-7])
    with pytest.raises(ValueError, match="must be an ONNX file, not damaged"):
        open_model(path)


def test_names_that_are_no_text(tmp_path):
    data = saved(tmp_path, plain()).read_bytes()
    (tmp_path / "net.onnx").write_bytes(data.replace(b"/Conv/y", b"/Conv/\xff"))
    with pytest.raises(ValueError, match="names must be texts in UTF-8, not other bytes"):
        open_model(tmp_path / "net.onnx")


def test_a_message_within_a_message_a_thousand_times(tmp_path):
    data = b""
    for _ in range(1000):  # a graph's node's attribute is a graph
        data = nested(nested(nested(data, 6), 5), 1)
    path = tmp_path / "net.onnx"
    path.write_bytes(nested(data))
    with pytest.raises(ValueError, match="must be an ONNX file"):
        open_model(path)


def test_what_would_grow_in_memory_is_not_parsed(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_bytes(nested(b"\x0a\x00" * (1 << 19)))  # nodes of nothing
    with pytest.raises(ValueError, match="at most 262144 nodes, weights and attributes"):
        open_model(path)
    path.write_bytes(nested(nested(b"\x0a\x00" * (1 << 23), 11)))  # an input with many names
    with pytest.raises(ValueError, match="at most 16777216 bytes besides its weights"):
        open_model(path)
    monkeypatch.setattr(proto, "_LARGEST", 100)
    with pytest.raises(ValueError, match="files must be at most 100 bytes"):
        open_model(path)


def external(folder, **said):
    """A model whose weights are in ``weights.bin``, or where it says."""
    data = W.tobytes()
    (folder / "weights.bin").write_bytes(b"\0" * 8 + data)
    made = plain()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": "weights.bin", "offset": "8", "length": str(len(data))} | said
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    return saved(folder, made)


def test_weights_beside_the_file(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    checksum = hashlib.sha1(b"\0" * 8 + W.tobytes()).hexdigest()
    for said in ({}, {"length": None, "checksum": checksum.upper()}):
        (tensor,) = open_model(external(folder, **said)).graph.initializer
        assert (tensor.data_location, len(tensor.external_data)) == (TensorProto.DEFAULT, 0)
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), W)
    read(folder / "net.onnx")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"location": "../weights.bin"}, "must lie in a file beside the model's, not in '../weights.bin'"),
        ({"location": "/etc/passwd"}, "beside the model's"),
        ({"location": "."}, "beside the model's"),
        ({"location": "a\0b"}, "beside the model's"),
        ({"location": "link.bin"}, "beside the model's"),
        ({"location": "none.bin"}, "must be a file that exists"),
        ({"location": None}, "must name location"),
        ({"offset": "-8"}, "offset must be a number of bytes, not '-8'"),
        ({"offset": "9"}, "weights.bin must hold bytes 9 to 225, not 224 in all"),
        ({"offset": "9" * 30}, "offset must be a number of bytes"),
        ({"length": str(1 << 40)}, "length must be 216 bytes, not 1099511627776"),
        ({"checksum": "0" * 40}, "must have the checksum that the model says"),
        ({"key": "value"}, "not ['key']"),
    ],
)
def test_weights_elsewhere_are_refused(tmp_path, said, message):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(b"\0" * 300)
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ValueError, match=re.escape(message)):
        open_model(external(folder, **said))


def test_weights_of_four_bits_take_half_a_byte_each(tmp_path):
    made, codes = plain(), bytes([0x21, 0xF3, 0x05])  # 1, 2, 3, -1, 5
    made.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.INT4, [5], codes, raw=True))
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(codes)
    (found,) = open_model(saved(tmp_path, made)).graph.initializer
    assert numpy_helper.to_array(found).astype(int).tolist() == [1, 2, 3, -1, 5]


def test_weights_that_all_attributes_and_initializers_hold_count_together(tmp_path, monkeypatch):
    made = model([node("Constant", "", "c", value=numpy_helper.from_array(W)), node("Conv", "x w")], MAP, {"w": W})
    path = saved(tmp_path, made)
    monkeypatch.setattr(proto, "_LARGEST", 2 * W.nbytes + len(path.read_bytes()))
    open_model(path)
    made.graph.initializer[0].dims[0] += 1000  # claimed, not held
    monkeypatch.setattr(proto, "_LARGEST", 1002 * W.nbytes // 2 + W.nbytes - 1)
    with pytest.raises(ValueError, match=r"weights must take at most \d+ bytes together, not more"):
        open_model(saved(tmp_path, made))


@pytest.mark.parametrize("raw", [True, False])
def test_only_what_is_no_weight_counts_as_structure(tmp_path, monkeypatch, raw):
    """Weights of initializers and of attributes, in bytes or in floats, may be larger than all else."""
    values = np.arange(1000, dtype=np.float32)
    tensor = numpy_helper.from_array(values, "w")
    if not raw:
        tensor = helper.make_tensor("w", TensorProto.FLOAT, values.shape, values)
    made = model([node("Constant", "", "c", value=tensor), node("Relu", "x")], MAP, {"v": values})
    path = saved(tmp_path, made)
    without = len(path.read_bytes()) - 2 * values.nbytes
    monkeypatch.setattr(proto, "_STRUCTURE", without)
    open_model(path)
    monkeypatch.setattr(proto, "_STRUCTURE", without - 1)
    with pytest.raises(ValueError, match=f"at most {without - 1} bytes besides its weights"):
        open_model(path)


def test_files_beside_are_those_that_the_weights_name(tmp_path):
    assert files_beside(external(tmp_path)) == {tmp_path / "weights.bin"}
    assert files_beside(external(tmp_path, location="inner/none.bin")) == {tmp_path / "inner" / "none.bin"}
    assert files_beside(external(tmp_path, location="a\0b")) == set()
    assert files_beside(saved(tmp_path, plain())) == set()
    (tmp_path / "text.onnx").write_text("no ONNX")
    assert files_beside(tmp_path / "text.onnx") == files_beside(tmp_path / "none.onnx") == set()
