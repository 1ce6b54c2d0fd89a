"""The golden model's depthwise convolutions and windowed pools against their definitions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.network.network import INPUT, AveragePool2D, DepthwiseConv2D, MaxPool2D
from hw.numerics import Rounding, average_scale, requantize
from models.integer import golden
from tests.hw.networks import tensor, weighted
from tests.models.definition import codes_of, ending, images, naive_convolution


@settings(max_examples=60)
@given(st.data())
def test_depthwise_convolutions_equal_the_definition(data):
    draw = data.draw
    kernel = (draw(st.integers(1, 11)), draw(st.integers(1, 11)))
    pads = tuple(draw(st.integers(0, min(kernel[axis] - 1, 5))) for axis in (0, 0, 1, 1))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    size = [max(1, kernel[a] - pads[2 * a] - pads[2 * a + 1]) + draw(st.integers(0, 6)) for a in (0, 1)]
    channels, zero_point = draw(st.integers(1, 17)), draw(st.integers(-128, 127))
    out = [(size[a] + pads[2 * a] + pads[2 * a + 1] - kernel[a]) // stride[a] + 1 for a in (0, 1)]
    layer = DepthwiseConv2D(
        name="deep",
        inputs=(INPUT,),
        output=tensor(*out, channels, zero_point=draw(st.integers(-128, 127))),
        stride=stride,
        pads=pads,
        rounding=Rounding.DOUBLE,
        threshold=draw(st.one_of(st.just(1), st.integers(1, 255))),
        **weighted(channels, *kernel, 1, seed=draw(st.integers(0, 99))),
    )
    codes = images(draw(st.integers(1, 5)), *size, channels, seed=draw(st.integers(0, 99)))
    result = golden.run(ending(layer, source=tensor(*size, channels, zero_point=zero_point)), codes, batch=3)
    expected = codes_of(naive_convolution(codes, zero_point, layer), layer)
    np.testing.assert_array_equal(result.tensors["deep"], expected, strict=True)


def test_an_overflow_counts_one_channel_only():
    """255 * 127 * 121 and a bias beside the end of int32: reached through one channel's own 121 products."""
    fields = {**weighted(2, 11, 11, 1), "weight": np.full((2, 11, 11, 1), 127, dtype=np.int8)}
    reach = 121 * 127 * 255
    for bias, allowed in (((1 << 31) - 1 - reach, True), ((1 << 31) - reach, False)):
        layer = DepthwiseConv2D(
            name="deep",
            inputs=(INPUT,),
            output=tensor(1, 1, 2),
            rounding=Rounding.DOUBLE,
            **{**fields, "bias": np.array([bias, 0], dtype=np.int32)},
        )
        net, codes = ending(layer, source=tensor(11, 11, 2)), np.full((1, 11, 11, 2), 127, dtype=np.int8)
        if allowed:
            expected = codes_of(naive_convolution(codes, -128, layer), layer)
            np.testing.assert_array_equal(golden.run(net, codes).tensors["deep"], expected, strict=True)
        else:
            with pytest.raises(
                ValueError, match=r"^deep: accumulators must stay within int32, not reach 0\.\.2147483648$"
            ):
                golden.run(net, codes)


@settings(max_examples=60)
@given(st.data())
def test_windowed_average_pools_are_half_away_from_zero(data):
    draw = data.draw
    size = (draw(st.integers(1, 9)), draw(st.integers(3, 9)))
    window = (draw(st.integers(1, size[0])), draw(st.integers(2, size[1] - 1)))
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    out = [(size[axis] - window[axis]) // stride[axis] + 1 for axis in (0, 1)]
    zero_point = draw(st.integers(-80, 80))
    layer = AveragePool2D(
        name="mean",
        inputs=(INPUT,),
        output=tensor(*out, 3, zero_point=zero_point),
        clamp=(-90, 90),
        window=window,
        stride=stride,
    )
    codes = images(4, *size, 3, seed=draw(st.integers(0, 99)))
    codes[0] = codes[0, 0, 0] // 2
    codes[0, ::2] += 1  # ties where the window has an even number of rows
    found = golden.run(ending(layer, source=tensor(*size, 3, zero_point=zero_point)), codes).tensors["mean"]
    count = window[0] * window[1]
    for y in range(out[0]):
        for x in range(out[1]):
            rows, columns = (
                slice(at * step, at * step + span) for at, step, span in zip((y, x), stride, window, strict=True)
            )
            sums = codes[:, rows, columns].sum(axis=(1, 2), dtype=np.int64)
            means = [Fraction(int(total), count) for total in sums.ravel()]
            away = [int(abs(mean) + Fraction(1, 2)) * (1 if mean >= 0 else -1) for mean in means]
            expected = np.clip(away, -90, 90).reshape(sums.shape)
            np.testing.assert_array_equal(found[:, y, x], expected)
            scaled = requantize(sums, *average_scale(count), Rounding.SINGLE)
            np.testing.assert_array_equal(found[:, y, x], scaled.clip(-90, 90))


@settings(max_examples=60)
@given(st.data())
def test_max_pools_are_the_largest_code_within_the_map(data):
    draw = data.draw
    size = (draw(st.integers(1, 9)), draw(st.integers(2, 9)))
    window = (draw(st.integers(1, 5)), draw(st.integers(2, 5)))
    pads = [draw(st.integers(0, window[axis] - 1)) for axis in (0, 0, 1, 1)]
    for axis in (0, 1):
        pads[2 * axis] = max(pads[2 * axis], window[axis] - size[axis] - pads[2 * axis + 1])
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    out = [(size[axis] + sum(pads[2 * axis : 2 * axis + 2]) - window[axis]) // stride[axis] + 1 for axis in (0, 1)]
    layer = MaxPool2D(
        name="largest",
        inputs=(INPUT,),
        output=tensor(*out, 3, zero_point=draw(st.integers(-80, 80))),
        clamp=(-90, 90),
        window=window,
        stride=stride,
        pads=tuple(pads),
    )
    codes = images(4, *size, 3, seed=draw(st.integers(0, 99)))
    codes[0] = -128
    source = tensor(*size, 3, zero_point=layer.output.zero_point)
    found = golden.run(ending(layer, source=source), codes).tensors["largest"]
    for y in range(out[0]):
        for x in range(out[1]):
            first = y * stride[0] - pads[0], x * stride[1] - pads[2]
            rows, columns = (slice(max(0, at), at + span) for at, span in zip(first, window, strict=True))
            expected = codes[:, rows, columns].max(axis=(1, 2)).clip(-90, 90)
            np.testing.assert_array_equal(found[:, y, x], expected, strict=True)
