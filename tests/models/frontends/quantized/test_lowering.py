"""Codes of real bounds, and bounds that are put on one after the other."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.frontends.quantized.lowering import ANY, CodeRequest, Quantization

BOUNDS = st.one_of(st.floats(-99, 99), st.sampled_from([-math.inf, math.inf]))
PAIRS = st.tuples(BOUNDS, BOUNDS).map(sorted).map(tuple)
SCALES = st.sampled_from([0.25, 0.5, 2.0])  # exact in floating point
CODES = st.tuples(st.integers(-128, 127), st.integers(-128, 127)).map(sorted)


@given(SCALES, st.integers(-128, 127), CODES, PAIRS)
def test_bounds_are_codes_that_are_nearest_and_exist(scale, zero_point, codes, bounds):
    low, high = codes
    of = Quantization(scale=scale, zero_point=zero_point, low=low, high=high)
    for found, bound in zip(of.codes(bounds), bounds, strict=True):
        if math.isfinite(bound):
            off = np.abs((np.arange(low, high + 1) - zero_point) * scale - bound)
            assert low <= found <= high
            assert off[found - low] == off.min()
        else:
            assert found == (high if bound > 0 else low)


@given(st.lists(PAIRS, max_size=4), st.floats(-200, 200))
def test_bounds_within_bounds_are_those_of_both(bounds, value):
    """A request is handed backwards: the bounds that a value passes last were known first."""
    request = CodeRequest(Quantization(scale=0.5, zero_point=0, low=-128, high=127))
    expected = value
    for pair in bounds:
        expected = min(max(expected, pair[0]), pair[1])
    for pair in reversed(bounds):
        request = request.within(pair)
    assert min(max(value, request.bounds[0]), request.bounds[1]) == expected


def test_a_request_clamps_to_the_codes_of_its_limits():
    of = Quantization(scale=0.5, zero_point=-3, low=-100, high=90)
    assert CodeRequest(of).clamp == (-100, 90)
    assert CodeRequest(of).bounds == ANY
    assert CodeRequest(of, (0.0, 6.0)).clamp == (-3, 9)
    assert CodeRequest(of, (-math.inf, 1e9)).clamp == (-100, 90)
