from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.network.network import INPUT, Add, Conv2D, Exit, Layer, Linear, MaxPool2D, Network, Tensor
from hw.numerics import Rounding
from models.frontends.identities import (
    MAX_OUTPUTS,
    affine,
    concatenated,
    own_logits,
    raw_output,
    rescaled,
    runnable,
    with_logits,
    with_zero_logit,
)
from models.integer import golden
from tests.hw.compiler.test_compile import ROOMY
from tests.hw.equality import assert_equals_golden
from tests.hw.networks import weighted

IMAGE = Tensor(shape=(2, 4, 2), scale=0.25, zero_point=-5)
RNG = np.random.default_rng(3)


def network(*layers: Layer, image: Tensor = IMAGE) -> Network:
    """A network of these layers, whose last one's codes are its logits."""
    last = layers[-1]
    head = raw_output("head", last.name, last.output, channels_first=False)
    return Network(
        name="net", input=image, layers=(*layers, head), exits=(Exit(logits="head"),), classes=head.output.shape[2]
    )


def images(tensor: Tensor = IMAGE) -> np.ndarray:
    return RNG.integers(-128, 128, (4, *tensor.shape)).astype(np.int8)


def tensors(net: Network, codes: np.ndarray) -> dict[str, np.ndarray]:
    """All tensors, after the accelerator has been found to make the same."""
    assert_equals_golden(compile_network(net, ROOMY), codes[:2])
    return golden.run(net, codes).tensors


def conv(name: str, source: str, depth: int, output: Tensor, **values: object) -> Conv2D:
    weights = weighted(output.shape[2], 1, 1, depth, seed=depth)
    return Conv2D(name=name, inputs=(source,), output=output, rounding=Rounding.DOUBLE, **weights, **values)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_copy_is_exact(channels):
    image = Tensor(shape=(16, 16, channels), scale=0.3, zero_point=7)
    every = np.resize(np.arange(-128, 128), (1, *image.shape)).astype(np.int8)
    net = network(
        rescaled("copy", INPUT, image), conv("more", "copy", channels, replace(IMAGE, shape=(16, 16, 2))), image=image
    )
    found = golden.run(net, every).tensors["copy"]
    np.testing.assert_array_equal(found, every)


@pytest.mark.parametrize("quotient", [0.001, 0.3, 0.5, 0.99999999999, 1.0, 1.0000001, 1.7, 33.0, 63.9])
def test_another_scale_is_the_nearest_code(quotient):
    image = Tensor(shape=(16, 16, 1), scale=0.3, zero_point=-11)
    after = Tensor(shape=(16, 16, 1), scale=0.3 / quotient, zero_point=4)
    layer = rescaled("other", INPUT, image, after, clamp=(-100, 90))
    every = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1)
    found = golden.run(network(layer, image=image), every).tensors["other"].astype(np.int64)
    exact = (every.astype(np.int64) + 11) * quotient + 4
    assert (np.abs(found - exact.clip(-100, 90)) <= 0.5 + 1e-6).all()


def test_too_coarse_a_scale_is_refused():
    with pytest.raises(ValueError, match="other: a map's scale must be less than 64 times that of what it becomes"):
        rescaled("other", INPUT, IMAGE, replace(IMAGE, scale=IMAGE.scale / 64))


def test_gains_and_offsets_give_the_nearest_code():
    image = Tensor(shape=(8, 8, 4), scale=0.3, zero_point=-11)
    after = Tensor(shape=(8, 8, 4), scale=0.1, zero_point=4)
    gain, offset = np.array([1.5, -0.001, 0, 20]), np.array([-3, 1.234, -2.5, 100])
    layer = affine("other", INPUT, image, after, gain, offset, clamp=(-100, 90))
    every = np.resize(np.arange(-128, 128, dtype=np.int8).repeat(4), (4, 8, 8, 4))
    head = raw_output("head", "small", replace(after, shape=(1, 1, 4)), channels_first=False)
    small = Conv2D(
        name="small", inputs=("other",), output=replace(after, shape=(1, 1, 4)), rounding=Rounding.DOUBLE,
        **weighted(4, 8, 8, 4),
    )  # fmt: skip
    net = replace(network(layer, image=image), layers=(layer, small, head), classes=4)
    found = golden.run(net, every).tensors["other"].astype(np.int64)
    exact = ((every.astype(np.int64) + 11) * 0.3 * gain + offset) / 0.1 + 4
    off = np.abs(found - exact.clip(-100, 90)).max(axis=(0, 1, 2))
    assert off.max() <= 0.5 + 1 / 128
    assert off[0] <= 0.5 + 1 / 1024  # of 64 weights one fits its offset


def test_concatenation_of_equal_scales_is_exact():
    first = conv("first", INPUT, 2, Tensor(shape=(2, 4, 3), scale=0.25, zero_point=9))
    second = conv("second", INPUT, 2, replace(IMAGE, shape=(2, 4, 1), zero_point=0))
    sources = [("first", first.output), (INPUT, IMAGE), ("second", second.output), (INPUT, IMAGE)]
    output = Tensor(shape=(2, 4, 8), scale=0.25, zero_point=9)
    layers = concatenated("both", sources, output)
    assert [layer.name for layer in layers] == ["both.part0", "both.part1", "both.sum1", "both.part2", "both"]
    found = tensors(network(first, second, *layers), images())
    parts = [found[name].astype(int) - tensor.zero_point + 9 for name, tensor in sources]
    np.testing.assert_array_equal(found["both"], np.concatenate(parts, axis=3).clip(-128, 127))


def test_concatenation_of_other_scales_rescales_and_clamps():
    other = conv("other", INPUT, 2, Tensor(shape=(2, 4, 2), scale=0.125, zero_point=-128))
    output = Tensor(shape=(2, 4, 4), scale=0.5, zero_point=-10)
    layers = concatenated("both", [(INPUT, IMAGE), ("other", other.output)], output, clamp=(-10, 20))
    found = tensors(network(other, *layers), images())
    real = np.concatenate([(found[INPUT] + 5.0) * 0.25, (found["other"] + 128.0) * 0.125], axis=3)
    assert np.abs(found["both"] - (real / 0.5 - 10).clip(-10, 20)).max() <= 0.5


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_and_columns_that_follow_each_other(axis):
    """Other numbers of them, more than any kernel has, a map twice, another scale."""
    shapes = [(6, 1, 2), (2, 1, 2)] if axis == 0 else [(1, 6, 2), (1, 2, 2)]
    image = replace(IMAGE, shape=shapes[0])
    other = Conv2D(
        name="other", inputs=(INPUT,), output=Tensor(shape=shapes[1], scale=0.125, zero_point=30),
        rounding=Rounding.DOUBLE, **weighted(2, *[5 if n == axis else 1 for n in (0, 1)], 2, seed=2),
    )  # fmt: skip
    shape = tuple(14 if n == axis else size for n, size in enumerate(shapes[0]))
    output = Tensor(shape=shape, scale=0.25, zero_point=9)
    layers = concatenated("all", [(INPUT, image), ("other", other.output), (INPUT, image)], output, axis=axis)
    assert [layer.name for layer in layers] == ["all.part0", "all.part1", "all.sum1", "all.part2", "all"]
    found = tensors(network(other, *layers, image=image), images(image))
    whole = found[INPUT].astype(int) + 5 + 9
    part = (found["other"].astype(int) - 30) / 2 + 9
    expected = np.concatenate([whole, part, whole], axis=1 + axis).clip(-128, 127)
    assert np.abs(found["all"] - expected).max() <= 0.5
    np.testing.assert_array_equal(found["all"].take(range(6), axis=1 + axis), whole.clip(-128, 127))


def test_twice_the_same_map_is_one_layer():
    layers = concatenated("twice", [(INPUT, IMAGE), (INPUT, IMAGE)], replace(IMAGE, shape=(2, 4, 4)))
    assert [layer.name for layer in layers] == ["twice"]
    found = tensors(network(*layers), images())
    np.testing.assert_array_equal(found["twice"], np.concatenate([found[INPUT]] * 2, axis=3))


@pytest.mark.parametrize("channels_first", [False, True])
def test_raw_output_gives_codes_in_the_sources_order(channels_first):
    layer = conv("last", INPUT, 2, Tensor(shape=(2, 4, 3), scale=0.5, zero_point=20))
    head = raw_output("head", "last", layer.output, channels_first=channels_first)
    net = replace(network(layer), layers=(layer, head))
    found = tensors(net, images())
    expected = found["last"].astype(int) - 20
    expected = expected.transpose(0, 3, 1, 2) if channels_first else expected
    np.testing.assert_array_equal(found["head"].reshape(4, -1), expected.reshape(4, -1))


def test_one_output_gets_a_logit_of_zero_before_it():
    """Class 1 is the positive one, as labels of two classes have it; the least positive value is of it, 0 isn't."""
    layer = Linear(
        name="one", inputs=(INPUT,), output=Tensor(shape=(1, 1, 1), scale=0.5, zero_point=3),
        rounding=Rounding.SINGLE, **weighted(1, 2, 4, 2),
    )  # fmt: skip
    codes = images()
    found = golden.run(network(layer), codes)
    assert tensors(network(layer), codes)["head"].shape == (4, 1, 1, 2)
    value = found.tensors["one"].astype(int).reshape(4) - 3
    np.testing.assert_array_equal(found.logits[0], np.stack([np.zeros(4), value], axis=1))
    np.testing.assert_array_equal(found.classes, value > 0)
    np.testing.assert_array_equal(found.margins[:, 0], np.abs(value))


def test_a_raw_head_of_one_output_keeps_its_bias():
    raw = Linear(
        name="one", inputs=(INPUT,), output=Tensor(shape=(1, 1, 1), scale=0.5, zero_point=0),
        rounding=Rounding.SINGLE, raw=True, **weighted(1, 2, 4, 2),
    )  # fmt: skip
    head = with_zero_logit(raw)
    net = Network(name="net", input=IMAGE, layers=(head,), exits=(Exit(logits="one"),), classes=2)
    codes = images()
    logits = golden.run(net, codes).logits[0]
    sums = ((codes.astype(int) + 5) * raw.weight[0].astype(int)).sum(axis=(1, 2, 3)) + raw.bias[0]
    np.testing.assert_array_equal(logits, np.stack([np.zeros(4), sums], axis=1))


@pytest.mark.parametrize(("value", "expected"), [(-1, 0), (0, 0), (1, 1)])
def test_only_above_zero_is_class_1(value, expected):
    image = Tensor(shape=(1, 1, 1), scale=0.5, zero_point=0)
    head = raw_output("head", INPUT, image, channels_first=True)
    net = Network(name="net", input=image, layers=(head,), exits=(Exit(logits="head"),), classes=2)
    assert golden.run(net, np.full((1, 1, 1, 1), value, dtype=np.int8)).classes.tolist() == [expected]


@pytest.mark.parametrize("count", [1, 3])
def test_a_sources_own_logits_are_told_from_those_that_were_added(count):
    source = Tensor(shape=(1, 1, count), scale=0.5, zero_point=0)
    head = with_logits(raw_output("head", INPUT, source, channels_first=True), source, 5)
    net = Network(name="net", input=source, layers=(head,), exits=(Exit(logits="head"),), classes=5)
    codes = np.random.default_rng(4).integers(-128, 128, (6, 1, 1, count)).astype(np.int8)
    logits = golden.run(net, codes).logits[0]
    np.testing.assert_array_equal(own_logits(logits, count), codes.reshape(6, count))


def test_too_many_outputs_are_refused():
    with pytest.raises(ValueError, match=f"big: a network's output must have at most {MAX_OUTPUTS} values, not 2049"):
        raw_output("head", "big", Tensor(shape=(1, 1, 2049), scale=1.0, zero_point=0), channels_first=False)


def test_every_sum_can_run():
    depth = conv("depth", INPUT, 2, IMAGE)
    sums = [
        ("own", ("depth", INPUT)),  # what the convolution reads
        ("twice", ("own", "own")),
        ("chain", ("twice", INPUT)),  # no convolution before it
        ("again", ("chain", "own")),
    ]
    adds = [Add(name=name, inputs=inputs, output=replace(IMAGE, scale=0.4)) for name, inputs in sums]
    plain = [depth, *adds]
    net = network(*runnable(IMAGE, plain))
    codes = images()
    expected = golden.run(network(*plain), codes).tensors
    found = tensors(net, codes)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_sums_that_can_run_stay_as_they_are_but_for_their_order():
    first, second = conv("first", INPUT, 2, IMAGE), conv("second", "first", 2, IMAGE)
    between = conv("between", "first", 2, IMAGE)
    add = Add(name="sum", inputs=("between", "second"), output=replace(IMAGE, scale=0.4))
    assert runnable(IMAGE, [first, between, second, add]) == (first, between, second, add)
    last = Add(name="last", inputs=("sum", "between2"), output=replace(IMAGE, scale=0.4))
    early = replace(between, name="between2", inputs=(INPUT,))
    found = runnable(IMAGE, [first, early, between, second, add, last])
    assert [layer.name for layer in found] == ["first", "between", "second", "sum", "between2", "last"]


def test_a_max_pool_gets_a_copy_where_others_read_its_map():
    layer = conv("layer", INPUT, 2, IMAGE)
    pool = MaxPool2D(
        name="pool", inputs=("layer",), output=replace(IMAGE, shape=(1, 3, 2)), window=(2, 2), stride=(1, 1)
    )
    after = conv("after", "layer", 2, replace(IMAGE, shape=(1, 3, 2), scale=0.3))
    after = replace(after, weight=np.resize(after.weight, (2, 2, 2, 2)))
    add = Add(name="sum", inputs=("after", "pool"), output=replace(pool.output, scale=0.4))
    plain = [layer, pool, after, add]
    found = runnable(IMAGE, plain)
    assert [each.name for each in found] == ["layer", "layer.copy", "pool", "after", "sum"]
    codes = images()
    expected = golden.run(network(*plain), codes).tensors
    values = tensors(network(*found), codes)
    for name, each in expected.items():
        np.testing.assert_array_equal(values[name], each, err_msg=name)
    only = [replace(layer, clamp=(-5, 127)), *plain[1:]]
    assert runnable(IMAGE, only) == tuple(only)


@pytest.mark.parametrize(("channels", "read"), [(10, "sum.copy_2"), (8, "sum")])
def test_a_max_pool_gets_a_copy_of_a_sum_whose_last_word_has_dummies(channels, read):
    """The sum reads copies, too."""
    wide = replace(IMAGE, shape=(2, 4, channels))
    layer = conv("layer", INPUT, 2, wide)
    add = Add(name="sum", inputs=("layer", "layer"), output=replace(wide, scale=0.4))
    pool = MaxPool2D(
        name="pool", inputs=("sum",), output=replace(add.output, shape=(1, 3, channels)), window=(2, 2), stride=(1, 1)
    )
    plain = [layer, add, pool]
    found = runnable(IMAGE, plain)
    assert found[-1].inputs == (read,)
    codes = images()
    expected = golden.run(network(*plain), codes).tensors
    values = tensors(network(*found), codes)
    for name, each in expected.items():
        np.testing.assert_array_equal(values[name], each, err_msg=name)


def test_logits_that_a_head_lacks_are_never_the_largest():
    rng = np.random.default_rng(7)
    source = Tensor(shape=(1, 1, 6), scale=0.1, zero_point=-100)
    head = Linear(
        name="head", inputs=("map",), output=Tensor(shape=(1, 1, 3), scale=0.01, zero_point=0),
        weight=rng.integers(-127, 128, (3, 1, 1, 6)).astype(np.int8), bias=np.array([5, -900, 70], dtype=np.int32),
        multiplier=np.zeros(3, np.int32), shift=np.zeros(3, np.int32), rounding=Rounding.SINGLE, raw=True,
    )  # fmt: skip
    assert with_logits(head, source, 3) is head
    wide = with_logits(head, source, 5)
    assert wide.output.shape == (1, 1, 5)
    codes = np.where(head.weight > 0, -128, 127).reshape(3, 6)  # each makes one logit as small as can be
    values = codes.astype(np.int64) + 100
    first, second = (values @ each.weight.reshape(-1, 6).T.astype(np.int64) + each.bias for each in (head, wide))
    np.testing.assert_array_equal(first, second[:, :3])
    assert (second[:, 3:] == first.min()).all()
