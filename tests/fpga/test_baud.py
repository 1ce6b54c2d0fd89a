import pytest

from fpga.baud import bit_cycles
from fpga.boards import BAUD, CLOCKS_MHZ


def test_bit_cycles():
    assert bit_cycles(50.0, 1_000_000) == 50
    assert bit_cycles(62.5, 115_200) == 543
    assert bit_cycles(50.0, BAUD) == 17
    assert bit_cycles(25.0, 1_000_000) == 25


@pytest.mark.parametrize("baud", [0, -1, 12_000_000, 5_880_000, 4_760_000])
def test_bit_cycles_refuses(baud):
    with pytest.raises(ValueError, match=f"baud must .*not {baud}"):
        bit_cycles(50.0, baud)


@pytest.mark.parametrize(
    ("clock", "usual"),
    [(CLOCKS_MHZ[0], 115_200), (25.0, 1_000_000), (32.0, 2_000_000), (37.5, 2_000_000), (40.0, 2_000_000)],
)
def test_a_refusal_names_a_rate_that_the_clock_makes(clock, usual):
    message = rf"^baud must be within 2 % of {clock:g} MHz / n with .*, as {usual} is, not {BAUD}$"
    with pytest.raises(ValueError, match=message):
        bit_cycles(clock, BAUD)
    assert bit_cycles(clock, usual) >= 8
