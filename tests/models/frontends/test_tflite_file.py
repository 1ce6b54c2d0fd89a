import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.frontends import tflite, tflite_file
from tests.models.frontends.litert_reference import data_file
from tests.models.frontends.tflite_builder import Builder


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


def test_truncated_at_every_length(tmp_path):
    data = small_file()
    for length in range(len(data)):
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
        assert tflite.read(path).exits


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
