"""What stands before the first codes of a TensorFlow Lite file, and behind the last ones."""

import numpy as np
import pytest

from hw.network.network import INPUT, Conv2D, GlobalAveragePool, Linear
from models.frontends.tflite.reader import imported
from models.integer import golden
from tests.models.frontends.tflite.litert_reference import assert_equals_litert
from tests.models.frontends.tflite.test_reader import RELU, VALID, random_weight, read_bytes
from tests.models.frontends.tflite.tflite_builder import Builder

BIAS = np.array([0, 300, -1000, 77, 5, -40, 2000, 1], np.int32)


def tail(b: Builder, source: int, *names: str) -> int:
    """Operators of these names one behind the other; the last tensor."""
    for name in names:
        shape = tuple(b.tensors[source]["shape"])
        options, constants, dtype, scale = None, [], "int8", (1 / 256, -128)
        if name == "SOFTMAX":
            options = "SoftmaxOptions"
        elif name == "DEQUANTIZE":
            options, dtype, scale = "DequantizeOptions", "float32", (None, 0)
        elif name in ("RESHAPE", "SQUEEZE"):
            shape = (1, int(np.prod(shape)))
            before = b.tensors[source]
            scale = (before["scales"], before["points"]) if before["scales"] is not None else (None, 0)
            dtype = before["dtype"]
            options = "SqueezeOptions" if name == "SQUEEZE" else None
            constants = [b.integers(*shape)] if name == "RESHAPE" else []
        made = b.tensor(shape, *scale, dtype=dtype)
        b.operator(name, [source, *constants], [made], options, **({"Beta": 1.0} if name == "SOFTMAX" else {}))
        source = made
    return source


TAILS = [
    (),
    ("SOFTMAX",),
    ("LOGISTIC",),
    ("DEQUANTIZE",),
    ("RESHAPE", "SOFTMAX"),
    ("SQUEEZE", "LOGISTIC", "DEQUANTIZE"),
    ("SOFTMAX", "RESHAPE", "DEQUANTIZE"),
    ("LOGISTIC", "SOFTMAX", "SQUEEZE"),
]


@pytest.mark.parametrize("names", TAILS)
@pytest.mark.parametrize("head", ["linear", "channels", "relu", "conv", "conv1", "pooled", "mean", "pool"])
def test_endings(tmp_path, names, head):
    """Whatever makes the logits, and whatever stands behind them."""
    b, rng = Builder(), np.random.default_rng(len(names))
    image = b.tensor((1, 3, 4, 5), 0.1, -7)
    size = {"conv": (1, 1), "linear": (), "channels": (), "relu": ()}.get(head, (3, 4))
    logits = b.tensor((1, *size, 6), 0.11, 3)
    scales = 0.002 if head in ("linear", "relu", "conv1") else rng.uniform(0.001, 0.004, 6)
    if head in ("linear", "channels", "relu"):
        values = {"FusedActivationFunction": RELU} if head == "relu" else {}
        b.fully_connected(image, random_weight(rng, 6, 60), BIAS[:6], scales, logits, **values)
    else:
        kernel = (3, 4) if head == "conv" else (1, 1)
        b.convolution(image, random_weight(rng, 6, *kernel, 5), BIAS[:6], scales, logits, Padding=VALID)
    if head in ("pooled", "mean", "pool"):
        source, logits = logits, b.tensor((1, 1, 1, 6), 0.11, 3)
        if head == "mean":
            b.operator("MEAN", [source, b.integers(1, 2)], [logits], "ReducerOptions", KeepDims=True)
        else:
            getattr(b, "max_pool" if head == "pool" else "average_pool")(source, logits, (3, 4), (1, 1), Padding=VALID)
    model = b.finish([image], [tail(b, logits, *names)])
    if head == "conv1" and "SOFTMAX" in names and "RESHAPE" not in names[:1]:
        # Over the channels at each position of a map it changes which value is the largest.
        with pytest.raises(ValueError, match="SOFTMAX before the end, or over the channels of a map; nearest: at the"):
            read_bytes(tmp_path, model)
        return
    found = assert_equals_litert(tmp_path, model, count=40)
    (output,) = found.outputs
    assert (output.accumulators is None) == (head != "linear")
    assert output.number == logits
    assert output.behind == names
    said = "those of its accumulators: where two int8" if head == "linear" else "those of its int8 codes, ties included"
    if head != "conv1":
        assert said in found.notes[0]
    assert [word for word in ("SOFTMAX", "LOGISTIC") if word in found.notes[0]] == [
        word for word in ("SOFTMAX", "LOGISTIC") if word in names
    ]


def test_a_head_that_another_operator_reads_delivers_codes(tmp_path):
    b, rng = Builder(), np.random.default_rng(0)
    image, first, last = b.tensor((1, 6), 0.1, -7), b.tensor((1, 4), 0.3, 1), b.tensor((1, 4), 0.2, 2)
    b.fully_connected(image, random_weight(rng, 4, 6), BIAS[:4], 0.003, first)
    b.fully_connected(first, random_weight(rng, 4, 4), BIAS[:4], 0.003, last)
    found = assert_equals_litert(tmp_path, b.finish([image], [first, last]), count=40)
    assert [output.accumulators is None for output in found.outputs] == [True, False]
    assert [exit_.logits for exit_ in found.network.exits] == [f"output_{first}", "linear_1"]
    assert [exit_.threshold for exit_ in found.network.exits] == [(1 << 32) - 1, None]
    assert "every output is an exit that is never taken before the last" in found.notes[-1]
    codes = np.random.default_rng(1).integers(-128, 128, (50, 1, 1, 6)).astype(np.int8)
    assert (golden.run(found.network, codes).exit_index == 1).all()


def branches(order: list[int], widths=(4, 4)) -> tuple[bytes, list[str]]:
    """A file of two heads, one behind the other, and their names."""
    b, rng = Builder(), np.random.default_rng(0)
    image, middle = b.tensor((1, 3, 3, 2), 0.1, -7), b.tensor((1, 3, 3, 4), 0.2, 4)
    heads = [b.tensor((1, widths[0]), 0.3, 1), b.tensor((1, widths[1]), 0.2, 2)]
    b.fully_connected(image, random_weight(rng, widths[0], 18), BIAS[: widths[0]], 0.003, heads[0])
    b.convolution(image, random_weight(rng, 4, 3, 3, 2), BIAS[:4], rng.uniform(0.001, 0.004, 4), middle)
    b.fully_connected(middle, random_weight(rng, widths[1], 36), BIAS[: widths[1]], 0.003, heads[1])
    return b.finish([image], [heads[n] for n in order]), [f"tensor{heads[n]}" for n in order]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_classifiers_of_the_same_classes_are_exits_in_order_of_execution(tmp_path, order):
    model, names = branches(order)
    found = assert_equals_litert(tmp_path, model)
    assert [head.logits for head in found.network.exits] == ["linear_0", "linear_2"]
    assert [output.name for output in found.outputs] == sorted(names)
    for number, name in enumerate(names):
        found = assert_equals_litert(tmp_path, model, output=name)
        assert [output.name for output in found.outputs] == [name]
        assert f"output {names[1 - number]} isn't computed" in found.notes
        assert len(found.network.layers) == (1 if name == min(names) else 2)


def test_of_other_outputs_the_last_is_computed_unless_one_is_named(tmp_path):
    model, names = branches([0, 1], widths=(3, 4))
    found = assert_equals_litert(tmp_path, model)
    assert [output.name for output in found.outputs] == names[1:]
    assert found.notes[-1] == f"output {names[0]} isn't computed"
    assert [output.name for output in assert_equals_litert(tmp_path, model, output=names[0]).outputs] == names[:1]
    with pytest.raises(ValueError, match=rf"output must be one of '{names[0]}', '{names[1]}', not 'logits'$"):
        imported(tmp_path / "net.tflite", output="logits")


@pytest.mark.parametrize("shape", [(1, 3, 4, 6), (1, 5), (1, 1)])
@pytest.mark.parametrize("raw", [False, True])
def test_outputs_that_are_no_classes(tmp_path, shape, raw):
    """A map, a vector, one value: the logits are the codes less the zero point, or accumulators that give them."""
    b, rng = Builder(), np.random.default_rng(2)
    image, out = b.tensor((1, 3, 4, 2), 0.1, 5), b.tensor(shape, 0.13, -9)
    if len(shape) == 4:
        b.convolution(image, random_weight(rng, 6, 3, 3, 2), BIAS[:6], rng.uniform(0.001, 0.004, 6), out)
    else:
        scales = 0.002 if raw else rng.uniform(0.001, 0.004, shape[-1])
        b.fully_connected(image, random_weight(rng, shape[-1], 24), BIAS[: shape[-1]], scales, out)
    found = assert_equals_litert(tmp_path, b.finish([image], [out]), count=40)
    assert found.network.classes == max(2, int(np.prod(shape)))
    if shape == (1, 1):
        assert "is one value: class 1 says that it is above zero, class 0 that it isn't" in found.notes[0]


def test_the_input_itself_is_an_output(tmp_path):
    b = Builder()
    image, flat = b.tensor((1, 2, 3, 2), 0.1, 5), b.tensor((1, 12), 0.1, 5)
    b.operator("RESHAPE", [image, b.integers(1, 12)], [flat])
    found = assert_equals_litert(tmp_path, b.finish([image], [flat]))
    assert [layer.inputs for layer in found.network.layers] == [(INPUT,)]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
@pytest.mark.parametrize("shaped", ["", "RESHAPE", "EXPAND_DIMS", "RESHAPE behind"])
@pytest.mark.parametrize("after", [(0.07, 10), (0.05, -128)])
def test_beginnings(tmp_path, dtype, shaped, after):
    """Bytes and real numbers, and shapes that only the network's first layer gives a meaning."""
    b, rng = Builder(), np.random.default_rng(3)
    shape = {"": (1, 4, 5, 1), "EXPAND_DIMS": (1, 4, 5)}.get(shaped, (1, 20))
    before = {"int8": after, "uint8": (0.07, 138), "float32": (None, 0)}[dtype]
    last = image = b.tensor(shape, *before, dtype=dtype)

    def shaped_as(source: int) -> int:
        like = b.tensors[source]
        made = b.tensor(
            (1, 4, 5, 1), like["scales"], 0 if like["points"] is None else like["points"], dtype=like["dtype"]
        )
        options = "ExpandDimsOptions" if shaped == "EXPAND_DIMS" else None
        b.operator(shaped.split()[0], [source, b.integers(*((3,) if options else (1, 4, 5, 1)))], [made], options)
        return made

    if shaped in ("RESHAPE", "EXPAND_DIMS"):
        last = shaped_as(last)
    if dtype != "int8":
        coded = b.tensor(b.tensors[last]["shape"], *after)
        b.operator("QUANTIZE", [last], [coded], "QuantizeOptions")
        last = coded
    if shaped == "RESHAPE behind":
        last = shaped_as(last)
    middle = b.tensor((1, 4, 5, 3), 0.2, 4)
    b.convolution(last, random_weight(rng, 3, 3, 3, 1), BIAS[:3], rng.uniform(0.001, 0.004, 3), middle)
    out = b.tensor((1, 3), 0.3, 1)
    b.fully_connected(middle, random_weight(rng, 3, 60), BIAS[:3], 0.003, out)
    found = assert_equals_litert(tmp_path, b.finish([image], [out]), count=40)
    assert (found.source.dtype, found.source.shape) == (dtype.upper(), shape[1:])
    assert found.network.input.shape == (4, 5, 1)
    assert [type(layer) for layer in found.network.layers] == [Conv2D, Linear]
    assert (found.network.input.scale, found.network.input.zero_point) == (float(np.float32(after[0])), after[1])


def test_uint8_outputs(tmp_path):
    """With 128 added the codes are the same; on another scale they are a layer's."""
    for scale, point, layers in ((0.11, 131, 1), (0.2, 9, 3)):
        b, rng = Builder(), np.random.default_rng(3)
        image, logits, out = (
            b.tensor((1, 6), 0.1, -7),
            b.tensor((1, 4), 0.11, 3),
            b.tensor((1, 4), scale, point, dtype="uint8"),
        )
        b.fully_connected(image, random_weight(rng, 4, 6), BIAS[:4], 0.003, logits)
        b.operator("QUANTIZE", [logits], [out], "QuantizeOptions")
        found = assert_equals_litert(tmp_path, b.finish([image], [out]), count=40)
        assert len(found.network.layers) == layers


def test_shapes_that_mean_another_order_are_refused(tmp_path):
    b, rng = Builder(), np.random.default_rng(3)
    image, middle, other = b.tensor((1, 4, 6, 2), 0.1), b.tensor((1, 4, 6, 2), 0.1), b.tensor((1, 6, 4, 2), 0.1)
    b.convolution(image, random_weight(rng, 2, 3, 3, 2), BIAS[:2], 0.003, middle)
    b.operator("RESHAPE", [middle, b.integers(1, 6, 4, 2)], [other])
    last = b.tensor((1, 6, 4, 2), 0.1)
    b.convolution(other, random_weight(rng, 2, 3, 3, 2), BIAS[:2], 0.003, last)
    expected = (
        r"CONV_2D must read a map by the rows, columns and channels that it was computed with, \[1, 4, 6, 2\], not "
        r"\[1, 6, 4, 2\] \(operator 2 'tensor6'\)$"
    )
    with pytest.raises(ValueError, match=expected):
        read_bytes(tmp_path, b.finish([image], [last]))


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (
            "int8",
            np.zeros((2, 3), np.int8),
            r"tensor0: values must be int8 of shape \(N, 6\), not int8 of shape \(2, 3\)$",
        ),
        ("int8", np.zeros((2, 6), np.uint8), r"must be int8 of shape \(N, 6\), not uint8 of shape \(2, 6\)$"),
        ("uint8", np.zeros((2, 6), np.float32), r"must be uint8 of shape \(N, 6\), not float32"),
        ("float32", np.zeros((2, 6), complex), r"must be real of shape \(N, 6\), not complex128"),
        ("float32", np.full((2, 6), np.nan), r"tensor0: values must be numbers, not NaN$"),
    ],
)
def test_values_that_a_file_does_not_take_are_refused(tmp_path, dtype, values, expected):
    b = Builder()
    image = last = b.tensor((1, 6), *((None, 0) if dtype == "float32" else (0.1, 0)), dtype=dtype)
    if dtype != "int8":
        last = b.tensor((1, 6), 0.1, -128 if dtype == "uint8" else 0)
        b.operator("QUANTIZE", [image], [last], "QuantizeOptions")
    out = b.tensor((1, 2), 0.1)
    b.fully_connected(last, np.ones((2, 6), np.int8), None, 0.1, out)
    (tmp_path / "net.tflite").write_bytes(b.finish([image], [out]))
    with pytest.raises(ValueError, match=expected):
        imported(tmp_path / "net.tflite").source.codes(values)


def test_real_values_round_away_from_zero_and_stay_within_the_codes(tmp_path):
    b = Builder()
    image, coded, out = b.tensor((1, 8), dtype="float32"), b.tensor((1, 8), 0.5, 3), b.tensor((1, 2), 0.1)
    b.operator("QUANTIZE", [image], [coded], "QuantizeOptions")
    b.fully_connected(coded, np.ones((2, 8), np.int8), None, 0.1, out)
    (tmp_path / "net.tflite").write_bytes(b.finish([image], [out]))
    values = np.array([[0.25, -0.25, 0.24999999, 0.75, -0.75, 1e30, -np.inf, 0.0]])
    codes = imported(tmp_path / "net.tflite").source.codes(values)
    assert codes.reshape(-1).tolist() == [4, 2, 3, 5, 1, 127, -128, 3]


def test_inputs_that_no_quantize_reads_are_refused(tmp_path):
    for dtype, expected in (
        ("float32", "must be INT8, not FLOAT32"),
        ("uint8", "must be INT8, or become so by a QUANTIZE, not UINT8"),
    ):
        b = Builder()
        image, out = b.tensor((1, 6), 0.1, dtype=dtype), b.tensor((1, 2), 0.1)
        b.fully_connected(image, np.ones((2, 6), np.int8), None, 0.1, out)
        with pytest.raises(ValueError, match=rf"unsupported: tensor 0 \(tensor0\) {expected}"):
            read_bytes(tmp_path, b.finish([image], [out]))


def test_two_quantizations_of_the_input_must_agree(tmp_path):
    for scale in (0.1, 0.2):
        b = Builder()
        image = b.tensor((1, 6), dtype="float32")
        coded, again = b.tensor((1, 6), 0.1), b.tensor((1, 6), scale)
        for made in (coded, again):
            b.operator("QUANTIZE", [image], [made], "QuantizeOptions")
        total, out = b.tensor((1, 6), 0.2), b.tensor((1, 2), 0.1)
        b.operator("ADD", [coded, again], [total], "AddOptions")
        b.fully_connected(total, np.ones((2, 6), np.int8), None, 0.1, out)
        model = b.finish([image], [out])
        if scale == 0.1:
            assert_equals_litert(tmp_path, model)
        else:
            with pytest.raises(ValueError, match="QUANTIZE of the network's input to other codes than an earlier one"):
                read_bytes(tmp_path, model)


def test_global_pools_of_single_positions_change_nothing(tmp_path):
    b = Builder()
    image, middle, again = (b.tensor((1, 1, 1, 5), 0.1, -7) for _ in range(3))
    b.average_pool(image, middle, (1, 1), (1, 1), Padding=VALID)
    b.max_pool(middle, again, (1, 1), (1, 1), Padding=VALID)
    found = assert_equals_litert(tmp_path, b.finish([image], [again]))
    assert len(found.network.layers) == 1
    b = Builder()
    image, middle = b.tensor((1, 2, 3, 5), 0.1, -7), b.tensor((1, 1, 1, 5), 0.1, -7)
    b.average_pool(image, middle, (4, 4), (4, 4))  # SAME: the window lies beyond the map on every side
    found = assert_equals_litert(tmp_path, b.finish([image], [middle]))
    assert isinstance(found.network.layers[0], GlobalAveragePool)
