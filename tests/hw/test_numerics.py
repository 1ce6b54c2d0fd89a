import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.numerics import (
    ADD_LEFT_SHIFT,
    IDENTITY,
    Rounding,
    accumulator_range,
    add,
    add_scales,
    average_scale,
    clamp,
    quantize_scale,
    requantize,
    top2,
)

HALF = Fraction(1, 2)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
MULTIPLIERS = st.one_of(st.just(0), st.integers(1 << 30, (1 << 31) - 1))
SHIFTS = st.integers(0, 31)


def half_up(value: Fraction) -> int:
    return math.floor(value + HALF)


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def exact(accumulator: int, multiplier: int, shift: int, rounding: Rounding) -> int:
    """The definition in exact fractions: TFLite's SaturatingRoundingDoublingHighMul rounds half up (its negative branch
    truncates towards zero after a nudge of 1 - 2**30, which is the same), RoundingDivideByPOT half away from zero."""
    product = Fraction(accumulator) * multiplier
    if rounding is Rounding.SINGLE:
        return half_up(product / (1 << 31 + shift))
    return half_away(Fraction(half_up(product / (1 << 31)), 1 << shift))


def gemmlowp_high_multiply(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul as gemmlowp writes it, with C's division towards zero."""
    product = a * b
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    return nudged // (1 << 31) if nudged >= 0 else -(-nudged // (1 << 31))


def gemmlowp_divide(x: int, exponent: int) -> int:
    """RoundingDivideByPOT as gemmlowp writes it."""
    mask = (1 << exponent) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))


@given(INT32, MULTIPLIERS, SHIFTS, st.sampled_from(Rounding))
def test_requantize_is_the_exact_definition(accumulator, multiplier, shift, rounding):
    assert requantize(accumulator, multiplier, shift, rounding) == exact(accumulator, multiplier, shift, rounding)


@given(INT32, MULTIPLIERS, SHIFTS)
def test_double_rounding_is_gemmlowps(accumulator, multiplier, shift):
    expected = gemmlowp_divide(gemmlowp_high_multiply(accumulator, multiplier), shift)
    assert requantize(accumulator, multiplier, shift, Rounding.DOUBLE) == expected


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("shift", [0, 1, 2, 3, 7, 30, 31])
def test_requantize_at_every_residue_near_ties(rounding, shift):
    """For several multipliers: the accumulators whose scaled value lies nearest to k + 1/2, for k around 0 and the ends
    of int8, on both sides; and, with a multiplier of 2**30, all residues of the shift."""
    for multiplier in (1 << 30, (1 << 30) + 1, 0x5A827999, 0x7FFFFFFF, 3 << 29):
        scale = Fraction(multiplier, 1 << 31 + shift)
        centres = {int((k + HALF) / scale) for k in (-130, -129, -128, -127, -3, -2, -1, 0, 1, 2, 126, 127, 128)}
        near = {c + d for c in centres for d in range(-6, 7)} | set(range(-70, 71))
        if shift < 8:
            near |= set(range(-(4 << shift), (4 << shift) + 1))
        for accumulator in (a for a in near if -(1 << 31) <= a < 1 << 31):
            found = requantize(accumulator, multiplier, shift, rounding)
            assert found == exact(accumulator, multiplier, shift, rounding), (accumulator, multiplier)


def test_requantize_ties_by_hand():
    half = (1 << 30, 0)  # one half
    quarter = (1 << 30, 1)
    for rounding, expected in ((Rounding.DOUBLE, [-1, 0, 0, 1, 2]), (Rounding.SINGLE, [-1, 0, 0, 1, 2])):
        assert [requantize(a, *half, rounding) for a in (-3, -1, 0, 1, 3)] == expected
    # The second rounding of DOUBLE goes away from zero: -4/4 ... -1.5 is rounded to -1 first, then -0.5 away to -1.
    assert [requantize(a, *quarter, Rounding.DOUBLE) for a in (-6, -3, -2, 2, 3, 6)] == [-2, -1, -1, 1, 1, 2]
    assert [requantize(a, *quarter, Rounding.SINGLE) for a in (-6, -3, -2, 2, 3, 6)] == [-1, -1, 0, 1, 1, 2]


@pytest.mark.parametrize("rounding", Rounding)
def test_requantize_at_the_ends_of_its_ranges(rounding):
    ends = ((-(1 << 31), (1 << 31) - 1, 0), (0, 1 << 30, (1 << 31) - 1), (0, 31))
    for accumulator, multiplier, shift in itertools.product(*ends):
        expected = exact(accumulator, multiplier, shift, rounding)
        assert requantize(accumulator, multiplier, shift, rounding) == expected
        wide = [np.array([value], dtype=np.int64) for value in (accumulator, multiplier, shift)]
        assert requantize(*wide, rounding).tolist() == [expected]


@settings(max_examples=60)
@given(st.lists(st.tuples(INT32, MULTIPLIERS, SHIFTS), min_size=1, max_size=40), st.sampled_from(Rounding))
def test_requantize_is_the_same_for_integers_arrays_and_tensors(values, rounding):
    columns = [np.array(column, dtype=np.int64) for column in zip(*values, strict=True)]
    expected = [requantize(*value, rounding) for value in values]
    array = requantize(*columns, rounding)
    tensor = requantize(*(torch.from_numpy(column) for column in columns), rounding)
    assert (array.dtype, tensor.dtype) == (np.int64, torch.int64)
    assert array.tolist() == tensor.tolist() == expected
    _, multiplier, shift = values[0]
    expected = [requantize(value[0], multiplier, shift, rounding) for value in values]
    assert requantize(columns[0], multiplier, shift, rounding).tolist() == expected
    assert requantize(torch.from_numpy(columns[0]), multiplier, shift, rounding).tolist() == expected


def test_requantize_of_the_extremes_saturates_through_clamp():
    for accumulator, expected in (((1 << 31) - 1, 127), (-(1 << 31), -128)):
        value = requantize(accumulator, (1 << 31) - 1, 0, Rounding.DOUBLE)
        assert clamp(value, -128, 127) == expected


@given(st.integers(-1000, 1000), st.integers(-128, 127), st.integers(-128, 127))
def test_clamp_is_the_same_for_integers_arrays_and_tensors(value, one, other):
    low, high = sorted((one, other))
    found = clamp(value, low, high)
    assert found == sorted((low, value, high))[1]
    assert clamp(np.array([value]), low, high).tolist() == clamp(torch.tensor([value]), low, high).tolist() == [found]


@given(st.floats(2.0**-32, 1.0, exclude_min=False, exclude_max=True, allow_subnormal=False))
def test_quantize_scale_is_tflites_definition(scale):
    """QuantizeMultiplier: the mantissa rounded half away from zero to 31 bits, one doubling moved into the exponent."""
    mantissa, exponent = math.frexp(scale)
    multiplier = half_away(Fraction(mantissa) * (1 << 31))
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier // 2, exponent + 1
    if exponent > 0:
        with pytest.raises(ValueError, match="must be below 1 after rounding"):
            quantize_scale(scale)
        return
    found = quantize_scale(scale)
    assert found == (multiplier, -exponent)
    assert 1 << 30 <= found.multiplier < 1 << 31
    assert 0 <= found.shift <= 31
    value = Fraction(found.multiplier, 1 << 31 + found.shift)
    assert abs(value - Fraction(scale)) <= Fraction(scale) * Fraction(1, 1 << 31)


@given(st.integers(1 << 30, (1 << 31) - 1), SHIFTS)
def test_quantize_scale_inverts_its_own_values(multiplier, shift):
    assert quantize_scale(math.ldexp(multiplier, -31 - shift)) == (multiplier, shift)


def test_quantize_scale_at_its_ends():
    assert quantize_scale(0.5) == (1 << 30, 0)
    assert quantize_scale(math.nextafter(0.5, 0.0)) == (1 << 30, 0)
    assert quantize_scale(2.0**-32) == (1 << 30, 31)
    assert quantize_scale(2.0**-33) == (0, 0)
    assert quantize_scale(5e-324) == (0, 0)


@pytest.mark.parametrize("scale", [0.0, -0.5, 1.0, 2.0, math.inf, -math.inf, math.nan])
def test_quantize_scale_refuses(scale):
    with pytest.raises(ValueError, match=rf"requantization scale must be above 0 and below 1, not {scale!r}"):
        quantize_scale(scale)


def test_quantize_scale_refuses_what_rounds_to_one():
    with pytest.raises(ValueError, match=r"requantization scale must be below 1 after rounding, not 0\.99"):
        quantize_scale(1.0 - 2.0**-40)


def test_average_scale_is_exact_for_every_count():
    """Every sum next to a tie (k + 1/2) * count, for every k of an int8 mean, and every sum next to a whole mean."""
    ties = np.arange(-257, 257, 2, dtype=np.int64)
    near = np.arange(-2, 3, dtype=np.int64)
    for count in range(2, 2049):
        multiplier, shift = average_scale(count)
        assert 1 << 30 <= multiplier < 1 << 31
        assert 0 <= shift <= 31
        centres = np.concatenate([ties * count // 2, ties // 2 * count])
        sums = (centres[:, None] + near).reshape(-1)
        sums = sums[np.abs(sums) <= 128 * count]
        expected = np.sign(sums) * ((2 * np.abs(sums) + count) // (2 * count))
        found = requantize(sums, multiplier, shift, Rounding.SINGLE)
        np.testing.assert_array_equal(found, expected, err_msg=f"count {count}")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16, 49, 64, 255])
def test_average_scale_at_every_sum(count):
    sums = np.arange(-128 * count, 128 * count + 1, dtype=np.int64)
    expected = [half_away(Fraction(int(total), count)) for total in sums]
    np.testing.assert_array_equal(requantize(sums, *average_scale(count), Rounding.SINGLE), expected)


@pytest.mark.parametrize("count", [-1, 0, 2049, 1 << 20])
def test_average_scale_refuses(count):
    with pytest.raises(ValueError, match=f"average pool must cover 1 to 2048 positions, not {count}"):
        average_scale(count)


SCALES = st.floats(2.0**-9, 2.0**9)


@given(SCALES, SCALES, SCALES, st.integers(-255, 255), st.integers(-255, 255))
def test_add_is_the_exact_definition(first, second, output, a, b):
    scales = add_scales(first, second, output)
    lifted = [
        exact(value << ADD_LEFT_SHIFT, *scale, Rounding.DOUBLE)
        for value, scale in ((a, scales.first), (b, scales.second))
    ]
    assert add(a, b, scales) == exact(sum(lifted), *scales.output, Rounding.DOUBLE)
    assert add(np.array([a]), np.array([b]), scales).tolist() == [add(a, b, scales)]
    assert add(torch.tensor([a]), torch.tensor([b]), scales).tolist() == [add(a, b, scales)]
    # An operand of the larger scale is halved exactly: 2**20 / 2 carries no rounding.
    assert max(scales.first, scales.second, key=lambda s: (-s.shift, s.multiplier)) == (1 << 30, 0)


@given(SCALES, SCALES, SCALES, st.integers(-255, 255), st.integers(-255, 255))
def test_add_is_near_the_real_sum_and_symmetric(first, second, output, a, b):
    found = add(a, b, add_scales(first, second, output))
    real = (first * a + second * b) / output
    # One half from the last rounding; before it, two operands lifted by 2**20 and rounded to whole numbers.
    assert abs(found - real) <= 0.5 + 4 * max(first, second) / output / (1 << ADD_LEFT_SHIFT) + abs(real) * 2.0**-28
    assert add(b, a, add_scales(second, first, output)) == found


def test_add_by_hand():
    """Equal scales: a plain sum. An output of twice the scale: half the sum, ties away from zero."""
    assert [add(a, b, add_scales(0.5, 0.5, 0.5)) for a, b in ((3, 4), (-3, -4), (255, 255))] == [7, -7, 510]
    assert [add(a, b, add_scales(0.5, 0.5, 1.0)) for a, b in ((3, 4), (-3, -4), (1, 1))] == [4, -4, 1]


WEIGHTS = st.integers(1, 4).flatmap(
    lambda products: st.lists(
        st.tuples(st.lists(st.integers(-127, 127), min_size=products, max_size=products), st.integers(-9999, 9999)),
        min_size=1,
        max_size=4,
    )
)


@settings(max_examples=60)
@given(WEIGHTS, st.integers(-255, 0), st.integers(0, 255), st.randoms(use_true_random=False))
def test_accumulator_range_bounds_every_order_and_is_reached(rows, low, high, random):
    weights = np.array([row for row, _ in rows])
    bias = np.array([value for _, value in rows])
    bottom, top = accumulator_range(weights, bias, low, high)
    seen = {0}
    for row, offset in rows:
        for choice in itertools.product((low, 0, high), repeat=len(row)):
            products = [w * a for w, a in zip(row, choice, strict=True)]
            random.shuffle(products)
            partial = list(itertools.accumulate(products))
            seen |= {*partial, partial[-1] + offset}
        for _ in range(10):
            products = [w * random.randint(low, high) for w in row]
            random.shuffle(products)
            partial = list(itertools.accumulate(products))
            seen |= {*partial, partial[-1] + offset}
    assert (min(seen), max(seen)) == (bottom, top)


@given(st.lists(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_top2_is_the_first_of_the_largest(rows):
    best, difference = top2(np.array(rows, dtype=np.int32))
    for row, index, value in zip(rows, best, difference, strict=True):
        first, second = sorted(row, reverse=True)[:2]
        assert index == row.index(first)
        assert value == first - second


def test_top2_breaks_ties_by_the_first_index_at_full_range():
    best, difference = top2(np.array([[5, 7, 7], [7, 5, 7], [-(1 << 31), (1 << 31) - 1, -(1 << 31)]], dtype=np.int32))
    assert best.tolist() == [1, 0, 1]
    assert difference.tolist() == [0, 0, (1 << 32) - 1]


def test_the_identity_changes_no_code_and_no_activation():
    values = np.concatenate([np.arange(-(1 << 16), 1 << 16), [1 - (1 << 30), (1 << 30) - 1]])
    np.testing.assert_array_equal(requantize(values, *IDENTITY, Rounding.SINGLE), values)
    assert requantize(-(1 << 30), *IDENTITY, Rounding.SINGLE) == 1 - (1 << 30)  # nor is the limit stated too low
