import pytest

from fpga.links import HOST_LINKS, link_of


def test_usb_carries_what_its_specification_allows():
    """Most bytes a second of bulk transfers: USB 2.0, tables 5-9 and 5-10."""
    assert 4 * link_of("usb-full", 0).words_per_second == pytest.approx(1_216_000)
    assert 4 * link_of("usb-high", 0).words_per_second == pytest.approx(53_248_000)
    assert link_of("usb-high", 0).title == "USB at high speed, whose bus carries at most 53.2 MB/s"


def test_a_serial_link_has_the_rate_it_is_given_and_cannot_be_held_back():
    found = link_of("serial", 3_000_000)
    assert found.title == "a serial link of 3,000,000 baud"
    assert (found.words_per_second, found.both_ways, found.held) == (75_000, True, False)
    assert all(link_of(name, 9600).held for name in HOST_LINKS if name != "serial")


def test_an_unknown_link_is_refused():
    with pytest.raises(ValueError, match=r"^link must be one of serial, usb-full, usb-high, not 'usb'$"):
        link_of("usb", 1)
