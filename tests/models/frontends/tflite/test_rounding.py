"""Factors become multipliers that round every accumulator as LiteRT does: products in double, half away from zero."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from hw.numerics import Rounding, requantize
from models.frontends.tflite.rounding import as_real, real_rounded, weighted_fields


def exact(value: int, factor: float) -> int:
    """The product in double, as LiteRT's kernels make it; half away from zero, within -255..255."""
    product = min(max(Fraction(float(value) * factor), -255), 255)
    whole = abs(product) + Fraction(1, 2)
    return int(whole // 1) * (1 if product >= 0 else -1)


@given(
    st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=1, max_size=20),
    st.sampled_from([0.5, 0.25, 2.0**-20, 0.75, 1.0]),
)
def test_accumulators_times_factors(values, factor):
    found = real_rounded(np.array(values), factor)
    assert found.tolist() == [exact(value, factor) for value in values]


def test_ties_go_away_from_zero():
    assert real_rounded(np.array([-5, -3, -1, 1, 3, 5]), 0.5).tolist() == [-3, -2, -1, 1, 2, 3]
    assert real_rounded(np.array([-1, 1]), np.array([0.49999999999999994, 0.5])).tolist() == [0, 1]


def layer(factor: float, weights: list[list[int]], bias: list[int]):
    """Fields of a layer with the same factor for every output, and multipliers for int8 activations."""
    weight = np.array(weights, np.int8)[:, None, None]
    fields = weighted_fields(
        "FULLY_CONNECTED", weight, np.array(bias, np.int32), np.full(len(bias), factor), Rounding.SINGLE
    )  # fmt: skip
    return fields, as_real("FULLY_CONNECTED", fields, np.full(len(bias), factor), -128, 127)


@settings(max_examples=30)
@example(0.06, [1, 1], 0)  # -225 times it is a tie in double, and none exactly
@given(
    st.floats(1e-4, 0.3),
    st.lists(st.integers(-127, 127).filter(bool), min_size=2, max_size=4),
    st.integers(-9999, 9999),
)
def test_every_accumulator_that_a_layer_reaches_is_rounded_as_its_product(factor, weights, bias):
    try:
        fields, multiplier = layer(factor, [weights], [bias])
    except ValueError:
        reject()  # a factor that no multiplier stands for
    (low, high) = (sum(min(-128 * w, 127 * w) for w in weights), sum(max(-128 * w, 127 * w) for w in weights))
    sums = np.unique(np.linspace(low, high, 200).astype(int)) + bias
    found = requantize(sums, multiplier[0].astype(np.int64), fields["shift"][0].astype(np.int64), Rounding.SINGLE)
    assert found.clip(-255, 255).tolist() == [exact(int(value), factor) for value in sums]


def test_a_tie_below_zero_needs_another_multiplier():
    """The nearest one rounds -1 times a half up, to 0."""
    fields, multiplier = layer(0.5, [[1]], [0])
    sums = np.arange(-128, 128)
    nearest = requantize(sums, fields["multiplier"].astype(np.int64), fields["shift"].astype(np.int64), Rounding.SINGLE)
    assert (nearest != real_rounded(sums, 0.5)).any()
    made = requantize(sums, multiplier.astype(np.int64), fields["shift"].astype(np.int64), Rounding.SINGLE)
    np.testing.assert_array_equal(made, real_rounded(sums, 0.5))


def test_a_channel_without_weights_has_the_code_of_its_bias():
    fields, multiplier = layer(0.5, [[0, 0], [1, 1]], [-5, 0])
    found = requantize(
        fields["bias"][:1].astype(np.int64), multiplier[:1].astype(np.int64), fields["shift"][:1].astype(np.int64),
        Rounding.SINGLE,
    )  # fmt: skip
    assert found.tolist() == [-3]


def test_more_outputs_than_can_be_looked_at_are_refused():
    with pytest.raises(ValueError, match="CONV: 1024 sums for each of its 16385 outputs must be of at most 16777216"):
        as_real("CONV", {}, np.ones((1 << 14) + 1), -128, 127)
