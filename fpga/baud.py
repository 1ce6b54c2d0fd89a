"""A serial line in numbers: frames of 8 data bits without parity and with 1 stop bit, and words of 4 bytes."""

from hw.rules import integer

__all__ = ["FRAME_BITS", "QUEUE_WORDS", "WORD_BYTES", "bit_cycles", "words_per_second"]

#: Bits of a byte on the line: start, data, stop.
FRAME_BITS = 10
WORD_BYTES = 4
#: Words from the host that wait in front of the accelerator: one row of ECP5 distributed memory, no block RAM.
QUEUE_WORDS = 16
#: Rates that serial adapters make, fastest first. Every clock of a board can make the slowest.
_USUAL = (3_000_000, 2_000_000, 1_000_000, 500_000, 115_200)


def words_per_second(baud: int) -> float:
    """Words that a line of so many bits per second carries in one direction, frames back to back."""
    return baud / (FRAME_BITS * WORD_BYTES)


def bit_cycles(clock_mhz: float, baud: int) -> int:
    """Clock cycles per bit.

    Raises
    ------
    ValueError
        When the clock can't make the baud rate within 2 % (of the 5 % that 10 bits a frame allow for both ends); the
        message names the fastest usual one that it makes.
    """
    if not integer(baud) or baud < 1:
        raise ValueError(f"baud must be a positive integer, not {baud!r}")
    cycles = _cycles(clock_mhz, baud)
    if cycles is None:
        usual = next((each for each in _USUAL if _cycles(clock_mhz, each) is not None), None)
        raise ValueError(
            f"baud must be within 2 % of {clock_mhz:g} MHz / n with n of at least 8, "
            f"{'' if usual is None else f'as {usual} is, '}not {baud}"
        )
    return cycles


def _cycles(clock_mhz: float, baud: int) -> int | None:
    cycles = round(clock_mhz * 1e6 / baud)
    off = cycles < 8 or abs(clock_mhz * 1e6 / cycles / baud - 1) > 0.02
    return None if off else cycles
