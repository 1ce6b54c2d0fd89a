"""What images ask of a network's strips: the arrays of the recurrence, from real lists and real activations."""

from collections.abc import Mapping, Sequence

import numpy as np

from hw.compiler.steps.expansion import CoreTask
from hw.compiler.steps.geometry import row_schedule
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import Network
from hw.network.zero_points import storage_zero_points
from sim.simulate import active_inputs
from sim.timing import IMAGE_DISTANCE, LANE_LATENCY, RAW_LATENCY, RESIDUAL_LATENCY, flush_cycles
from tools.strips.cut import CutLayer, LayerStrip, words_of
from tools.strips.recurrence import STRIP_FIELDS

__all__ = ["Work", "lane_cycles"]


def lane_cycles(kept: np.ndarray, lanes: int) -> np.ndarray:
    """Cycles of a core's lanes for some accumulators, those of a position after each other, looked at in pairs.

    Parameters
    ----------
    kept : bool array (..., accumulators)
        Those that go through a lane; their number is even.
    """
    pairs = kept.reshape(*kept.shape[:-1], -1, 2).sum(axis=-1)
    cycles: np.ndarray = -(-np.maximum(pairs, 1).sum(axis=-1) // lanes)
    return cycles


class Work:
    """All strips of a network and what its images ask of them: arrays of :func:`tools.strips.recurrence.run`.

    Parameters
    ----------
    layers : tuple of CutLayer
    network : Network
        That they are of.
    tensors : dict of str to array (images, ...)
        The golden model's tensors on the images.
    exits : int array (images,)
        The exits that they take.
    host_strips : int
        Strips in which the image is written.
    lanes : int
        Of a core.
    turn : int
        Cycles between two words of a core on the exchange.
    skip : bool
        Whether accumulators that ReLU makes 0 need no lane.

    Attributes
    ----------
    strips : list of LayerStrip
    host_rows : list of tuple of 2 int
        Rows of the image in each of the host's strips, which come before all others.
    """

    def __init__(
        self,
        layers: tuple[CutLayer, ...],
        network: Network,
        tensors: Mapping[str, np.ndarray],
        exits: np.ndarray,
        config: AcceleratorConfig,
        *,
        host_strips: int = 8,
        lanes: int = 1,
        turn: int = 4,
        skip: bool = True,
    ):
        self.layers, self.config = layers, config
        self.exits = exits.astype(np.int64)
        self.image = network.input.shape
        self.strips = [strip for layer in layers for strip in layer.strips]
        height, width, depth = self.image
        self.host_rows = [(height * n // host_strips, height * (n + 1) // host_strips) for n in range(host_strips)]
        self._table: list[list[int]] = []
        for first, last in self.host_rows:
            self._add(host=(last - first) * width * words_of(depth) * IMAGE_DISTANCE, exit=-1)
        self._rows: list[list[int]] = []
        self._columns: list[list[int]] = []
        self._counts, self._useful = list[np.ndarray](), list[np.ndarray]()
        active, costs = list[np.ndarray](), list[np.ndarray]()
        base = paid = 0
        zero_points = storage_zero_points(network)
        for layer in layers:
            source = layer.step.layer.inputs[0]
            step, shape = layer.step, layer.step.source.shape
            masked = active_inputs(tensors[source], zero_points[source], step.layer, shape, config)
            active.append(masked)
            for strip in layer.strips:
                costs.append(_costs(layer, strip, tensors, zero_points, lanes, turn, skip))
                self._add_strip(layer, strip, base, paid)
                paid += costs[-1].shape[1]
            base += masked.shape[1]
        self.table = np.array(self._table, dtype=np.int64)
        self.rows, self.columns = np.array(self._rows, dtype=np.int64), np.array(self._columns, dtype=np.int64)
        self.counts, self.useful = np.concatenate(self._counts), np.concatenate(self._useful)
        self.active = np.ascontiguousarray(np.concatenate(active, axis=1))
        self.costs = np.ascontiguousarray(np.concatenate(costs, axis=1).astype(np.int64))

    def _add(self, **fields: int) -> None:
        self._table.append([fields.get(name, 0) for name in STRIP_FIELDS])

    def _add_strip(self, layer: CutLayer, strip: LayerStrip, base: int, paid: int) -> None:
        """``base`` and ``paid``: where the layer's activations and the strip's cycles of the lanes begin."""
        step, schedule, task = layer.step, strip.schedule, strip.task
        entries, products, row_kinds, column_kinds = _tables(layer, strip, self.config.pes)
        lists = entries.shape[1] * schedule.channels
        first_row, first_column = len(self._rows), len(self._columns)
        walk = None if task.kernel.global_pool else row_schedule(task.kernel.rows.band(*task.rows)[1])[0]
        begun = 0
        for y, row in enumerate(schedule.rows):
            taps = walk[y][0] if walk else ((0, 0),)
            reach = max([begun, *(output + 1 for _, output in taps)])
            filled = y < len(schedule.rows) - schedule.blank_rows
            self._rows.append([row_kinds[y] * lists, row.count, row.final, filled, reach - begun])
            begun = reach
        for kind, column in zip(column_kinds, schedule.columns, strict=True):
            self._columns.append([kind * schedule.channels, column.dumps])
        pitch = self.config.padded_channels(step.source.shape[2])
        down, across = schedule.steps
        line = step.source.shape[1] * pitch
        pitches = (down * pitch, across * line) if schedule.column_major else (down * line, across * pitch)
        latency = RAW_LATENCY + self.config.lanes - 1 if step.raw else RESIDUAL_LATENCY if step.add else LANE_LATENCY
        self._add(
            row=first_row,
            row_end=len(self._rows),
            column=first_column,
            column_end=len(self._columns),
            first=base + task.top * line + schedule.words[0] * WORD_CHANNELS,
            row_pitch=pitches[0],
            column_pitch=pitches[1],
            channels=(schedule.words[1] - schedule.words[0]) * WORD_CHANNELS,
            group=self.config.pes if task.kernel.depthwise else 1,
            slots=schedule.dump_length,
            width=sum(column.dumps for column in schedule.columns) * schedule.dump_length,
            lists=sum(map(len, self._counts)),
            list_step=schedule.block_step * lists,
            slow=int(step.add is not None and not self.config.fast_sums),
            cost=paid,
            latency=latency + 1 + flush_cycles(self.config, True),
            branch=layer.branch,
            exit=layer.exit,
        )
        # Dummy channels of the last word may have numbers behind the last list.
        flat = entries.reshape(-1, self.config.pes)
        self._counts += [flat, np.zeros((WORD_CHANNELS, self.config.pes), dtype=np.int64)]
        self._useful += [products.reshape(-1), np.zeros(WORD_CHANNELS, dtype=np.int64)]


def _places(weight: np.ndarray, first: int, last: int, pes: int) -> np.ndarray:
    """Nonzero weights (PEs, kernel rows, kernel columns, depth) of the channels at some places."""
    each = -(-(last - first) // pes)
    used = (weight[first:last] != 0).astype(np.int64)
    padded = np.pad(used, ((0, each * pes - len(used)), *[(0, 0)] * 3))
    summed: np.ndarray = padded.reshape(each, pes, *weight.shape[1:]).sum(axis=0)
    return summed


def _tables(layer: CutLayer, strip: LayerStrip, pes: int) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
    """Entries (row kinds, column kinds, channels, PEs) and products (the same without PEs) of a strip's lists; the kind
    of each row and column.
    """
    task, schedule, kernel = strip.task, strip.schedule, strip.task.kernel
    used = [_places(kernel.weight[deal], *task.channels, pes) for deal in layer.dealt]
    parities = len(layer.dealt)
    column_kinds = [(column.number, column.parts, column.skip) for column in schedule.columns]
    if task.split is None:
        # Blocks keep their numbers: an activation's lists are so many blocks apart.
        rows = [(block, 0, 0, 0) for block in range(schedule.blocks)]
        row_kinds = [(row.block, 0, 0, 0) for row in schedule.rows]
    else:
        row_kinds = [(row.block, row.parts, row.skip, row.output % parities) for row in schedule.rows]
        rows = list(dict.fromkeys(row_kinds))
    columns = list(dict.fromkeys(column_kinds))
    entries = np.zeros((len(rows), len(columns), schedule.channels, pes), dtype=np.int64)
    products = np.zeros(entries.shape[:3], dtype=np.int64)
    for r, (block, row_parts, row_skip, parity) in enumerate(rows):
        for c, (number, column_parts, column_skip) in enumerate(columns):
            if kernel.depthwise:
                entries[r, c], products[r, c] = 1, pes
                continue
            for down, across, marks in _taps(task, block, number, row_parts & column_parts):
                shift = (kernel.rows.kernel - 1 - down) // kernel.rows.stride if task.split else 0
                one = used[(parity + shift) % parities][:, down, across].T
                entries[r, c] += one
                if not marks & (row_skip | column_skip):
                    products[r, c] += one.sum(axis=1)
    return entries, products, [rows.index(kind) for kind in row_kinds], [columns.index(kind) for kind in column_kinds]


def _taps(task: CoreTask, block: int, number: int, parts: int) -> Sequence[tuple[int, int, int]]:
    """Kernel row, kernel column and marks of the entries that a position meets."""
    if task.split is not None:
        taps = task.split.taps(number if task.split.rows_parted else block)
        return [tap for n, part in enumerate(taps) if parts >> n & 1 for tap in part]
    return [(down, across, 0) for down, _ in task.blocks[block] for across, _ in task.kernel.classes[number].taps]


def _costs(
    layer: CutLayer,
    strip: LayerStrip,
    tensors: Mapping[str, np.ndarray],
    zero_points: dict[str, int],
    lanes: int,
    turn: int,
    skip: bool,
) -> np.ndarray:
    """Cycles of the lanes for each row of outputs of a strip's walk: int64 array (images, rows of outputs)."""
    step, (first, last) = layer.step, strip.rows
    made = []
    for name, word in layer.made[slice(*strip.words)]:
        codes = tensors[name][:, first:last, :, word * WORD_CHANNELS : (word + 1) * WORD_CHANNELS]
        pad = WORD_CHANNELS - codes.shape[3]
        made.append(np.pad(codes != zero_points[name], ((0, 0), (0, 0), (0, 0), (0, pad)), constant_values=True))
    kept = np.concatenate(made, axis=3)
    relu = step.add is None and not step.raw and step.result.clamp[0] == step.result.output.zero_point
    if not (skip and relu):
        kept = np.ones_like(kept)
    if strip.schedule.column_major:
        kept = kept.swapaxes(1, 2)
    kept = kept.reshape(len(kept), kept.shape[1], -1)
    return np.maximum(lane_cycles(kept, lanes), kept.shape[2] // WORD_CHANNELS * turn)
