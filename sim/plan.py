"""What a program makes the hardware do, as the kernel takes it: its LAYERs' tables and lists, its control cycles."""

from dataclasses import dataclass

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import INPUT
from hw.program.instructions import Instruction, WindowFields
from hw.program.isa import Opcode, SelectKind
from hw.program.list_memory import ListMemory, unpack_pointers
from hw.program.program import Program
from hw.program.selection_encoding import selection_cycles
from hw.weight_source import PROMPT, WeightSource
from sim.kernel import CAUSES, layer_cycles
from sim.loading import LoadedRows, Loading
from sim.skipped import Skipped, SplitLists, split_lists
from sim.timing import (
    BEGIN,
    DECISION_CYCLES,
    DESCRIPTION_CYCLES,
    FETCH_CYCLES,
    FIRST_PUSH,
    LANE_LATENCY,
    LAYER_CYCLES,
    LEAD,
    OUTPUT_LATENCY,
    PREFETCH_CYCLES,
    RAW_LATENCY,
    RESIDUAL_LATENCY,
    SELECT_CYCLES,
    flush_cycles,
)
from sim.vector import WIDTH

__all__ = ["Plan", "TimedLayer"]

_PRODUCTS, _EDGES = CAUSES.index("products"), CAUSES.index("edges")


@dataclass(frozen=True)
class TimedLayer:
    """A LAYER instruction, as the kernel takes it; see :func:`sim.kernel.layer_cycles`."""

    source: str
    working: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    walk: np.ndarray
    counts: np.ndarray
    slow: bool
    latency: int
    chunks: int
    skipped: tuple[Skipped, ...] = ()


def _timed(
    program: Program, instruction: Instruction, source: str, windows: tuple[WindowFields, ...], lists: np.ndarray
) -> TimedLayer:
    """``windows`` are those that the cores keep of the source, ``lists`` what the list memories hold."""
    working, walks = [], []
    rows: list[list[int]] = []
    columns: list[list[int]] = []
    everywhere = bool(instruction.cores[0].target.everywhere)
    split: dict[int, SplitLists] = {}
    for number, core in instruction.working.items():
        lane, walk = core.lane, core.source
        slow = bool(lane.slow)
        latency = RESIDUAL_LATENCY if core.residual.enable else LANE_LATENCY
        if lane.raw:
            # Logits leave one by one.
            latency = RAW_LATENCY + program.config.lanes - 1
        working.append([number, len(rows), len(rows) + len(core.rows), len(columns), len(columns) + len(core.columns)])
        filled = len(core.rows) - walk.blank_rows
        first = walk.base - windows[number].base + windows[number].low
        row_lists, column_lists = [row.list for row in core.rows], [column.list for column in core.columns]
        if core.split:
            split[number] = split_lists(number, core, WORD_CHANNELS * first, lists[number], program.config)
            row_lists, column_lists = split[number].rows, split[number].columns
        rows += [[row_lists[y], row.count, row.final, y < filled] for y, row in enumerate(core.rows)]
        columns += [[column_lists[x], column.dumps] for x, column in enumerate(core.columns)]
        walks.append(
            [
                *(WORD_CHANNELS * n for n in (first, walk.row_pitch, walk.column_pitch, walk.words)),
                walk.list_step,
                walk.dump_length,
                program.config.pes if walk.depthwise else 1,
            ]
        )
    return TimedLayer(
        source=source,
        working=np.array(working, dtype=np.int64),
        rows=np.array(rows, dtype=np.int64),
        columns=np.array(columns, dtype=np.int64),
        walk=np.array(walks, dtype=np.int64),
        counts=_split_counts(program.config, split) if split else _counts(program.config, instruction, lists),
        slow=slow,
        chunks=instruction.chunks,
        latency=BEGIN + latency + 1 + flush_cycles(program.config, everywhere),
        skipped=tuple(each for core in split.values() for each in core.skipped),
    )


def _layers(program: Program) -> list[TimedLayer]:
    """All LAYERs; follows which part of every map each core keeps."""
    windows = {INPUT: program.decoded.windows}
    memory = ListMemory(program.images["lists"], program.decoded.chunks, program.config)
    layers = []
    for command, instruction in zip(program.commands, program.decoded.layers, strict=True):
        source = program.network.layer(command.layer).inputs[0]
        lists = memory.at(instruction.chunks)
        layers.append(_timed(program, instruction, source, windows[source], lists))
        windows[command.tensor] = tuple(core.window for core in instruction.cores)
    return layers


def _split_counts(config: AcceleratorConfig, split: dict[int, SplitLists]) -> np.ndarray:
    """The same as :func:`_counts`, of a LAYER whose lists are split."""
    counts = np.zeros((config.cores, max(len(each.counts) for each in split.values()), WIDTH), dtype=np.int16)
    for number, each in split.items():
        counts[number, : len(each.counts)] = each.counts
    return counts.reshape(config.cores, -1)


def _counts(config: AcceleratorConfig, instruction: Instruction, lists: np.ndarray) -> np.ndarray:
    """Entries of every list of a LAYER, as the kernel takes them: (cores, lists * WIDTH)."""
    firsts, lasts = np.zeros(config.cores, dtype=np.int64), np.zeros(config.cores, dtype=np.int64)
    for number, core in instruction.working.items():
        source = core.source
        reach = max(row.list + (row.count - 1) * source.list_step for row in core.rows if row.count)
        reach += max(column.list for column in core.columns)
        firsts[number] = source.first_list
        group = config.pes if source.depthwise else 1
        lasts[number] = source.first_list + reach + source.words * WORD_CHANNELS // group
    counts = np.zeros((config.cores, int((lasts - firsts).max()), WIDTH), dtype=np.int16)
    for number, (first, last) in enumerate(zip(firsts.tolist(), lasts.tolist(), strict=True)):
        pointers = lists[number, :, first:last]  # dummy channels of the last word may be beyond the memory
        counts[number, : pointers.shape[1], : config.pes] = unpack_pointers(pointers, config)[1].T
    return counts.reshape(config.cores, -1)


def _selecting(instruction: Instruction, config: AcceleratorConfig) -> int:
    """Cycles of a SELECT besides those of control; 0 for others."""
    if not instruction.selections:
        return 0
    common = instruction.selections[0]
    own = selection_cycles(SelectKind(common.kind), common.length, common.pitch, config)
    return max(own + SELECT_CYCLES, PREFETCH_CYCLES)


class Plan:
    """A program, ready to be timed.

    Attributes
    ----------
    instructions : tuple of Instruction
    layers : list of TimedLayer
    fetch, control : list of int
        Cycles to fetch each instruction, and its own besides those of the layer or selection.
    selecting : list of int
        Cycles of the selection, where the instruction is a SELECT.
    rows : LoadedRows
        What is written to the list memories during a run.
    """

    def __init__(self, program: Program, source: WeightSource = PROMPT):
        config, self.instructions = program.config, program.decoded.instructions
        self.layers = _layers(program)
        self.fetch, self.control = [], []
        self.selecting = []
        fetched = False  # while the instruction before was at work
        for instruction in self.instructions:
            described = instruction.op in (Opcode.LAYER, Opcode.SELECT)
            description = DESCRIPTION_CYCLES if described and not fetched else 0
            self.fetch.append(0 if fetched else FETCH_CYCLES)
            self.control.append(LAYER_CYCLES + description if described else DECISION_CYCLES)
            self.selecting.append(_selecting(instruction, config))
            fetched = described
        self._config = config
        self._pes = config.pes
        self._source = source
        self._chunks = program.decoded.chunks
        self.rows = LoadedRows.of(self._chunks, source, config)
        sizes = [config.output_queue, FIRST_PUSH, LEAD, OUTPUT_LATENCY, config.lanes]
        self._places, self._queues = (0,) * config.job_queue, np.array(sizes, dtype=np.int64)

    def loading(self, images: int) -> Loading:
        """What comes from external memory in runs that begin now."""
        return Loading(self._chunks, self._source, images)

    def most_rows(self, number: int, cycles: int) -> int:
        """Most rows that can come to a core while a LAYER runs that takes so many cycles without any."""
        chunks = range(self.layers[number].chunks, len(self._chunks))
        asked = [k for k in chunks if self._chunks[k].after <= number]
        rows = int(np.diff(self.rows.starts)[:, asked].sum(axis=1).max())
        # Rows are so many cycles apart, and each makes the layer at most one longer.
        apart = self._config.list_row_beats * self._source.cycles_per_beat
        return min(rows, (cycles + apart) // (apart - 1))

    def times(
        self, number: int, active: np.ndarray, wanted: np.ndarray, held: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Cycles, stalls and jobs of a LAYER, and PE-cycles by cause: int64 arrays (images,) and (images, causes).

        Without ``held``, nothing comes from external memory.
        """
        cycles, stalls, jobs, _, spent = self.times_of(self.layers[number], active, wanted, held)
        return cycles, stalls, jobs, spent.sum(axis=(1, 3), dtype=np.int64)

    def times_of(
        self, layer: TimedLayer, active: np.ndarray, wanted: np.ndarray, held: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What :func:`sim.kernel.layer_cycles` returns of a LAYER, or of some of its cores and their rows."""
        cycles, stalls, jobs, taken, spent = layer_cycles(
            active,
            wanted,
            layer.working,
            layer.rows,
            layer.columns,
            layer.walk,
            layer.counts,
            self._pes,
            self._places,
            self._queues,
            layer.slow,
            layer.latency,
            held if held is not None and held.size else None,
            self.rows.starts,
            self.rows.offsets,
        )
        for each in layer.skipped:
            lost = wanted[:, None] * each.products(active)
            spent[:, each.core, _PRODUCTS] -= lost
            spent[:, each.core, _EDGES] += lost
        return cycles, stalls, jobs, taken, spent
