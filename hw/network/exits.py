"""The rule by which runs leave a network through its exits, for many runs at once."""

from dataclasses import dataclass, replace

import numpy as np

from hw.network.network import Exit

__all__ = ["AUDIT_STEPS", "AUDIT_TAPS", "DEFAULT", "LARGEST", "Conditions", "Decisions", "draws"]

#: A run's draw: the low 8 bits of a 16-bit Galois shift register (to the right, taps ``AUDIT_TAPS``) so many steps
#: after its seed. They are enough that of 256 consecutive seeds from a multiple of 256 each draw comes once.
AUDIT_STEPS = 24
AUDIT_TAPS = 0xB400
#: Most that each field of Conditions may be.
LARGEST = {"deadline": (1 << 32) - 1, "audit": 256, "seed": (1 << 16) - 1}


def draws(seeds: np.ndarray | int) -> np.ndarray:
    """The draws, 0..255, of runs with these seeds (:data:`hw.network.exits.AUDIT_STEPS`)."""
    state = np.asarray(seeds, dtype=np.int64)
    for _ in range(AUDIT_STEPS):
        state = state >> 1 ^ (state & 1) * AUDIT_TAPS
    return state & 0xFF


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under what conditions images run; see :class:`hw.program.protocol.RunOptions` and
    :class:`hw.program.protocol.RunFlags`.

    Parameters
    ----------
    deadline : int
        Cycles, 0 for none. In constant time, those that every run takes.
    audit : int
        Runs of 256 that are audited.
    seed : int
        Of the first run; each further one's is higher by 1, and 0 follows 65535.
    constant : bool
        Constant time.

    Raises
    ------
    ValueError
        When a value is out of its range.
    """

    deadline: int = 0
    audit: int = 0
    seed: int = 0
    constant: bool = False

    def __post_init__(self) -> None:
        for name, largest in LARGEST.items():
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must be in 0..{largest}, not {getattr(self, name)}")

    def from_run(self, number: int) -> "Conditions":
        """The conditions under which the run of this number is the first."""
        return replace(self, seed=(self.seed + number) % (1 << 16))

    def options(self, number: int = 0) -> dict[str, int]:
        """Fields of :class:`hw.program.protocol.RunOptions` of a run, the first one being 0.

        Raises
        ------
        ValueError
            When time is to be constant and there is no deadline.
        """
        if self.constant and not self.deadline:
            raise ValueError(
                "deadline must be the cycles of every run in constant time, such as sim.constant_time sets, not 0"
            )
        return {"deadline": self.deadline, "audit": self.audit, "seed": self.from_run(number).seed}


#: No deadline, no audits, no constant time.
DEFAULT = Conditions()


class Decisions:
    """Decisions of N runs, made exit by exit in their order.

    Parameters
    ----------
    count : int
        N.
    conditions : Conditions

    Attributes
    ----------
    running : bool array (N,)
        Those that have not left yet.
    exit, label, margin, early_exit, early_label : int64 arrays (N,)
        As in :class:`hw.program.protocol.RunResult`.
    out_of_range, forced, passed, differs, overrun : bool arrays (N,)
        As in :class:`hw.program.protocol.RunResult`; ``overrun`` is up to who knows the cycles.
    """

    def __init__(self, count: int, conditions: Conditions):
        self.running = np.ones(count, dtype=bool)
        numbers = (np.zeros(count, dtype=np.int64) for _ in range(5))
        self.exit, self.label, self.margin, self.early_exit, self.early_label = numbers
        flags = (np.zeros(count, dtype=bool) for _ in range(5))
        self.out_of_range, self.forced, self.passed, self.differs, self.overrun = flags
        seeds = (conditions.seed + np.arange(count)) % (1 << 16)
        self._constant = np.full(count, conditions.constant)
        self._goes_on = self._constant | (draws(seeds) < conditions.audit)

    def some(self, runs: slice) -> "Decisions":
        """Some of the runs; what is decided of them is decided here, too."""
        some = Decisions(0, DEFAULT)
        some.__dict__.update({name: array[runs] for name, array in vars(self).items()})
        return some

    def result(self, number: int) -> dict[str, int]:
        """The decision of a run: the fields of :class:`hw.program.protocol.RunResult` but for the cycles."""
        names = [name for name in vars(self) if name != "running" and not name.startswith("_")]
        return {name: int(getattr(self, name)[number]) for name in names}

    def counts(self) -> dict[str, int]:
        """How many runs ended by force of the deadline (``forced``), went on past an exit, audited or in constant time
        (``passed``), found another class there (``differs``), ended with a margin out of its range (``out_of_range``),
        took more cycles than the deadline in constant time (``overrun``).
        """
        flags = (self.forced, self.passed, self.differs, self.out_of_range, self.overrun)
        names = ("forced", "passed", "differs", "out_of_range", "overrun")
        return {name: int(flag.sum()) for name, flag in zip(names, flags, strict=True)}

    def branch(self, number: int, head: Exit, labels: np.ndarray, margins: np.ndarray, expired: np.ndarray) -> None:
        """A BRANCH.

        Parameters
        ----------
        number : int
            Of the exit.
        head : Exit
            With a threshold.
        labels, margins : int64 arrays (N,)
            What its head finds.
        expired : bool array (N,)
            More cycles than the deadline have passed; this forces no run in constant time.
        """
        assert head.threshold is not None
        wants = self.running & ~self.passed & (margins >= head.threshold)
        ends = self.running & ((expired & ~self._constant) | (wants & ~self._goes_on))
        self.forced[ends & ~(wants & ~self._goes_on)] = True
        passes = wants & ~ends
        self._end(number, head, labels, margins, ends)
        self._report(number, head, labels, margins, passes)
        self.passed |= passes
        self.early_exit[passes] = number
        self.early_label[passes] = labels[passes]

    def stop(self, number: int, head: Exit, labels: np.ndarray, margins: np.ndarray) -> None:
        """A STOP: all leave."""
        self._end(number, head, labels, margins, self.running.copy())

    def _end(self, number: int, head: Exit, labels: np.ndarray, margins: np.ndarray, ends: np.ndarray) -> None:
        self._report(number, head, labels, margins, ends & ~(self.passed & self._constant))
        self.differs |= ends & self.passed & (labels != self.early_label)
        self.running[ends] = False

    def _report(self, number: int, head: Exit, labels: np.ndarray, margins: np.ndarray, here: np.ndarray) -> None:
        self.exit[here] = number
        self.label[here] = labels[here]
        self.margin[here] = margins[here]
        self.out_of_range[here] = (margins < head.low)[here] | (margins > head.high)[here]
