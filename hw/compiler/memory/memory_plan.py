"""Places tensors in the activation banks: who lives when, who may not share a bank, where each lies."""

from dataclasses import dataclass, replace
from itertools import combinations, product
from math import inf

from hw.config import BANKS, AcceleratorConfig
from hw.rules import ShortageError

__all__ = ["Placement", "Request", "bank_sizes", "excess", "plan", "plan_with_next", "shortage"]

#: Placements tried before the search gives up.
_TRIES = 20_000
#: Tensors needed at the same time for which all ways to put them into banks are tried.
_MOST_LIVE = 10


@dataclass(frozen=True, kw_only=True)
class Request:
    """A tensor that needs a place.

    Parameters
    ----------
    name : str
    words : int
        Its size: that of the largest window any core keeps of it.
    first, last : int
        Steps during which it must be kept, both included.
    apart : frozenset of str
        Tensors that must lie in the other bank.
    again : int, optional
        Its place is needed again from this step on, up to the last one.
    """

    name: str
    words: int
    first: int
    last: int
    apart: frozenset[str] = frozenset()
    again: int | None = None

    def is_apart(self, other: "Request") -> bool:
        """Whether they must lie in different banks."""
        return self.name in other.apart or other.name in self.apart

    def meets(self, other: "Request") -> bool:
        """Whether both are needed at the same time."""
        return any(a <= d and c <= b for a, b in self._spans() for c, d in other._spans())

    def _spans(self) -> list[tuple[int, float]]:
        once: tuple[int, float] = (self.first, self.last)
        return [once] if self.again is None else [once, (self.again, inf)]


@dataclass(frozen=True)
class Placement:
    """Bank and first word of a tensor."""

    bank: int
    base: int


def _gap(used: list[tuple[int, int]], size: int, capacity: int) -> int | None:
    """Lowest address at which ``size`` words are free."""
    start = 0
    for base, length in sorted(used):
        if start + size <= base:
            break
        start = max(start, base + length)
    return start if start + size <= capacity else None


def plan(requests: list[Request], config: AcceleratorConfig) -> dict[str, Placement]:
    """A place for every tensor, by depth-first search over banks, lowest free address first.

    Raises
    ------
    ShortageError
        When there is none; the message says by how much the memory is short.
    """
    placed: dict[str, Placement] = {}
    tries = 0

    def place(number: int) -> bool:
        nonlocal tries
        if number == len(requests):
            return True
        request = requests[number]
        for bank in range(BANKS):
            tries += 1
            if tries > _TRIES:
                return False
            neighbours = [r for r in requests[:number] if r.meets(request) and placed[r.name].bank == bank]
            if any(r.is_apart(request) for r in neighbours):
                continue
            base = _gap([(placed[r.name].base, r.words) for r in neighbours], request.words, config.bank_words[bank])
            if base is None:
                continue
            placed[request.name] = Placement(bank, base)
            if place(number + 1):
                return True
            del placed[request.name]
        return False

    if not place(0):
        raise shortage(requests, config)
    return placed


def plan_with_next(
    requests: list[Request], name: str, steps: int, config: AcceleratorConfig
) -> tuple[dict[str, Placement], int]:
    """A place for every tensor, so that the one called ``name`` can be written again early in a run, for the next one.

    Parameters
    ----------
    steps : int
        Of the whole run.

    Returns
    -------
    tuple of (dict, int)
        The places, and the first step from which on that tensor's is free; ``steps`` if it isn't before the end.

    Raises
    ------
    ShortageError
        As :func:`plan`.
    """
    first = next(request.last for request in requests if request.name == name) + 1
    found, latest = plan(requests, config), steps
    # The later, the easier: the earliest step is between those tried in vain and the one found.
    while first < latest:
        middle = (first + latest) // 2
        try:
            found = plan([replace(r, again=middle) if r.name == name else r for r in requests], config)
            latest = middle
        except ShortageError:
            first = middle + 1
    return found, latest


def excess(requests: list[Request], config: AcceleratorConfig) -> int:
    """Words by which the banks are too small, summed over the moments at which a tensor begins.

    At each moment the tensors that are needed then are put into banks as well as possible; 0 doesn't say that one
    arrangement is good for all moments.
    """
    moments = sorted({r.first for r in requests})
    return sum(_least([r for r in requests if r.first <= moment <= r.last], config.bank_words) for moment in moments)


def _least(live: list[Request], banks: tuple[int, ...]) -> int:
    """Fewest words that are too many in the banks, over all ways to put tensors into them."""
    together = max(0, sum(r.words for r in live) - sum(banks))
    if len(live) > _MOST_LIVE:
        return together
    least = BANKS * sum(r.words for r in live) + 1
    for places in product(range(BANKS), repeat=len(live)):
        if any(places[a] == places[b] for a, b in combinations(range(len(live)), 2) if live[a].is_apart(live[b])):
            continue
        used = [sum(r.words for r, bank in zip(live, places, strict=True) if bank == n) for n in range(BANKS)]
        least = min(least, sum(max(0, words - held) for words, held in zip(used, banks, strict=True)))
        if least == together:
            break
    return least


def bank_sizes(config: AcceleratorConfig) -> str:
    """Words of the banks, as a sentence has them: one number where all have as many."""
    return " and ".join(dict.fromkeys(map(str, config.bank_words)))


def shortage(requests: list[Request], config: AcceleratorConfig) -> ShortageError:
    """Where memory is short for tensors that have no places, and by how much."""
    held, sizes = sum(config.bank_words), bank_sizes(config)
    largest = max(requests, key=lambda r: r.words)
    missing = largest.words - max(config.bank_words)
    if missing > 0:
        message = f"activation memory has banks of {sizes} words; {largest.name} alone needs {largest.words}"
        return ShortageError(f"{message}, {missing} too many", missing)
    for moment in requests:
        live = [r for r in requests if r.first <= moment.first <= r.last]
        words = sum(r.words for r in live)
        missing = words - held
        if missing > 0:
            names = ", ".join(r.name for r in live)
            message = f"activation memory holds {held} words; {names} are needed together and take {words}"
            return ShortageError(f"{message}, {missing} too many", missing)
    return ShortageError(
        f"activation memory has {BANKS} banks of {sizes} words; no arrangement of this network's tensors fits them "
        f"(the largest, {largest.name}, needs {largest.words})",
        1,
    )
