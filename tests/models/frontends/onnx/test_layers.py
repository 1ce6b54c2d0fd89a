"""Modules whose windows, weights and codes are as an ONNX file says, against plain loops over NumPy arrays."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.frontends.onnx.layers import (
    Apply,
    BatchNorm,
    Between,
    CodedConv,
    CodedLinear,
    Dequantize,
    Pool,
    Quantize,
    TurnedLinear,
    WindowPlace,
    linear,
    parameter,
)
from models.frontends.onnx.sites import Codes, Coding

RNG = np.random.default_rng(2)
WINDOWS = st.tuples(*(st.integers(1, most) for most in (12, 4, 4, 3)))  # size, kernel, stride, dilation


def window(kernel: int, stride: int = 1, dilation: int = 1, pads: tuple[int, int] = (0, 0), **same: str) -> WindowPlace:
    """A window over the columns of a map, one row high."""
    sizes = {"kernel": (1, kernel), "stride": (1, stride), "dilation": (1, dilation)}
    return WindowPlace(**sizes, pads=((0, 0), pads), **same)


@given(WINDOWS, st.sampled_from(["UPPER", "LOWER"]))
def test_as_much_padding_as_the_same_size_over_the_stride_needs(sizes, same):
    size, kernel, stride, dilation = sizes
    _, (before, behind) = window(kernel, stride, dilation, same=same).pads_of((1, size))
    last = (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation  # what the last window reads last
    assert before + behind == max(0, last + 1 - size)
    assert behind - before in ((0, 1) if same == "UPPER" else (0, -1))


@given(WINDOWS, st.integers(0, 3), st.integers(0, 3))
def test_whether_the_last_window_ends_with_the_map(sizes, before, behind):
    size, kernel, stride, dilation = sizes
    length, reach = size + before + behind, (kernel - 1) * dilation + 1
    if reach > length:
        return
    last = max(range(0, length - reach + 1, stride)) + reach
    assert window(kernel, stride, dilation, (before, behind)).ends((1, size)) == (last == length)


def test_uneven_padding_is_done_at_once_and_even_padding_left_to_the_layer():
    x = torch.ones(1, 1, 1, 2)
    assert window(3, pads=(1, 1)).padded(x) == (x, (0, 1))
    padded, left = window(3, pads=(0, 2)).padded(x, -5.0)
    assert (padded.tolist(), left) == ([[[[1.0, 1.0, -5.0, -5.0]]]], (0, 0))


def pooled(x: list[float], place: WindowPlace, reduce, fill: float) -> list[float]:
    (_, (before, behind)), kernel, stride = place.pads, place.kernel[1], place.stride[1]
    whole = [fill] * before + x + [fill] * behind
    return [reduce(whole[n : n + kernel]) for n in range(0, len(whole) - kernel + 1, stride)]


@settings(max_examples=40)
@given(st.lists(st.integers(-9, -1), min_size=6, max_size=12), st.integers(2, 3), st.integers(1, 3), st.integers(0, 1))
def test_pools_of_windows_with_uneven_padding(values, kernel, stride, before):
    place = window(kernel, stride, pads=(before, 1 - before))
    x = torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)
    largest = Pool(place, largest=True)(x).reshape(-1).tolist()
    assert largest == pooled(values, place, max, -math.inf)
    average = Pool(place, largest=False)(x).reshape(-1)
    expected = pooled(values, place, lambda part: sum(part) / kernel, 0.0)
    torch.testing.assert_close(average, torch.tensor(expected))


def test_averages_that_would_differ_are_refused():
    x = torch.zeros(1, 1, 1, 6)
    with pytest.raises(ValueError, match="ceil_mode of averages must make no difference"):
        Pool(window(3, 2), largest=False, ceil=True)(x)
    assert Pool(window(2, 2), largest=False, ceil=True)(x).shape == (1, 1, 1, 3)
    with pytest.raises(ValueError, match="must be even on both sides, or count_include_pad 1"):
        Pool(window(3, pads=(0, 1)), largest=False, counted=False)(x)


def coded(shape: tuple[int, ...], axis: int | None, dtype=np.int8) -> Codes:
    """Codes with one scale, or with one for each along an axis."""
    count = () if axis is None else (shape[axis],)
    info = np.iinfo(dtype)
    return Codes(
        values=RNG.integers(max(info.min, -99), min(info.max, 99), shape).astype(dtype),
        scale=np.asarray(RNG.random(count), np.float32),
        zero_point=np.asarray(RNG.integers(0, 9, count)).astype(dtype), axis=axis or 0,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_constant_codes_are_their_floats(axis, dtype):
    codes = coded((4, 3), axis, dtype)
    found = Dequantize(codes)
    np.testing.assert_array_equal(found().numpy(), codes.floats())
    assert found.codes.dtype == torch.from_numpy(codes.values).dtype


@pytest.mark.parametrize("bias", ["codes", "floats", "none"])
def test_layers_with_weights_in_codes(bias):
    shift = {"codes": coded((4,), None, np.int32), "floats": RNG.random(4).astype(np.float32), "none": None}[bias]
    values = 0 if shift is None else shift if bias == "floats" else shift.floats()
    weight, x = coded((4, 6), 0), RNG.random((5, 6)).astype(np.float32)
    found = CodedLinear(weight, shift)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, x @ weight.floats().T + values, rtol=1e-4, atol=1e-3)
    kernel = coded((4, 1, 1, 2), 0)  # two groups of one channel each
    rows = RNG.random((1, 2, 1, 5)).astype(np.float32)
    conv = CodedConv(kernel, shift, window(2, pads=(0, 1)), 2)(torch.from_numpy(rows)).detach().numpy()
    padded = np.pad(rows[0, :, 0], [(0, 0), (0, 1)])
    for channel in range(4):
        taps, source = kernel.floats()[channel, 0, 0], padded[channel // 2]
        expected = source[:-1] * taps[0] + source[1:] * taps[1] + np.broadcast_to(values, 4)[channel]
        np.testing.assert_allclose(conv[0, channel, 0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 2, 3)])
@pytest.mark.parametrize("in_codes", [False, True])
def test_weights_for_values_in_another_order(order, in_codes):
    """The file flattened the map in its own order; the weights are turned, not the map."""
    weight = coded((4, 24), 0)
    layer = CodedLinear(weight, RNG.random(4).astype(np.float32)) if in_codes else linear(weight.floats(), np.ones(4))
    image = torch.from_numpy(RNG.random((2, 2, 3, 4)).astype(np.float32))
    found = TurnedLinear(layer, order)(image.flatten(1), image)
    torch.testing.assert_close(found, layer(image.permute(order).flatten(1)))


OF = Coding(scale=0.5, zero_point=-3, dtype=torch.int8, low=-10, high=100)


def test_maps_become_codes_and_back():
    values = torch.tensor([-99.0, -0.75, 0.25, 0.75, 40.0, 99.0])
    codes = Quantize(OF)(values)
    assert codes.dtype == torch.int8
    assert codes.tolist() == [-10, -5, -3, -1, 77, 100]  # halves go to the even number of steps
    assert Quantize(OF, back=True)(codes).tolist() == [-3.5, -1.0, 0.0, 1.0, 40.0, 51.5]


def test_an_operator_between_codes_gets_floats_and_other_inputs_as_they_are():
    target = Coding(scale=2.0, zero_point=0, dtype=torch.uint8, low=0, high=255)
    seen = []

    def both(one, other, sizes):
        seen.append(sizes)
        return one + other

    codes = torch.tensor([-3, 97], dtype=torch.int8)
    assert Between([OF, OF], Apply(both), target)(codes, codes, "sizes").tolist() == [0, 50]
    assert Between([OF], nn.Identity(), None)(codes).tolist() == [0.0, 50.0]
    assert seen == ["sizes"]


def test_weights_are_copies():
    values = np.ones((2, 3), np.float32)
    layer = linear(values.T, None)
    values[:] = 5
    assert (layer.weight == 1).all()
    assert (layer.bias, layer.weight.is_contiguous()) == (None, True)
    assert parameter(np.ones(2)).dtype == torch.float32
    found = Apply(lambda x, c: x - c, np.array([2.0]))
    assert found(torch.ones(3)).tolist() == [-1.0] * 3
    assert [name for name, _ in found.named_parameters()] == ["constant"]


def test_batch_norms_of_any_number_of_axes():
    norm = BatchNorm(3).eval()
    for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5)):
        x = torch.ones(shape)
        torch.testing.assert_close(norm(x), x / math.sqrt(1 + norm.eps))
    with pytest.raises(ValueError, match="a batch norm must read channels, not 1 dimensions"):
        norm(torch.ones(3))
