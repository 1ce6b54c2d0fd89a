"""Operators without a layer of their own against LiteRT's reference kernels, in shapes and scales of all sorts."""

from itertools import product

import numpy as np
import pytest

from hw.network.network import Add, Conv2D, DepthwiseConv2D, MaxPool2D
from models.frontends.tflite.reader import Imported
from tests.models.frontends.tflite.litert_reference import assert_equals_litert
from tests.models.frontends.tflite.test_reader import NONE, RELU, RELU6, SAME, TANH, VALID, random_weight, read_bytes
from tests.models.frontends.tflite.tflite_builder import Builder

#: Scales and zero points before and after: equal, finer, coarser, to the other end, with many ties, and a quotient
#: that is a tie in single precision only.
RESCALINGS = [
    ((0.1, 5), (0.1, 5)),
    ((0.1, -128), (0.1, -128)),
    ((0.07, 3), (0.05, -9)),
    ((0.013, -128), (0.37, -7)),
    ((0.3, 0), (0.01, 1)),
    ((0.05, -3), (0.0237, -128)),
    ((0.05, 127), (0.1, 6)),
    ((0.5, 3), (1.0, -4)),
    ((0.25, 0), (2.0, 0)),
    ((0.25, 0), (0.1, 0)),
]


def some(every: int, **names) -> pytest.MarkDecorator:
    """All combinations of values; one in so many belongs to the quick tests."""
    combinations = list(product(*names.values()))
    params = [
        pytest.param(*values, marks=[] if number % every == 0 else pytest.mark.slow)
        for number, values in enumerate(combinations)
    ]
    return pytest.mark.parametrize(tuple(names), params)


BIAS = np.array([0, 300, -1000, 77, 5, -40, 2000, 1], np.int32)


def with_head(b: Builder, source: int, seed: int = 0, classes: int = 3) -> bytes:
    """The file with a FULLY_CONNECTED behind a tensor."""
    rng = np.random.default_rng(seed)
    out = b.tensor((1, classes), 5.0, 2)
    count = int(np.prod(b.tensors[source]["shape"]))
    b.fully_connected(
        source, random_weight(rng, classes, count), rng.integers(-900, 900, classes).astype(np.int32), 0.003, out
    )
    return b.finish([0], [out])


def unary(kind: str, before, after, options=None, shape=(1, 4, 5, 3), written=None, constants=(), **values) -> bytes:
    """A file with one operator on its input, and a head."""
    b = Builder()
    image, middle = b.tensor(shape, *before), b.tensor(written or shape, *after)
    b.operator(kind, [image, *(b.integers(*constant) for constant in constants)], [middle], options, **values)
    return with_head(b, middle)


def kinds(found: Imported) -> list[type]:
    return [type(layer) for layer in found.network.layers[:-1]]


@some(1, kind=["QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"], scales=RESCALINGS)
def test_rescalings(tmp_path, kind, scales):
    before, after = scales
    found = assert_equals_litert(tmp_path, unary(kind, before, after), count=40)
    changes_nothing = before == after and (kind == "QUANTIZE" or (kind == "RELU" and before[1] == -128))
    assert len(found.network.layers) == (1 if changes_nothing else 2)


@pytest.mark.parametrize("kind", ["RELU", "RELU6"])
def test_an_activation_behind_the_layer_that_only_it_reads_is_its_clamp(tmp_path, kind):
    for read in (False, True):
        b, rng = Builder(), np.random.default_rng(1)
        image, middle, active = b.tensor((1, 5, 4, 3), 0.1, 5), *(b.tensor((1, 5, 4, 6), 0.09, -20) for _ in range(2))
        b.convolution(image, random_weight(rng, 6, 3, 3, 3), BIAS[:6], rng.uniform(0.001, 0.004, 6), middle)
        b.operator(kind, [middle], [active])
        last = active
        if read:  # The map before it, too: then it is a layer of its own.
            last = b.tensor((1, 5, 4, 6), 0.2, 1)
            b.operator("ADD", [middle, active], [last], "AddOptions")
        found = assert_equals_litert(tmp_path, with_head(b, last))
        expected = {"conv2d_0": middle, f"{kind.lower()}_1": active, "add_2": last} if read else {"conv2d_0": active}
        assert found.tensors == expected
        assert found.network.layer("conv2d_0").clamp[0] == (-128 if read else -20)


MEANS = [
    ((1, 4, 4, 5), [1, 2]),
    ((1, 3, 3, 5), [2, 1]),
    ((1, 7, 5, 2), [-2, -3]),
    ((1, 8, 8, 1), [1, 2]),
    ((1, 1, 1, 6), [1, 2]),
    ((1, 4, 6, 3), [1]),
    ((1, 4, 6, 3), [2]),
    ((1, 4, 6, 3), [3]),
    ((1, 4, 6, 8), [1, 2, 3]),
    ((1, 9, 5), [1]),
    ((1, 9), [1]),
    ((1, 46, 45, 1), [1, 2]),
]


@some(5, case=MEANS, keeps=[False, True], scales=RESCALINGS)
def test_means(tmp_path, case, keeps, scales):
    (shape, axes), (before, after) = case, scales
    over = {axis % len(shape) for axis in axes}
    written = [1 if axis in over else size for axis, size in enumerate(shape) if keeps or axis not in over]
    model = unary("MEAN", before, after, "ReducerOptions", shape, written, [axes], KeepDims=keeps)
    assert_equals_litert(tmp_path, model, count=12)


@some(5, kind=["ADD", "SUB", "MUL"], activation=[NONE, RELU, RELU6], side=[0, 1], count=[1, 4], scales=RESCALINGS)
def test_constants(tmp_path, kind, activation, side, count, scales):
    before, after = scales
    b, rng = Builder(), np.random.default_rng([count, side, activation])
    shape, values = (1, 3, 5, 4), rng.integers(-128, 128, (1, 1, 1, count) if count > 1 else (1,)).astype(np.int8)
    image = b.tensor(shape, *before)
    constant = b.tensor(values.shape, 0.017, int(rng.choice([0, -128, 127, 9])), data=values)
    middle = b.tensor(shape, after[0] * (3 if kind == "MUL" else 1), after[1])
    inputs = [constant, image] if side else [image, constant]
    b.operator(kind, inputs, [middle], f"{kind.title()}Options", FusedActivationFunction=activation)
    assert_equals_litert(tmp_path, with_head(b, middle), count=40)


def test_constants_of_255_steps_and_of_none(tmp_path):
    """As converters write a factor: the largest code at the lowest zero point, which no int8 weight holds."""
    codes = np.array([127, 126, 1, -127, -128, 0], np.int8)
    for scale, after in ((1 / 255, 0.1), (0.5 / 255, 0.07), (1.7 / 255, 0.2), (0.9 / 255, 0.1)):
        b = Builder()
        image, middle = b.tensor((1, 6, 6, 6), 0.1, -3), b.tensor((1, 6, 6, 6), after, 4)
        b.operator("MUL", [image, b.tensor((6,), scale, -128, data=codes)], [middle], "MulOptions")
        assert_equals_litert(tmp_path, with_head(b, middle), count=40)


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("activation", [NONE, RELU])
def test_differences(tmp_path, same, activation):
    b, rng = Builder(), np.random.default_rng(3)
    image, other, middle = (
        b.tensor((1, 3, 5, 4), 0.1, 5),
        b.tensor((1, 3, 5, 4), 0.03, -128),
        b.tensor((1, 3, 5, 4), 0.08, 1),
    )
    b.convolution(image, random_weight(rng, 4, 1, 1, 4), BIAS[:4], 0.002, other, FusedActivationFunction=activation)
    b.operator("SUB", [image, image if same else other], [middle], "SubOptions", FusedActivationFunction=activation)
    assert_equals_litert(tmp_path, with_head(b, middle), count=40)


@pytest.mark.parametrize("case", ["x + x", "x + conv(x)", "conv + conv", "two sums", "read elsewhere"])
def test_sums_of_maps_in_every_place(tmp_path, case):
    b, rng = Builder(), np.random.default_rng(4)

    def convolved(source: int, scale: float) -> int:
        made = b.tensor((1, 4, 4, 8), scale, -11)
        depth = b.tensors[source]["shape"][3]
        b.convolution(source, random_weight(rng, 8, 3, 3, depth), BIAS, rng.uniform(0.001, 0.002, 8), made)
        return made

    def added(*sources: int) -> int:
        made = b.tensor((1, 4, 4, 8), float(rng.uniform(0.1, 0.3)), int(rng.integers(-20, 20)))
        b.operator("ADD", sources, [made], "AddOptions")
        return made

    image = b.tensor((1, 4, 4, 8), 0.1, 5)
    if case == "x + x":
        last = added(image, image)
    elif case == "x + conv(x)":
        last = added(image, convolved(image, 0.2))
    elif case == "conv + conv":
        last = added(convolved(image, 0.2), convolved(image, 0.1))
    elif case == "two sums":
        last = added(added(convolved(image, 0.2), image), image)
    else:
        first = convolved(image, 0.2)
        second = convolved(first, 0.1)
        last = added(added(first, second), convolved(second, 0.3))
    found = assert_equals_litert(tmp_path, with_head(b, last))
    assert sum(isinstance(layer, Add) for layer in found.network.layers) == sum(o["name"] == "ADD" for o in b.operators)


PADS = [[1, 1, 2, 0], [0, 3, 0, 0], [4, 5, 6, 7], [0, 0, 0, 0]]


READERS = ["convolution", "depthwise", "max_pool", "average_pool", "fully_connected", "pad", "output"]


@some(3, kind=["PAD", "PADV2"], reader=READERS, pads=PADS, zero_point=[-128, 7])
def test_pads(tmp_path, kind, reader, pads, zero_point):
    """Folded into what reads the map, also beyond its kernel; otherwise a layer of its own."""
    b, rng = Builder(), np.random.default_rng(5)
    top, bottom, left, right = pads
    image, size = b.tensor((1, 5, 4, 3), 0.1, zero_point), (5 + top + bottom, 4 + left + right)
    padded, value = b.tensor((1, *size, 3), 0.1, zero_point), []
    if kind == "PADV2":
        value = [b.tensor((1,), 0.1, zero_point, data=np.array([zero_point], np.int8))]
    constant = b.integers([0, 0], [top, bottom], [left, right], [0, 0])
    b.operator(kind, [image, constant, *value], [padded], "PadOptions" if kind == "PAD" else "PadV2Options")
    rows, columns = size[0] - 2, size[1] - 2
    after = padded if reader in ("fully_connected", "output") else b.tensor((1, rows, columns, 3), 0.1, zero_point)
    if reader == "convolution":
        b.convolution(padded, random_weight(rng, 3, 3, 3, 3), BIAS[:3], 0.003, after, Padding=VALID)
    elif reader == "depthwise":
        b.tensors[after]["shape"] = (1, -(-size[0] // 2), size[1], 3)
        b.depthwise(padded, random_weight(rng, 1, 3, 1, 3), None, 0.003, after, Padding=SAME, StrideH=2)
    elif reader in ("max_pool", "average_pool"):
        getattr(b, reader)(padded, after, (3, 3), (1, 1), Padding=VALID)
    elif reader == "pad":
        b.tensors[after]["shape"] = (1, size[0] + 1, size[1] + 2, 3)
        b.operator("PAD", [padded, b.integers([0, 0], [1, 0], [0, 2], [0, 0])], [after], "PadOptions")
    model = b.finish([image], [after]) if reader == "output" else with_head(b, after)
    found = assert_equals_litert(tmp_path, model)
    if reader in ("convolution", "depthwise") or (reader == "max_pool" and zero_point == -128 and max(pads) < 3):
        assert kinds(found) == [{"convolution": Conv2D, "depthwise": DepthwiseConv2D, "max_pool": MaxPool2D}[reader]]


def test_pads_of_channels(tmp_path):
    for shape, pads in (((1, 5, 4, 3), [[0, 0], [0, 0], [1, 0], [2, 3]]), ((1, 7, 4), [[0, 0], [1, 2], [3, 0]])):
        written = [size + sum(pair) for size, pair in zip(shape, pads, strict=True)]
        assert_equals_litert(tmp_path, unary("PAD", (0.1, 9), (0.1, 9), "PadOptions", shape, written, [pads]))


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("axis", [3, -1])
@pytest.mark.parametrize("twice", [False, True])
def test_concatenations(tmp_path, parts, axis, twice):
    b, rng = Builder(), np.random.default_rng([parts, twice])
    image = b.tensor((1, 4, 3, 3), 0.1, -7)
    maps = [image] * (1 + twice)
    for number in range(1, parts):
        maps.append(b.tensor((1, 4, 3, 2 + number), 0.1, -7))
        b.convolution(image, random_weight(rng, 2 + number, 3, 3, 3), BIAS[: 2 + number], 0.003, maps[-1])
    whole = b.tensor((1, 4, 3, sum(b.tensors[m]["shape"][3] for m in maps)), 0.1, -7)
    b.operator("CONCATENATION", maps, [whole], "ConcatenationOptions", Axis=axis)
    assert_equals_litert(tmp_path, with_head(b, whole))


@pytest.mark.parametrize("axis", [1, 2, -2, -3])
def test_concatenations_of_rows_and_columns(tmp_path, axis):
    b, rng = Builder(), np.random.default_rng(axis + 3)
    image, other = b.tensor((1, 4, 4, 3), 0.1, -7), b.tensor((1, 4, 4, 3), 0.1, -7)
    b.convolution(image, random_weight(rng, 3, 3, 3, 3), BIAS[:3], 0.003, other)
    shape = [1, 4, 4, 3]
    shape[axis] = 12
    whole = b.tensor(shape, 0.1, -7)
    b.operator("CONCATENATION", [image, other, image], [whole], "ConcatenationOptions", Axis=axis)
    assert_equals_litert(tmp_path, with_head(b, whole))


def test_a_concatenation_of_rows_of_no_map(tmp_path):
    b = Builder()
    row, rows = b.tensor((1, 3), 0.1, -7), b.tensor((2, 3), 0.1, -7)
    b.operator("CONCATENATION", [row, row], [rows], "ConcatenationOptions", Axis=-2)
    with pytest.raises(
        ValueError, match=r"CONCATENATION of \[\[1, 3\], \[1, 3\]\] along -2; nearest: along channels, rows"
    ):
        read_bytes(tmp_path, with_head(b, rows))


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("MEAN", {"constants": [[0, 1]]}, "MEAN over the batch; nearest: over rows, columns or channels"),
        ("MEAN", {"constants": [[9]]}, r"MEAN over axes \[9\] of a tensor of shape \[1, 4, 5, 3\]"),
        (
            "MEAN",
            {"constants": [[1, 2]], "after": (0.0001, 0), "written": (1, 3)},
            "must be above 0 and below 128, not 1e",
        ),
        (
            "MEAN",
            {"constants": [[1, 2]], "shape": (1, 1, 1, 3), "after": (0.001, 0), "written": (1, 3)},
            "MEAN from a scale 100 times the output's; nearest: less than 64 times",
        ),
        (
            "PAD",
            {"constants": [[[0, 0], [-1, 0], [0, 0], [0, 0]]]},
            "PAD must have two pads of at least 0 for each of 4",
        ),
        ("PAD", {"constants": [[[1, 0], [0, 0], [0, 0], [0, 0]]]}, "PAD of the batch, or of a tensor of shape"),
        ("PAD", {"constants": [[[0, 0]] * 4], "after": (0.2, 5)}, "PAD must keep scale and zero point"),
        ("RELU", {"after": (0.0001, 0)}, "RELU: requantization scale must be .* not 1e.03; nearest: a coarser output"),
        (
            "MEAN",
            {"constants": [[1, 2]], "shape": (1, 1, 1, 3), "after": (0.0001, 0), "written": (1, 3)},
            "MEAN: requantization scale must be above 0 and below 128, not 1e.03; nearest: a coarser output",
        ),
        ("RELU", {"written": (1, 5, 4, 3)}, r"must be of shape \[1, 4, 5, 3\], not \[1, 5, 4, 3\]"),
    ],
)
def test_what_is_refused(tmp_path, kind, changes, expected):
    options = {"MEAN": "ReducerOptions", "PAD": "PadOptions"}.get(kind)
    with pytest.raises(ValueError, match=rf"unsupported: .*{expected}.* \(operator 0 'tensor1'\)$"):
        read_bytes(tmp_path, unary(kind, **{"before": (0.1, 5), "after": (0.1, 5), "options": options} | changes))


@pytest.mark.parametrize(
    ("kind", "shape", "scale", "expected"),
    [
        ("ADD", (1, 4, 5, 3), 0.1, r"must have one constant, or one per channel of \[1, 4, 5, 3\], not \[1, 4, 5, 3\]"),
        ("MUL", (5, 1), 0.1, r"must have one constant, or one per channel of \[1, 4, 5, 3\], not \[5, 1\]"),
        ("MUL", None, 0.1, "MUL of two maps; nearest: MUL of a map and a constant, or ADD of two maps"),
        ("MUL", (1,), 1e6, "MUL: requantization scale must be .* not 1e.06; nearest: a coarser output"),
        ("MUL", (1,), 60.0, r"MUL by 6e\+03 codes a code; nearest: a coarser output"),
    ],
)
def test_operands_that_are_refused(tmp_path, kind, shape, scale, expected):
    b = Builder()
    image, middle = b.tensor((1, 4, 5, 3), 0.1), b.tensor((1, 4, 5, 3), 0.1)
    other = image if shape is None else b.tensor(shape, scale, data=np.full(shape, 100, np.int8))
    b.operator(kind, [image, other], [middle], f"{kind.title()}Options")
    with pytest.raises(ValueError, match=rf"unsupported: .*{expected}.* \(operator 0 'tensor1'\)$"):
        read_bytes(tmp_path, with_head(b, middle))


def test_maps_that_no_memory_holds_are_refused(tmp_path):
    b = Builder()
    image, padded = b.tensor((1, 4, 5, 3), 0.1), b.tensor((1, (1 << 30) + 4, 5, 3), 0.1)
    b.operator("PAD", [image, b.integers([0, 0], [1 << 30, 0], [0, 0], [0, 0])], [padded], "PadOptions")
    with pytest.raises(ValueError, match=r"tensor 1 \(tensor1\) must be of at most 16777216 values, not 16106127420"):
        read_bytes(tmp_path, b.finish([image], [padded]))


def test_other_constants_and_activations_are_refused(tmp_path):
    b = Builder()
    image, middle = b.tensor((1, 4, 4, 2), 0.1, 3), b.tensor((1, 6, 6, 2), 0.1, 3)
    value = b.tensor((1,), 0.1, 3, data=np.array([-128], np.int8))
    b.operator("PADV2", [image, b.integers([0, 0], [1, 1], [1, 1], [0, 0]), value], [middle], "PadV2Options")
    wide = b.tensor((1, 6, 6, 4), 0.2, 3)
    b.operator("CONCATENATION", [middle, middle], [wide], "ConcatenationOptions", Axis=3)
    tall, more = b.tensor((1, 12, 6, 4), 0.2, 3), b.tensor((1, 12, 6, 8), 0.2, 3)
    b.operator("CONCATENATION", [wide, wide], [tall], "ConcatenationOptions", Axis=0)
    b.operator("CONCATENATION", [tall, tall], [more], "ConcatenationOptions", Axis=3, FusedActivationFunction=TANH)
    expected = (
        r"unsupported: PADV2 with \[-128\]; nearest: the zero point 3 \(operator 0 'tensor1'\); "
        r"CONCATENATION must keep scales and zero points \(operator 1 .*; "
        r"CONCATENATION of .* along 0; nearest: along channels, rows or columns \(operator 2 .*; "
        r"CONCATENATION with activation TANH; nearest: none \(operator 3 "
    )
    with pytest.raises(ValueError, match=expected):
        read_bytes(tmp_path, with_head(b, more))
