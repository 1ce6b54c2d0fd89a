import numpy as np
import pytest

from hw.numerics import Rounding, requantize
from models.frontends.requantization import int32_biases, weighted_fields


def fields(factor, weight=5, bias=7):
    return weighted_fields(
        "layer", np.full((1, 1, 1, 2), weight, dtype=np.int8), np.array([bias]), np.array([factor]), Rounding.SINGLE
    )


@pytest.mark.parametrize("factor", [0.001, 0.5, 0.9999999999, 1.0, 1.7, 12.0])
def test_fields_scale_by_the_factor(factor):
    found = fields(factor)
    weight, bias = int(found["weight"][0, 0, 0, 0]), int(found["bias"][0])
    assert weight // 5 * 7 == bias
    for sums in range(-30, 30):
        made = requantize(sums * weight + bias, int(found["multiplier"][0]), int(found["shift"][0]), Rounding.SINGLE)
        assert abs(made - (sums * 5 + 7) * factor) <= 0.5 + 1e-6


def test_a_channel_without_weights_has_its_code_everywhere():
    found = fields(1e-6, weight=0, bias=2_000_000_000)
    assert found["bias"][0] == 2 * 255
    assert requantize(510, int(found["multiplier"][0]), int(found["shift"][0]), Rounding.SINGLE) == 255
    assert fields(1e-9, weight=0, bias=2_000_000_000)["bias"][0] == 2 * 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-0.5,), "layer: requantization scale must be above 0 and below 128, not -0.5"),
        ((200.0,), "layer: requantization scale must be above 0 and below 128, not 200"),
        ((float("nan"),), "layer: requantization scale must be above 0 and below 128, not nan"),
        ((3.0, 100), "layer: the scale of input times weights must be below that of the output, not 3 times it"),
        ((0.5, 5, 1 << 31), "layer: biases must be within int32 in steps of the accumulator, not 2.147e"),
        ((3.0, 5, 1 << 30), "layer: biases must be within int32 in steps of the accumulator, not 4.295e"),
    ],
)
def test_what_integers_can_not_hold_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        fields(*values)


def test_biases_of_int32_are_kept():
    ends = np.array([-(2.0**31), 2.0**31 - 1])
    assert int32_biases("layer", ends).tolist() == [-(2**31), 2**31 - 1]
    with pytest.raises(ValueError, match="layer: biases must be within int32"):
        int32_biases("layer", np.array([np.nan]))
