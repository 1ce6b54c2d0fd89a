import contextlib
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from hypothesis import given, settings
from hypothesis import strategies as st

from models.frontends.tflite import file as tflite_file
from models.frontends.tflite import reader as tflite_reader
from tests.models.frontends.tflite.litert_reference import data_file
from tests.models.frontends.tflite.tflite_builder import Builder


def small_file(subgraphs: int = 1) -> bytes:
    b = Builder()
    image, middle, out = b.tensor((1, 4, 4, 3), 0.1, 5), b.tensor((1, 4, 4, 2), 0.3), b.tensor((1, 2), 0.1)
    bias = np.arange(2, dtype=np.int32)
    b.convolution(image, np.arange(54, dtype=np.int8).reshape(2, 3, 3, 3), bias, [0.02, 0.03], middle)
    b.fully_connected(middle, np.ones((2, 32), np.int8), None, 0.1, out)
    return b.finish([image], [out], subgraphs)


def write(folder: Path, data: bytes) -> Path:
    path = folder / "net.tflite"
    path.write_bytes(data)
    return path


def test_parts(tmp_path):
    graph = tflite_file.parse(write(tmp_path, small_file()))
    assert (graph.inputs, graph.outputs) == ([0], [2])
    assert [str(o) for o in graph.operators] == ["CONV_2D (operator 0)", "FULLY_CONNECTED (operator 1)"]
    convolution = graph.operators[0]
    assert convolution.options == {"activation": "NONE", "padding": "SAME", "stride": (1, 1), "dilation": (1, 1)}
    weight, bias = (graph.tensors[i] for i in convolution.inputs[1:])
    np.testing.assert_array_equal(weight.data, np.arange(54).reshape(2, 3, 3, 3))
    np.testing.assert_array_equal(weight.scales, np.array([0.02, 0.03], dtype=np.float32))
    np.testing.assert_array_equal(bias.data, [0, 1])
    assert graph.tensors[0].data is None
    assert graph.tensors[0].zero_points.tolist() == [5]


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x00" * 100, b"PK\x03\x04" + b"x" * 60])
def test_other_files_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"must carry the identifier b'TFL3', not b.*: not a TFLite file$"):
        tflite_file.parse(write(tmp_path, content))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.tflite: cannot be read: No such file or directory$"):
        tflite_file.parse(tmp_path / "absent.tflite")


def test_more_than_one_graph_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must hold one graph, not 2$"):
        tflite_file.parse(write(tmp_path, small_file(subgraphs=2)))


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_truncated_at_every_length(tmp_path, step):
    data = small_file()
    for length in range(0, len(data), step):
        with pytest.raises(ValueError, match=r"truncated or damaged TFLite file|not a TFLite file"):
            tflite_file.parse(write(tmp_path, data[:length]))


def test_official_file_truncated(tmp_path, data_root):
    data = data_file(data_root, "mlperf_tiny", "pretrainedResnet_quant.tflite").read_bytes()
    for length in [*range(8, len(data), len(data) // 60), len(data) - 1]:
        with pytest.raises(ValueError, match="truncated or damaged TFLite file"):
            tflite_file.parse(write(tmp_path, data[:length]))


@settings(max_examples=300)
@given(st.data())
def test_damage_is_refused_or_harmless_but_never_anything_else(tmp_path_factory, data):
    """No checksum tells, so a changed weight passes; what may not happen is any other exception."""
    content = bytearray(small_file())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path_factory.mktemp("damaged"), bytes(content))
    with contextlib.suppress(ValueError):
        assert tflite_reader.read(path).exits


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda b: b.tensors[3].update(shape=(2, 3, 3, 2)), "tensor tensor3 must be 36 bytes, not 54"),
        (
            lambda b: b.tensors[0].update(scales=np.array([np.nan], np.float32)),
            "scales of tensor tensor0 must be positive",
        ),
        (lambda b: b.operators[0].update(inputs=[99, 3, 4]), "tensor numbers must be below 6, not 99"),
        (lambda b: b.operators[0].update(inputs=[]), r"CONV_2D \(operator 0\) must read 2 or 3 tensors, not \[\]"),
        (
            lambda b: b.operators[0].update(inputs=[0, -1]),
            r"CONV_2D \(operator 0\) must read 2 or 3 tensors, not \[0, ",
        ),
        (
            lambda b: b.operators[0].update(inputs=[0, 3, 4, 4]),
            r"CONV_2D .* must read 2 or 3 tensors, not \[0, 3, 4, 4\]",
        ),
        (
            lambda b: b.operators[1].update(outputs=[2, 2]),
            r"FULLY_CONNECTED \(operator 1\) must write a tensor, not \[2",
        ),
        (lambda b: b.operators[1].update(outputs=[]), r"FULLY_CONNECTED \(operator 1\) must write a tensor, not \[\]"),
        (
            lambda b: b.operators[0].update(options="AddOptions", values={}),
            "CONV_2D must have Conv2DOptions, not AddOptions",
        ),
    ],
)
def test_contradictions(tmp_path, change, expected):
    b = Builder()
    image, middle, out = b.tensor((1, 4, 4, 3), 0.1, 5), b.tensor((1, 4, 4, 2), 0.3), b.tensor((1, 2), 0.1)
    b.convolution(image, np.ones((2, 3, 3, 3), np.int8), np.ones(2, np.int32), 0.02, middle)
    b.fully_connected(middle, np.ones((2, 32), np.int8), None, 0.1, out)
    change(b)
    with pytest.raises(ValueError, match=f"truncated or damaged TFLite file: {expected}"):
        tflite_file.parse(write(tmp_path, b.finish([image], [out])))


def test_left_out_input_is_refused(tmp_path):
    b = Builder()
    image, out = b.tensor((1, 1, 1, 3), 0.1), b.tensor((1, 2), 0.1)
    b.fully_connected(image, np.ones((2, 3), np.int8), None, 0.1, out)
    with pytest.raises(ValueError, match="input and output must be tensors, not left out"):
        tflite_file.parse(write(tmp_path, b.finish([-1], [out])))


def chain(kind: str, count: int, scales=(0.1, 0.1), **values) -> bytes:
    """A file of many operators, one behind the other."""
    b = Builder()
    last = b.tensor((1, 4, 4, 2), scales[0], 3)
    for number in range(count):
        source, last = last, b.tensor((1, 4, 4, 2), scales[number % 2], 3)
        b.operator(kind, [source] * (2 if kind == "ADD" else 1), [last], **values)
    return b.finish([0], [last])


def cycle(*kinds: str) -> bytes:
    """A file whose operators read what the next one writes."""
    b = Builder()
    image, *maps = (b.tensor((1, 4, 4, 2), 0.1, 3) for _ in range(1 + len(kinds)))
    for number, kind in enumerate(kinds):
        before = maps[(number + 1) % len(maps)]
        b.operator(kind, [image, before] if kind == "ADD" else [before], [maps[number]])
    return b.finish([image], maps[:1])


def claims(*shape: int) -> bytes:
    """A file whose image is said to be of this shape."""
    b = Builder()
    image, out = b.tensor(shape, 0.1), b.tensor((1, 2), 0.1)
    b.operator("MEAN", [image, b.integers(1, 2)], [out], "ReducerOptions")
    return b.finish([image], [out])


def shares() -> bytes:
    """A file in which many operators have the same million weights."""
    b = Builder()
    last = b.tensor((1, 1, 1, 1024), 0.1)
    weight = b.tensor((1024, 1, 1, 1024), 0.001, data=np.ones((1024, 1, 1, 1024), np.int8))
    for _ in range(400):
        source, last = last, b.tensor((1, 1, 1, 1024), 0.1)
        b.operator("CONV_2D", [source, weight], [last], "Conv2DOptions", StrideH=1, StrideW=1)
    return b.finish([0], [last])


def widens() -> bytes:
    """A file without weights whose operators need sixteen million each."""
    b = Builder()
    last = b.tensor((1, 1, 1, 4000), 0.1)
    for number in range(90):
        source, last = last, b.tensor((1, 1, 1, 4001 + number), 0.1)
        b.operator("PAD", [source, b.integers([0, 0], [0, 0], [0, 0], [0, 1])], [last], "PadOptions")
    return b.finish([0], [last])


def laid_over(name: bytes, times: int) -> bytes:
    """A file of tensors whose names are one."""
    b = Builder()
    for _ in range(times):
        b.tensor((1, 4), 0.1)
    data = bytearray(b.finish([0], [0]))
    model = fb.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    first = len(data) + (-len(data)) % 4
    data += bytes(first - len(data)) + len(name).to_bytes(4, "little") + name + b"\0"
    for number in range(graph.TensorsLength()):
        table = graph.Tensors(number)._tab
        place = table.Pos + table.Offset(10)
        data[place : place + 4] = (first - place).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: chain("ADD", 600), "it must have at most 512 operators, not 600"),
        (lambda: chain("RELU6", 5000), "it must have at most 4096 tensors, not 5001"),
        (lambda: cycle("RESHAPE"), r"tensor 1 \(tensor1\) must be computed by an earlier operator \(operator 0"),
        (lambda: cycle("RESHAPE", "RELU"), r"must be computed by an earlier operator \(operator 0"),
        (
            lambda: cycle("ADD", "ADD", "ADD"),
            r"tensor 2 \(tensor2\) must be computed by an earlier operator \(operator 0",
        ),
        (lambda: claims(1, -4, 4, 2), r"tensor tensor0 must have sizes of at least 0, not \[1, -4, 4, 2\]"),
        (lambda: claims(1, 0, 4, 2), r"shape must be three positive integers"),
        (
            lambda: claims(1, *[(1 << 31) - 1] * 3),
            r"tensor 0 \(tensor0\) must be of at most 16777216 values, not 99035",
        ),
        (lambda: claims(*[1] * 9), "must have at most 8 dimensions, not 9"),
        (shares, "all layers must have at most 33554432 weights, not 34603008 and more"),
        (widens, "all layers must have at most 33554432 weights, not 48036008 and more"),
        (lambda: laid_over(b"n" * 100_000, 4000), "its vectors must not lie over one another"),
    ],
)
def test_hostile_files_are_refused_at_once_and_in_little_memory(tmp_path, make, expected):
    path = write(tmp_path, make())
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ValueError, match=expected) as caught:
            tflite_reader.read(path)
        took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert peak < 200 << 20
    assert took < 5  # a second, but for what watching the memory costs


def test_files_that_are_none_or_too_large_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be a file, not a folder or a device$"):
        tflite_file.parse(Path("/dev/zero"))
    with pytest.raises(ValueError, match=r"must be a file, not a folder or a device$"):
        tflite_file.parse(tmp_path)
    path = write(tmp_path, small_file())
    with path.open("r+b") as file:
        file.truncate((1 << 30) + 1)  # holes
    with pytest.raises(ValueError, match=rf"must be of at most {1 << 30} bytes, not {(1 << 30) + 1}$"):
        tflite_file.parse(path)


def test_operators_of_too_many_tensors_are_refused(tmp_path):
    b = Builder()
    image, out = b.tensor((1, 1, 1, 1), 0.1), b.tensor((1, 1, 1, 300), 0.1)
    b.operator("CONCATENATION", [image] * 300, [out], "ConcatenationOptions", Axis=3)
    with pytest.raises(
        ValueError, match=r"CONCATENATION .operator 0. must read and write at most 256 tensors, not 300$"
    ):
        tflite_file.parse(write(tmp_path, b.finish([image], [out])))
