from dataclasses import replace

import pytest

from hw.network.layers import Add
from hw.network.pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from hw.numerics import IDENTITY, Rounding, add_scales, average_scale, requantize
from hw.program.arithmetic import arithmetic_of, sum_fields
from tests.hw.networks import network, tensor

NETWORK = network()
STEM = NETWORK.layer("stem")


def test_a_weighted_layer_keeps_its_own_parameters():
    found = arithmetic_of(STEM, NETWORK.input, 4, {"stem": -128})
    assert found.bias.tolist() == STEM.bias.tolist()
    assert found.multiplier.tolist() == STEM.multiplier.tolist()
    assert found.shift.tolist() == STEM.shift.tolist()
    assert (found.rounding, found.offset) == (Rounding.DOUBLE, -128)


@pytest.mark.parametrize(("stored", "offset"), [(-128, -128), (-120, -128)])
def test_dummy_channels_stay_at_what_is_stored_as_0(stored, offset):
    """Nothing is added to them: bias, scaled, and offset make the stored code."""
    found = arithmetic_of(STEM, NETWORK.input, 8, {"stem": stored})
    assert found.bias.shape == found.multiplier.shape == found.shift.shape == (8,)
    assert found.offset == offset
    codes = requantize(found.bias[4:], found.multiplier[4:], found.shift[4:], found.rounding) + found.offset
    assert codes.tolist() == [stored] * 4


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (GlobalAveragePool(name="mean", inputs=("input",), output=tensor(1, 1, 2)), 24),
        (
            AveragePool2D(name="mean", inputs=("input",), output=tensor(3, 2, 2), window=(2, 2), stride=(2, 2)),
            4,
        ),
    ],
    ids=["global", "window"],
)
def test_the_mean_of_a_pool_is_that_of_its_codes(layer, count):
    """Accumulators add up activations; with the bias they are a sum of codes, and 0 is added after its scale."""
    source = replace(NETWORK.input, zero_point=-7)
    found = arithmetic_of(layer, source, 2, {"mean": -7})
    assert found.bias.tolist() == [count * -7] * 2
    assert (found.multiplier[0], found.shift[0]) == average_scale(count)
    assert (found.rounding, found.offset) == (Rounding.SINGLE, 0)
    total = sum(code - source.zero_point for code in range(count))
    mean = requantize(total + int(found.bias[0]), int(found.multiplier[0]), int(found.shift[0]), found.rounding)
    assert mean == round((count - 1) / 2 + 1e-9)


def test_a_max_pool_gives_back_the_code_that_is_stored():
    layer = MaxPool2D(name="most", inputs=("input",), output=tensor(3, 2, 2), window=(2, 2), stride=(2, 2))
    found = arithmetic_of(layer, NETWORK.input, 2, {"input": -100, "most": -100})
    assert (found.bias.tolist(), found.offset) == ([0, 0], -100)
    assert (found.multiplier.tolist(), found.shift.tolist()) == ([IDENTITY.multiplier] * 2, [IDENTITY.shift] * 2)


def test_fields_of_a_sum():
    add = Add(name="sum", inputs=("stem", "branch"), output=tensor(3, 4, 4, scale=0.4, zero_point=5), clamp=(-3, 90))
    first, second = tensor(3, 4, 4, scale=0.25, zero_point=-9), tensor(3, 4, 4, scale=0.5)
    scales = add_scales(0.25, 0.5, 0.4)
    assert sum_fields(first, second, add) == {
        "zero_point": -9,
        "first": {"multiplier": scales.first.multiplier, "shift": scales.first.shift},
        "second": {"multiplier": scales.second.multiplier, "shift": scales.second.shift},
        "output": {"multiplier": scales.output.multiplier, "shift": scales.output.shift},
        "offset": 5,
        "clamp_low": -3,
        "clamp_high": 90,
    }
