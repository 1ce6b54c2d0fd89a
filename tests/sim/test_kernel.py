"""The recurrence against units that are stepped cycle by cycle."""

import numpy as np
import pytest

from sim.kernel import CAUSES, layer_cycles
from sim.vector import WIDTH
from tests.sim.stepping import Core, Layer, Units, slots_of


def random_units(rng: np.random.Generator) -> Units:
    pes = int(rng.choice([2, 4, 8]))
    return Units(
        pes=pes,
        job_queue=int(rng.choice([2, 4, 8])),
        output_queue=int(rng.choice([2, 4, 16])),
        first_push=11,
        lead=7,
        output_latency=int(rng.integers(1, 9)),
        lanes=int(rng.integers(1, 3)),
        slow=bool(rng.integers(2)),
        latency=int(rng.integers(1, 30)),
    )


def random_layer(rng: np.random.Generator, pes: int, group: int, size: tuple[int, int, int]) -> Layer:
    """A walk over the inner part of a map of this size (channels in words)."""
    height, width, words = size
    rows, columns = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
    scanned = int(rng.integers(1, words + 1))
    filled = int(rng.integers(max(1, rows - 1), rows + 1))
    blocks, each = 3, int(rng.integers(1, 4))
    lists = scanned * WIDTH // group
    dumps = [int(rng.integers(0, 3)) for _ in range(columns - 1)]
    counts = rng.integers(0, rng.integers(1, 6), (blocks * lists * 4, pes)) * (rng.random(pes) < 0.9)
    return Layer(
        rows=[
            (int(rng.integers(blocks)) * lists, each, y == rows - 1 or rng.random() < 0.5, y < filled)
            for y in range(rows)
        ],
        columns=[(int(rng.integers(2)) * lists, n) for n in [*dumps, int(rng.integers(1, 3))]],
        first=WIDTH * int(rng.integers(words - scanned + 1)),
        row_pitch=width * words * WIDTH,
        column_pitch=words * WIDTH,
        channels=scanned * WIDTH,
        list_step=int(rng.integers(1, 3)) if each > 1 else 0,
        dump_length=int(rng.integers(1, 4)),
        group=group,
        counts=counts,
    )


def random_writes(rng: np.random.Generator, cores: int, chunks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First beats of the chunks, where each core's rows of them start, and the rows' offsets: cycles apart."""
    held, starts, offsets, now = [], np.zeros((cores, chunks + 1), np.int64), [], -20
    per_core: list[list[list[int]]] = [[] for _ in range(cores)]
    for _ in range(chunks):
        now += int(rng.integers(1, 60))
        held.append(now)
        times = np.cumsum(rng.integers(2, 6, rng.integers(1, 20)))
        for rows in per_core:
            rows.append([int(t) for t in times if rng.random() < 0.7])
        now += int(times[-1]) + 1
    for core, rows in enumerate(per_core):
        starts[core, 0] = len(offsets)
        for number, times in enumerate(rows):
            offsets += times
            starts[core, number + 1] = len(offsets)
    return np.array(held, np.int64), starts, np.array([*offsets, 0], np.int64)


def kernel(layers: list[Layer], cores: list[int], units: Units, active: np.ndarray, count: int, held=None, wanted=None):
    """The recurrence on these layers of the working cores, of so many cores."""
    starts, offsets = (np.zeros((count, 1), np.int64), np.zeros(0, np.int64)) if held is None else held[1:]
    working, rows, columns, walk = [], [], [], []
    counts = np.zeros((count, max(len(layer.counts) for layer in layers), WIDTH), np.int16)
    for core, layer in zip(cores, layers, strict=True):
        ends = len(rows), len(rows) + len(layer.rows), len(columns), len(columns) + len(layer.columns)
        working.append([core, *ends])
        rows += layer.rows
        columns += layer.columns
        pitches = layer.first, layer.row_pitch, layer.column_pitch, layer.channels
        walk.append([*pitches, layer.list_step, layer.dump_length, layer.group])
        counts[core, : len(layer.counts), : units.pes] = layer.counts
    queues = [units.output_queue, units.first_push, units.lead, units.output_latency, units.lanes]
    return layer_cycles(
        active,
        np.ones(len(active), dtype=bool) if wanted is None else wanted,
        *(np.array(table, np.int64) for table in (working, rows, columns, walk)),
        counts.reshape(count, -1),
        units.pes,
        (0,) * units.job_queue,
        np.array(queues, np.int64),
        units.slow,
        units.latency,
        None if held is None else np.tile(held[0], (len(active), 1)),
        starts,
        offsets,
    )


def check(seed: int, *, written: bool, depthwise: bool) -> None:
    """Some images on some cores."""
    rng = np.random.default_rng([seed, written, depthwise])
    units = random_units(rng)
    size = (int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(1, 3)))
    count = int(rng.choice([1, 2, 4]))
    cores = sorted(rng.choice(count, rng.integers(1, count + 1), replace=False).tolist())
    layers = [random_layer(rng, units.pes, units.pes if depthwise else 1, size) for _ in cores]
    active = rng.random((4, np.prod(size) * WIDTH)) < np.array([[0.0], [0.2], [0.6], [1.0]])
    held = random_writes(rng, count, 3) if written else None
    cycles, stalls, jobs, taken, spent = kernel(layers, cores, units, active, count, held)
    for image, used in enumerate(active):
        found = {}
        for core, layer in zip(cores, layers, strict=True):
            writes = set()
            if held is not None:
                first, starts, offsets = held
                for chunk, beat in enumerate(first):
                    writes |= set((beat + offsets[starts[core, chunk] : starts[core, chunk + 1]]).tolist())
            found[core] = Core(layer, units, used, writes).run()
        slowest = max(own for own, *_ in found.values())
        assert (cycles[image], stalls[image]) == (slowest, sum(waited for _, waited, *_ in found.values()))
        none = [0] * units.pes
        for core in range(count):
            own, _, accepted, expected = found.get(core, (0, 0, none, dict.fromkeys(CAUSES, none)))
            expected = expected | {"cores": [slowest - own] * units.pes}
            assert taken[image, core].tolist() == accepted
            assert dict(zip(CAUSES, spent[image, core].tolist(), strict=True)) == expected
        assert jobs[image] == sum(isinstance(slot, list) for layer in layers for slot in slots_of(layer, used))


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("written", [False, True])
def test_the_recurrence_is_what_stepping_finds(written, depthwise):
    for seed in range(60):
        check(seed, written=written, depthwise=depthwise)


def test_images_that_do_not_come_here_take_no_time():
    rng = np.random.default_rng(0)
    units = random_units(rng)
    layer = random_layer(rng, units.pes, 1, (2, 2, 1))
    active = np.ones((3, 4 * WIDTH), dtype=bool)
    wanted = np.array([True, False, True])
    cycles, stalls, jobs, taken, spent = kernel([layer], [0], units, active, 1, wanted=wanted)
    expected, waited, *_ = Core(layer, units, active[0], set()).run()
    assert (cycles.tolist(), stalls.tolist()) == ([expected, 0, expected], [waited, 0, waited])
    assert not spent[1].any()
    for counted in (jobs, taken.sum(axis=(1, 2))):
        assert (counted > 0).tolist() == [True, False, True]
