"""A serial line in numbers: frames of 8 data bits without parity and with 1 stop bit, and words of 4 bytes."""

__all__ = ["FRAME_BITS", "WORD_BYTES", "bit_cycles", "words_per_second"]

#: Bits of a byte on the line: start, data, stop.
FRAME_BITS = 10
WORD_BYTES = 4


def words_per_second(baud: int) -> float:
    """Words that a line of so many bits per second carries in one direction, frames back to back."""
    return baud / (FRAME_BITS * WORD_BYTES)


def bit_cycles(clock_mhz: float, baud: int) -> int:
    """Clock cycles per bit.

    Raises
    ------
    ValueError
        When the clock can't make the baud rate within 2 % (of the 5 % that 10 bits a frame allow for both ends).
    """
    if baud < 1:
        raise ValueError(f"baud must be a positive integer, not {baud}")
    cycles = round(clock_mhz * 1e6 / baud)
    if cycles < 8 or abs(clock_mhz * 1e6 / cycles / baud - 1) > 0.02:
        raise ValueError(f"baud must be within 2 % of {clock_mhz:g} MHz / n with n of at least 8, not {baud}")
    return cycles
