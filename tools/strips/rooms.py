"""Which strips wait for whom, and what the cores' memories hold.

A core keeps, of every map that its strips read, the rows that they read, for the images in flight one after the other:
in a ring of so many rows. A row takes the place of the one that came a ring's length before, and its maker waits until
all strips of that core that read this one have been dispatched, or, of a residual operand, have left the lanes.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from hw.network.network import INPUT
from tools.strips.cut import words_of
from tools.strips.work import Work

__all__ = ["Maps", "core_memory", "kept_rows", "maps_of", "rings_of", "room_links"]


@dataclass(frozen=True, eq=False)
class Maps:
    """Who makes and who reads the maps of a network.

    Attributes
    ----------
    names : list of str
    widths : int64 array (maps,)
        Columns.
    makers : int64 array (maps, rows, words)
        The strip that makes a word of a row's positions; -1: none.
    reads : int64 array (reads, 7)
        Strip, map, first row and the one after the last, first word and the one after the last, whether it is the
        residual operand.
    lists : int64 array (strips,)
        Strips of the same number have the same lists; -1: none, as the host's.
    list_words : int64 array (lists, PEs)
    needed, followers : int64 arrays
        As in :func:`tools.strips.recurrence.run`.
    """

    names: list[str]
    widths: np.ndarray
    makers: np.ndarray
    reads: np.ndarray
    lists: np.ndarray
    list_words: np.ndarray
    needed: np.ndarray
    followers: np.ndarray


def maps_of(work: Work) -> Maps:
    """The maps of a network that is cut in strips; those of the host come first."""
    hosts = len(work.host_rows)
    total = hosts + len(work.strips)
    raw = {layer.step.result.name for layer in work.layers if layer.step.raw}
    shapes = {INPUT: work.image} | {
        name: (*layer.step.result.output.shape[:2], 8 * sum(one == name for one, _ in layer.made))
        for layer in work.layers
        for name, _ in layer.made
        if name not in raw
    }
    names = list(shapes)
    makers = np.full(
        (len(names), max(shape[0] for shape in shapes.values()), max(words_of(shape[2]) for shape in shapes.values())),
        -1,
        dtype=np.int64,
    )
    for number, (first, last) in enumerate(work.host_rows):
        makers[0, first:last, : words_of(work.image[2])] = number
    reads: list[list[int]] = []
    needs: set[tuple[int, int]] = set()
    for number, strip in enumerate(work.strips, hosts):
        layer = work.layers[strip.layer]
        step = layer.step
        for word in range(*strip.words):
            name, own = layer.made[word]
            if name not in raw:
                makers[names.index(name), slice(*strip.rows), own] = number
        scanned = strip.words if step.kernel.depthwise else (0, words_of(step.source.shape[2]))
        reads.append([number, names.index(step.reads), *strip.reads, *scanned, 0])
        if step.residual is not None:
            reads.append([number, names.index(step.residual), *strip.rows, *strip.words, 1])
        if layer.branch:
            heads = [n for n, other in enumerate(work.strips, hosts) if work.layers[other.layer].exit >= 0]
            needs |= {(n, number) for n in heads if work.layers[work.strips[n - hosts].layer].exit == layer.branch - 1}
    for number, which, *region, _ in reads:
        found = makers[which, slice(*region[:2]), slice(*region[2:])]
        assert found.size
        assert found.min() >= 0
        needs |= {(int(maker), number) for maker in np.unique(found)}
    groups: dict[tuple[int, int], int] = {}
    for strip in work.strips:
        groups.setdefault((strip.layer, strip.group), len(groups))
    needed, followers = successors(sorted(needs), total)
    return Maps(
        names=names,
        widths=np.array([shape[1] for shape in shapes.values()]),
        makers=makers,
        reads=np.array(reads),
        lists=np.array([-1] * hosts + [groups[strip.layer, strip.group] for strip in work.strips]),
        list_words=np.concatenate([layer.list_words for layer in work.layers]),
        needed=needed,
        followers=followers,
    )


def successors(needs: list[tuple[int, int]], total: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (needed, who needs it), in order, as the recurrence takes them."""
    pairs = np.array(needs, dtype=np.int64).reshape(-1, 2)
    return np.searchsorted(pairs[:, 0], np.arange(total + 1)), np.ascontiguousarray(pairs[:, 1])


@njit(cache=True)
def kept_rows(cores, units, reads, makers):
    """Rows of each map that each core keeps of an image; the first word of these, the one after the last, and how many
    rows a strip reads at most: bool array (cores, maps, rows), int64 array (cores, maps, 3).
    """
    maps, rows, words = makers.shape
    kept = np.zeros((units, maps, rows), np.bool_)
    extent = np.zeros((units, maps, 3), np.int64)
    extent[:, :, 0] = words
    for n in range(len(reads)):
        strip, which, first, last, low, high, _ = reads[n]
        core = cores[strip]
        kept[core, which, first:last] = True
        extent[core, which, 0] = min(extent[core, which, 0], low)
        extent[core, which, 1] = max(extent[core, which, 1], high)
        extent[core, which, 2] = max(extent[core, which, 2], last - first)
    return kept, extent


@njit(cache=True)
def rings_of(kept, extent, spare):
    """Rows of every ring, int64 array (cores, maps): those of an image and some to spare, which may be negative; no
    fewer than a strip reads.
    """
    return np.maximum(kept.sum(axis=2) + spare, extent[:, :, 2]) * (extent[:, :, 2] > 0)


@njit(cache=True)
def room_links(cores, rings, kept, reads, makers, delays, lanes):
    """What strips wait for before they may write: ``freed`` and ``rooms`` of :func:`tools.strips.recurrence.run`.

    Parameters
    ----------
    cores : int64 array (strips,)
    rings : int64 array (cores, maps)
        Rows of each ring; of at least one row where a core keeps any.
    delays, lanes : int64 and bool arrays (strips, strips)
        Room to work in; what they hold doesn't matter.
    """
    units, maps, height = kept.shape
    words = makers.shape[2]
    total = len(cores)
    delays[:] = -1
    lanes[:] = False
    place = np.empty(height, np.int64)
    for core in range(units):
        for which in range(maps):
            count = 0
            for row in range(height):
                if kept[core, which, row]:
                    place[count] = row
                    count += 1
            if count == 0:
                continue
            for n in range(len(reads)):
                strip, read, first, last, _, _, residual = reads[n]
                if cores[strip] != core or read != which:
                    continue
                for j in range(count):
                    # Row j of an image takes the place of row ``before`` of the image ``delay`` before.
                    delay = -((j - rings[core, which]) // count)
                    row = place[(j - rings[core, which]) % count]
                    if row < first or row >= last:
                        continue
                    for word in range(words):
                        maker = makers[which, place[j], word]
                        if maker < 0:
                            continue
                        if delays[strip, maker] < 0 or delay < delays[strip, maker]:
                            delays[strip, maker] = delay
                        lanes[strip, maker] |= residual > 0
    found = 0
    for strip in range(total):
        for maker in range(total):
            found += delays[strip, maker] >= 0
    freed, rooms = np.zeros(total + 1, np.int64), np.empty((found, 3), np.int64)
    found = 0
    for strip in range(total):
        for maker in range(total):
            if delays[strip, maker] >= 0:
                rooms[found, 0], rooms[found, 1], rooms[found, 2] = maker, delays[strip, maker], lanes[strip, maker]
                found += 1
        freed[strip + 1] = found
    return freed, rooms


@njit(cache=True)
def core_memory(core, cores, rings, kept, extent, reads, lists, list_words, widths, limits):
    """List words of a core's fullest PE, its activation words, and all words for which there is no place.

    Parameters
    ----------
    limits : int64 array (3,)
        List words, words of both banks. Source and residual operand of a strip lie in different banks.
    """
    maps = len(widths)
    used = np.zeros(list_words.shape[1], np.int64)
    has = np.zeros(len(list_words), np.bool_)
    apart = np.zeros((maps, maps), np.bool_)
    source = np.full(len(cores), -1, np.int64)
    for n in range(len(reads)):
        strip, which, _, _, _, _, residual = reads[n]
        if cores[strip] != core:
            continue
        if not has[lists[strip]]:
            has[lists[strip]] = True
            used += list_words[lists[strip]]
        if residual:
            apart[source[strip], which] = True
        else:
            source[strip] = which
    words, present = np.zeros(maps, np.int64), np.zeros(maps, np.int64)
    count = 0
    for which in range(maps):
        if kept[core, which].any():
            spread = extent[core, which, 1] - extent[core, which, 0]
            words[count] = rings[core, which] * widths[which] * spread
            present[count] = which
            count += 1
    total = words.sum()
    least = max(0, total - limits[1] - limits[2])
    if count:
        fewest = np.int64(1) << 40
        for choice in range(1 << count):
            possible = True
            one = np.int64(0)
            for a in range(count):
                if choice >> a & 1:
                    one += words[a]
                for b in range(count):
                    if apart[present[a], present[b]] and (choice >> a ^ choice >> b) & 1 == 0:
                        possible = False
            if possible:
                fewest = min(fewest, max(0, one - limits[1]) + max(0, total - one - limits[2]))
                if fewest == least:
                    break
        least = fewest
    return used.max(), total, max(0, used.max() - limits[0]) + least
