import pytest

from fpga.boards import BOARDS, board


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("frequency", [25.0, 50.0, 62.5, 75.0, 80.0, 81.25, 100.0])
def test_pll_makes_the_frequency(name, frequency):
    target = board(name)
    pll = target.pll(frequency)
    compare = target.clock_mhz / pll.reference_divider
    oscillator = compare * pll.loop_divider
    assert pll.output_mhz(target.clock_mhz) == oscillator / pll.output_divider == pytest.approx(frequency, abs=1e-6)
    assert compare >= 10
    assert 400 <= oscillator == pll.oscillator_mhz(target.clock_mhz) <= 800


def test_pll_refuses_what_it_cannot_make():
    with pytest.raises(ValueError, match=r"ulx3s-25f: the clock must be .* as 64\.0625 MHz, not 64 MHz"):
        board("ulx3s-25f").pll(64.0)


def test_constraints_name_every_pin_once():
    target = board("ulx3s-25f")
    text = target.constraints()
    sites = [pin.site for pin in target.pins().values()]
    assert len(set(sites)) == len(sites) == 6
    for name, pin in target.pins().items():
        assert text.count(f'LOCATE COMP "{name}" SITE "{pin.site}";') == 1
        assert text.count(f'IOBUF PORT "{name}" ') == 1


def test_unknown_board():
    with pytest.raises(ValueError, match=r"board must be one of ulx3s-25f, ulx3s-85f, not 'ulx4'"):
        board("ulx4")


@pytest.mark.parametrize("clock", [-5.0, 0.0, 3.0, 801.0, float("nan"), float("inf")])
def test_a_clock_that_no_pll_makes_is_refused(clock):
    with pytest.raises(ValueError, match=f"^ulx3s-25f: the clock must be 3.125 to 800 MHz, not {clock:g} MHz$"):
        board("ulx3s-25f").pll(clock)


def test_the_oscillator_runs_near_the_middle_of_its_range_and_never_above():
    target = board("ulx3s-25f")
    assert target.pll(50.0).oscillator_mhz(target.clock_mhz) == 600
    with pytest.raises(ValueError, match=r"ulx3s-25f: the clock must be a frequency its PLL can make"):
        target.pll(825 / 31)  # 825 MHz divided by 31 would be
