"""Sizes of the cores that the study looks at."""

from dataclasses import dataclass

import numpy as np

from hw.config import AcceleratorConfig
from sim.timing import DECISION_CYCLES, FIRST_PUSH, OUTPUT_LATENCY
from tools.strips.recurrence import SIZES

__all__ = ["BLOCK_RAMS", "OVERLAP", "Machine"]

#: Block RAMs of an ECP5-85F, and those of base-85f for channel parameters, layer tables, host and program.
BLOCK_RAMS, _OTHERS = 208, 32
#: Slots of the dispatcher between two strips, beside the table entry of the first row.
_GAP = 4
#: Cycles of a strip, from its start to its last push, in which its core is at the one before.
OVERLAP = FIRST_PUSH - 1 - _GAP


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Memories and units of decoupled cores; by default those of ``base-85f``.

    Attributes
    ----------
    cores, pes : int
    list_words : int
        Of a PE.
    list_banks : int
        Of its list memory: with two of them, a list's pointer and its cuts are read at once, beside an entry.
    bank_words : tuple of 2 int
        8-channel words of a core's two banks.
    accumulators, job_queue, output_queue : int
        Of a PE.
    lanes : int
        Of a core.
    turn : int
        Cycles between two words of a core that go to any cores.
    hidden : bool
        Whether accumulators are taken out while the walkers go on, and those that ReLU makes 0 need no lane.
    """

    cores: int = 8
    pes: int = 8
    list_words: int = 2048
    list_banks: int = 2
    bank_words: tuple[int, int] = (1024, 512)
    accumulators: int = 32
    job_queue: int = 8
    output_queue: int = 16
    lanes: int = 1
    turn: int = 8
    hidden: bool = True

    @classmethod
    def of(cls, config: AcceleratorConfig) -> "Machine":
        """A config's, as it takes out accumulators today."""
        names = ("cores", "pes", "list_words", "accumulators", "job_queue", "output_queue", "lanes")
        first, second = config.bank_words
        sizes = {name: getattr(config, name) for name in names}
        return cls(**sizes, bank_words=(first, second), hidden=False)

    @property
    def block_rams(self) -> int:
        """Block RAMs that the memories take: one holds 1,024 words of 18 bits, or 512 of 36."""
        lists = self.list_banks * -(-self.list_words // self.list_banks // 1024)
        return self.cores * (self.pes * lists + sum(2 * -(-words // 512) for words in self.bank_words)) + _OTHERS

    @property
    def limits(self) -> np.ndarray:
        """What :func:`tools.strips.rooms.core_memory` takes."""
        return np.array([self.list_words, *self.bank_words])

    @property
    def sizes(self) -> np.ndarray:
        """What :func:`tools.strips.recurrence.run` takes."""
        values = {
            "pes": self.pes,
            "job_queue": self.job_queue,
            "output_queue": self.output_queue,
            "accumulators": self.accumulators,
            "first_push": FIRST_PUSH,
            "gap": _GAP,
            "output_latency": OUTPUT_LATENCY,
            "decision": DECISION_CYCLES,
            "hidden": int(self.hidden),
        }
        return np.array([values[name] for name in SIZES])
