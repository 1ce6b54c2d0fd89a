import numpy as np
import pytest

from offramp.intake.preprocessing import Preprocessing


def test_values_are_multiplied_then_shifted_then_divided():
    how = Preprocessing(scale=4.0, mean=(1.0, 2.0), deviation=(0.5,))
    found = how(np.array([[[[1.0, 2.0]]]]))
    assert (found.dtype, found.tolist()) == (np.float32, [[[[6.0, 12.0]]]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0.0}, "scale must be finite positive numbers"),
        ({"mean": (float("nan"),)}, "mean must be finite numbers"),
        ({"deviation": (1.0, -2.0)}, "deviation must be finite positive numbers"),
    ],
)
def test_impossible_preprocessing_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**settings)
