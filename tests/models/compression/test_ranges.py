import numpy as np
import pytest
import torch

from models.compression.ranges import RangeObserver, asymmetric


def observed(*batches) -> RangeObserver:
    found, batches = RangeObserver("map"), [torch.tensor(batch, dtype=torch.float32) for batch in batches]
    for batch in batches:
        found.observe(batch)
    for batch in batches:
        found.count(batch)
    return found


def test_the_means_of_the_ends_hold_zero():
    found = observed([1.0, 3.0], [-2.0, 5.0])
    assert found.bounds("minmax") == (-1.0, 4.0)
    assert observed([0.0, 0.0]).bounds("mse") == observed([0.0]).bounds("percentile") == (0.0, 0.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_one_value_among_many_is_left_out(sign):
    values = np.concatenate([np.random.default_rng(0).random(400_000), [8.0]]) * sign
    found = observed(values)
    for ranges, most in (("minmax", 8.0), ("percentile", 1.01), ("mse", 6.0)):
        low, high = found.bounds(ranges)
        assert min(abs(low), abs(high)) == 0
        assert 0.99 < max(abs(low), abs(high)) <= most


def test_the_least_error_is_that_of_the_codes():
    values = np.random.default_rng(1).standard_t(3, 20_000)
    errors = {}
    for ranges in ("minmax", "percentile", "mse"):
        scale, zero_point = asymmetric(*observed(values).bounds(ranges))
        codes = (np.rint(values / scale) + zero_point).clip(-128, 127)
        errors[ranges] = (((codes - zero_point) * scale - values) ** 2).mean()
    assert errors["mse"] < 0.96 * min(errors["minmax"], errors["percentile"])


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="map: activations must be finite, not NaN or infinite"):
        observed([1.0, np.inf])
