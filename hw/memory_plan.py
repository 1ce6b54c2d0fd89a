"""Places tensors in the activation banks: who lives when, who may not share a bank, where each lies."""

from dataclasses import dataclass

from hw.config import BANKS, AcceleratorConfig

__all__ = ["Placement", "Request", "plan"]

#: Placements tried before the search gives up.
_TRIES = 20_000


@dataclass(frozen=True, kw_only=True)
class Request:
    """A tensor that needs a place.

    Parameters
    ----------
    name : str
    activations, mask_words : int
        Its size in either memory.
    first, last : int
        Steps during which it must be kept, both included.
    apart : frozenset of str
        Tensors that must lie in the other bank.
    """

    name: str
    activations: int
    mask_words: int
    first: int
    last: int
    apart: frozenset[str] = frozenset()

    def meets(self, other: "Request") -> bool:
        """Whether both are needed at the same time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Placement:
    """Bank, first activation and first mask word of a tensor."""

    bank: int
    base: int
    mask_base: int


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
    ValueError
        When there is none; the message says which memory is short, and by how much.
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
            if any(r.name in request.apart or request.name in r.apart for r in neighbours):
                continue
            base = _gap(
                [(placed[r.name].base, r.activations) for r in neighbours],
                request.activations,
                config.activation_bytes,
            )
            mask_base = _gap(
                [(placed[r.name].mask_base, r.mask_words) for r in neighbours], request.mask_words, config.mask_words
            )
            if base is None or mask_base is None:
                continue
            placed[request.name] = Placement(bank, base, mask_base)
            if place(number + 1):
                return True
            del placed[request.name]
        return False

    if not place(0):
        raise ValueError(_shortage(requests, config))
    return placed


def _shortage(requests: list[Request], config: AcceleratorConfig) -> str:
    """Which memory is short, where, and by how much."""
    kinds = {"activation": ("activations", config.activation_bytes), "mask": ("mask_words", config.mask_words)}
    for kind, (field, capacity) in kinds.items():
        largest = max(requests, key=lambda r: getattr(r, field))
        need = getattr(largest, field)
        if need > capacity:
            return (
                f"{kind} memory has banks of {capacity} words; {largest.name} alone needs {need}, "
                f"{need - capacity} too many"
            )
    for kind, (field, capacity) in kinds.items():
        for moment in requests:
            live = [r for r in requests if r.first <= moment.first <= r.last]
            need = sum(getattr(r, field) for r in live)
            if need > BANKS * capacity:
                names = ", ".join(r.name for r in live)
                return (
                    f"{kind} memory holds {BANKS * capacity} words; {names} are needed together and take {need}, "
                    f"{need - BANKS * capacity} too many"
                )
    largest = max(requests, key=lambda r: r.activations)
    return (
        f"activation memory has {BANKS} banks of {config.activation_bytes} words and {config.mask_words} mask words; "
        f"no arrangement of this network's tensors fits them (the largest, {largest.name}, needs "
        f"{largest.activations} and {largest.mask_words})"
    )
