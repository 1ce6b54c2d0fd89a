import pytest

from fpga.baud import bit_cycles


def test_bit_cycles():
    assert bit_cycles(50.0, 1_000_000) == 50
    assert bit_cycles(62.5, 115_200) == 543


@pytest.mark.parametrize("baud", [0, -1, 12_000_000, 5_880_000, 4_760_000])
def test_bit_cycles_refuses(baud):
    with pytest.raises(ValueError, match=f"baud must .*not {baud}"):
        bit_cycles(50.0, baud)
