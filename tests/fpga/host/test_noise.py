"""Noise hits so many bytes as it says, in the ways that it says, and leaves the others and all else of a port alone."""

import random
from collections import Counter

import pytest

from fpga.host.noise import NoisyPort

SENT = bytes(range(256)) * 20


class Line:
    """A port that answers what it is given, and keeps what it is told."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.events: list[bytes | bool | str] = []
        self.in_waiting = 7
        self._low = False

    @property
    def break_condition(self) -> bool:
        return self._low

    @break_condition.setter
    def break_condition(self, low: bool) -> None:
        self._low = low
        self.events.append(low)

    def read(self, size: int) -> bytes:
        self.events.append(f"read {size}")
        return self.answer

    def write(self, data: bytes) -> int:
        self.events.append(data)
        return len(data)

    def reset_output_buffer(self) -> None:
        self.events.append("reset")

    def close(self) -> None:
        self.events.append("close")


def changed_bits(before: bytes, after: bytes) -> list[int]:
    return [(one ^ other).bit_count() for one, other in zip(before, after, strict=True)]


def test_without_noise_it_is_the_port():
    line = Line(SENT)
    port = NoisyPort(line, 0.0, random.Random(1))
    assert (port.write(SENT), port.read(99), port.in_waiting, port.hits) == (len(SENT), SENT, 7, 0)
    port.reset_output_buffer()
    port.break_condition = True
    assert port.break_condition
    port.close()
    assert line.events == [SENT, "read 99", "reset", True, "close"]


@pytest.mark.parametrize("seed", range(3))
def test_of_bytes_that_are_hit_one_bit_changes_or_they_are_lost_or_the_line_breaks(seed):
    line = Line()
    port = NoisyPort(line, 1.0, random.Random(seed))
    kinds: Counter[str] = Counter()
    flipped: Counter[int] = Counter()
    for byte in SENT:
        line.events.clear()
        assert port.write(bytes([byte])) == 1
        if True in line.events:
            kinds["break"] += 1
            # The line is held low and let go.
            assert line.events == [b"", True, False, b""]
            continue
        (arrived,) = line.events
        kinds["changed" if arrived else "lost"] += 1
        if arrived:
            assert changed_bits(bytes([byte]), arrived) == [1]
            flipped[(byte ^ arrived[0]).bit_length() - 1] += 1
    assert port.hits == len(SENT)
    assert not line.break_condition
    shares = {kind: count / len(SENT) for kind, count in kinds.items()}
    assert shares == {
        "changed": pytest.approx(0.45, abs=0.03),
        "lost": pytest.approx(0.45, abs=0.03),
        "break": pytest.approx(0.1, abs=0.03),
    }
    assert set(flipped) == set(range(8))
    assert min(flipped.values()) > 0.5 * max(flipped.values())


def test_what_was_handed_over_before_a_break_goes_out_before_it():
    line = Line()
    NoisyPort(line, 0.02, random.Random(3)).write(SENT)
    parts = [event for event in line.events if isinstance(event, bytes)]
    breaks = line.events.count(True)
    assert breaks > 2
    # Bytes, low, high, bytes, low, high, ... bytes.
    assert line.events == [event for part in parts[:-1] for event in (part, True, False)] + parts[-1:]
    assert sum(map(len, parts)) < len(SENT)


def test_so_many_bytes_are_hit_as_are_to_be_and_the_others_arrive():
    port = NoisyPort(Line(SENT), 0.1, random.Random(5))
    found = port.read(len(SENT))
    assert port.hits == pytest.approx(0.1 * len(SENT), rel=0.2)
    # Of those that are hit while they come, a good half is lost: a break is nothing that a host reads.
    assert len(SENT) - len(found) == pytest.approx(0.55 * port.hits, rel=0.2)
    assert port.break_condition is False


def test_equal_seeds_make_equal_noise_and_each_direction_goes_on_with_it():
    ports = [NoisyPort(Line(SENT), 0.3, random.Random(2)) for _ in range(2)]
    first, second = ((port.read(1), port.read(1)) for port in ports)
    assert first == second
    assert first[0] != first[1]
