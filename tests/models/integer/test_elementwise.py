import numpy as np
import pytest

from hw.numerics import ADD_LEFT_SHIFT, Rounding, add, add_scales, clamp, requantize
from models.integer.elementwise import add_codes, requantize_sums


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("exact", [np.float32, np.float64])
def test_requantized_sums_equal_the_definition(rounding, exact):
    """Every shift, the smallest and largest multipliers, sums to the ends of int32 and around every tie."""
    rng = np.random.default_rng(0)
    shift = np.repeat(np.arange(32), 4)
    multiplier = np.tile(np.array([0, 1 << 30, (1 << 31) - 1, 0x5A827999]), 32)
    bias = rng.integers(-1000, 1000, len(shift))
    ties = (np.arange(-6, 7)[:, None] * 2 + 1) << shift.clip(max=20)
    small = np.concatenate([rng.integers(-300, 300, (300, len(shift))), *(ties + near for near in (-1, 0, 1))])
    bound = (1 << 24 if exact is np.float32 else 1 << 31) - 2000
    sums = np.concatenate([small.clip(-bound, bound) - bias, rng.integers(-bound, bound, (300, len(shift)))])
    found = requantize_sums(sums.astype(exact), bias, multiplier, shift, rounding is Rounding.DOUBLE, -5, -120, 101)
    expected = clamp(requantize(sums + bias, multiplier, shift, rounding) - 5, -120, 101)
    np.testing.assert_array_equal(found, expected.astype(np.int8), strict=True)
    assert len(np.unique(found)) > 200


@pytest.mark.parametrize(
    ("scales", "zero_points"), [((0.02, 0.035, 0.05), (-128, 3, -90)), ((0.5, 1e-4, 0.3), (7, 127, 0))]
)
def test_sums_of_all_pairs_of_codes_equal_the_definition(scales, zero_points):
    codes = np.arange(-128, 128)
    first, second = (a.reshape(-1) for a in np.meshgrid(codes, codes))
    made = add_scales(*scales)
    multipliers, shifts = np.array(made, dtype=np.int64).T.copy()
    points = np.array(zero_points)
    found = add_codes(
        first.astype(np.int8), second.astype(np.int8), points, multipliers, shifts, ADD_LEFT_SHIFT, -100, 120
    )
    expected = clamp(add(first - points[0], second - points[1], made) + points[2], -100, 120)
    np.testing.assert_array_equal(found, expected.astype(np.int8), strict=True)
