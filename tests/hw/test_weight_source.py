import pytest

from hw.weight_source import WeightSource


@pytest.mark.parametrize("value", [0, True, 1.5])
@pytest.mark.parametrize("name", ["latency", "cycles_per_beat"])
def test_a_source_has_whole_cycles(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be an integer of at least 1, not {value}$"):
        WeightSource(**{name: value})
