"""What a compilation uses of every memory, layer by layer; of one that was refused, what it would use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Literal

import numpy as np

from hw.compiler.attempts import Attempt
from hw.compiler.choose import Chosen
from hw.compiler.expand import Expanded
from hw.compiler.memory.memory_plan import Request
from hw.compiler.memory.places import Places
from hw.compiler.prove import Proven
from hw.compiler.schedule import Scheduled
from hw.compiler.search.least import least_channels, least_pointers
from hw.compiler.search.partition_options import Option
from hw.compiler.search.search import Held
from hw.compiler.steps.step import Step, maps_of
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.bits import encode, words_of
from hw.program.image_layout import description_words, instruction_words
from hw.program.isa import Chunk, Column, Row
from hw.program.list_memory import unpack_pointers
from hw.program.selection_encoding import masks_of

__all__ = ["MemoryUse", "memory_use"]

#: How certain figures are: of the program; by the estimate of a choice; of any choice at least.
Certainty = Literal["exact", "expected", "least"]


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Use of a memory, in the core (and PE) that uses most of it.

    Attributes
    ----------
    memory : str
    certainty : str
        Whether the figures are exact, expected, or the least that any choice uses.
    used, words : int
        Words that are used, and that there are.
    common : int
        Words that belong to no layer.
    layers : dict of str to int
        Words of every layer. Where one layer's words follow the other's (``shared``), the largest are the use; else
        the use is their sum, and words that several layers share count for the first.
    shared : bool
    """

    memory: str
    certainty: Certainty
    words: int
    common: int = 0
    layers: Mapping[str, int] = field(default_factory=dict)
    shared: bool = False

    @property
    def used(self) -> int:
        """Words that are used."""
        words = self.layers.values()
        return self.common + (max(words, default=0) if self.shared else sum(words))


def memory_use(proven: Proven, expanded: Expanded | None, attempt: Attempt | None) -> list[MemoryUse]:
    """The use of every memory.

    Parameters
    ----------
    proven : Proven
        The steps, whole.
    expanded : Expanded or None
        Their options, if they have any.
    attempt : Attempt or None
        The one that made the program, or the last that came to a choice.
    """
    if attempt is None or attempt.chosen is None:
        return _least(proven, expanded)
    chosen, scheduled = attempt.chosen, attempt.scheduled
    config, steps = proven.config, chosen.expanded.proven.steps
    counts = [len(option.cost.work) for option in chosen.options]
    lists = _expected_lists(chosen) if scheduled is None else _lists(scheduled)
    exact: Certainty = "least" if scheduled is None else "exact"
    chunks, tables = ({}, {}) if scheduled is None else (_chunk_words(scheduled), _table_words(scheduled))
    held = sum(option.channels for option in _held(chosen).values())
    core = int(np.argmax(held))
    channels = {layer: int(option.channels[core]) for layer, option in _held(chosen).items()}
    return [
        *lists,
        _activations(steps, chosen.requests, "expected" if attempt.placed is None else "exact", config),
        MemoryUse(memory="channels", certainty="exact", words=config.channel_words, layers=channels),
        _accumulators(steps, [[option] for option in chosen.options], "exact", config),
        _program(proven, steps, counts, chunks, exact),
        _descriptions(steps, counts, tables, exact, config),
    ]


def _least(proven: Proven, expanded: Expanded | None) -> list[MemoryUse]:
    """What any choice for whole steps uses at least."""
    config, steps = proven.config, proven.steps
    maps = maps_of(proven.network, steps)
    ones = [1] * len(steps)
    found = []
    if expanded is not None:
        pointers = {
            step.layer.name: min(least_pointers(option.expansion, config) for option in options)
            for step, options in zip(steps, expanded.options, strict=True)
        }
        found.append(MemoryUse(memory="lists", certainty="least", words=config.list_words, layers=pointers))
    channels = {step.layer.name: least_channels(step, config) for step in steps}
    return [
        *found,
        _activations(steps, Places(steps, in_place=True).least(maps, config), "least", config),
        MemoryUse(memory="channels", certainty="least", words=config.channel_words, layers=channels),
        *([] if expanded is None else [_accumulators(steps, expanded.options, "least", config)]),
        _program(proven, steps, ones, {}, "least"),
        _descriptions(steps, ones, {}, "least", config),
    ]


def _summed(steps: Sequence[Step], words: Sequence[int]) -> dict[str, int]:
    """Words by layer, of steps that may be strips."""
    found = dict.fromkeys([step.layer.name for step in steps], 0)
    for step, each in zip(steps, words, strict=True):
        found[step.layer.name] += each
    return found


def _held(chosen: Chosen) -> dict[str, Held]:
    """What every layer takes of list and channel memories."""
    groups, steps, options = chosen.expanded.groups, chosen.expanded.proven.steps, chosen.options
    return {steps[group[0]].layer.name: Held.of([options[n].cost for n in group]) for group in groups}


def _expected_lists(chosen: Chosen) -> list[MemoryUse]:
    """By the estimate."""
    config = chosen.expanded.proven.config
    if chosen.streamed:
        layers: dict[str, int] = {}
        for step, option in zip(chosen.expanded.proven.steps, chosen.options, strict=True):
            most = int(option.cost.rows()[:, 0].max())
            layers[step.layer.name] = max(most, layers.get(step.layer.name, 0))
        return [_read(layers, "expected", config.list_words)]
    held = _held(chosen)
    total = sum(each.lists for each in held.values())
    place = np.unravel_index(np.argmax(total), np.shape(total))
    layers = {layer: int(each.lists[place]) for layer, each in held.items()}
    return [MemoryUse(memory="lists", certainty="expected", words=config.list_words, layers=layers)]


def _read(layers: Mapping[str, int], certainty: Certainty, words: int) -> MemoryUse:
    """Use of the words in which lists follow each other during the run."""
    return MemoryUse(memory="lists read", certainty=certainty, words=words, layers=layers, shared=True)


def _lists(scheduled: Scheduled) -> list[MemoryUse]:
    """Of the images: those that stay, and those that are read during the run, if any are."""
    config, plan = scheduled.placed.chosen.expanded.proven.config, scheduled.lists
    steps = [each.step for each in scheduled.commands]
    pe, pointers = _fullest(scheduled)
    image, taken = plan.lists[pe], np.zeros(plan.lists.shape[1], dtype=bool)
    kept, read = [0] * len(steps), dict[str, int]()
    for number, (step, size) in enumerate(zip(steps, plan.read, strict=True)):
        if size:
            read[step.layer.name] = max(size, read.get(step.layer.name, 0))
            continue
        before, own = int(taken.sum()), slice(*pointers[number])
        taken[own] = True
        for start, count in zip(*unpack_pointers(image[own].astype(np.int64), config), strict=True):
            taken[start : start + count] = True
        kept[number] = int(taken.sum()) - before
    found = MemoryUse(
        memory="lists",
        certainty="exact",
        words=config.list_words,
        common=len(taken) - int(taken.sum()),  # empty lists before pointers that need an even address
        layers=_summed(steps, kept),
    )
    return [found, *([_read(read, "exact", config.list_words - found.used)] if read else [])]


def _fullest(scheduled: Scheduled) -> tuple[int, list[tuple[int, int]]]:
    """The PE of all cores whose list memory is filled highest, and where its pointers of each command begin and end."""
    config, plan = scheduled.placed.chosen.expanded.proven.config, scheduled.lists
    pointers: list[list[tuple[int, int]]] = [[] for _ in range(config.cores)]
    for first, size, work in zip(plan.first, plan.read, scheduled.commands, strict=True):
        found = dict.fromkeys(range(config.cores), (0, 0))
        for task, done in zip(work.tasks, work.schedules, strict=True):
            if not size:
                begin, words = first[task.tile.core], done.lists.pointer_words
                found[task.tile.core] = words * begin, words * (begin + len(done.lists.entries))
        for core, each in found.items():
            pointers[core].append(each)
    ends = [
        max([end for _, end in pointers[pe // config.pes]] + (np.flatnonzero(words) + 1).tolist()[-1:])
        for pe, words in enumerate(plan.lists)
    ]
    pe = int(np.argmax(ends))
    return pe, pointers[pe // config.pes]


def _activations(
    steps: Sequence[Step], requests: Sequence[Request], certainty: Certainty, config: AcceleratorConfig
) -> MemoryUse:
    """Of all maps that are kept while a layer is at work."""
    layers = dict.fromkeys([step.layer.name for step in steps], 0)
    for number, step in enumerate(steps):
        live = sum(request.words for request in requests if request.first <= number <= request.last)
        layers[step.layer.name] = max(layers[step.layer.name], live)
    return MemoryUse(
        memory="activations",
        certainty=certainty,
        words=sum(config.bank_words),
        layers=layers,
        shared=True,
    )


def _accumulators(
    steps: Sequence[Step], options: Sequence[Sequence[Option]], certainty: Certainty, config: AcceleratorConfig
) -> MemoryUse:
    """Of the option of every step that needs the fewest."""
    layers = dict.fromkeys([step.layer.name for step in steps], 0)
    for step, each in zip(steps, options, strict=True):
        fewest = min(option.requirements.accumulators for option in each)
        layers[step.layer.name] = max(layers[step.layer.name], fewest)
    return MemoryUse(memory="accumulators", certainty=certainty, words=config.accumulators, layers=layers, shared=True)


def _described(steps: Sequence[Step], counts: Sequence[int]) -> list[int]:
    """Instructions and descriptions of every step: of its commands, and of its selection."""
    return [count + (step.select is not None) for step, count in zip(steps, counts, strict=True)]


def _program(
    proven: Proven, steps: Sequence[Step], counts: Sequence[int], chunks: Mapping[str, int], certainty: Certainty
) -> MemoryUse:
    """Header, instructions, decisions of exits, and table of chunks."""
    common, heads = instruction_words(0, 0), [head.logits for head in proven.network.exits]
    words = [
        instruction_words(count, int(step.layer.name in heads)) - common
        for step, count in zip(steps, _described(steps, counts), strict=True)
    ]
    layers = {layer: each + chunks.get(layer, 0) for layer, each in _summed(steps, words).items()}
    return MemoryUse(
        memory="program", certainty=certainty, words=proven.config.program_words, common=common, layers=layers
    )


def _chunk_words(scheduled: Scheduled) -> dict[str, int]:
    """Entries of the chunk table by layer."""
    waits = [0, *scheduled.lists.waits]
    words = [words_of(Chunk) * (after - before) for before, after in pairwise(waits)]
    return _summed([each.step for each in scheduled.commands], words)


def _descriptions(
    steps: Sequence[Step],
    counts: Sequence[int],
    tables: Mapping[str, int],
    certainty: Certainty,
    config: AcceleratorConfig,
) -> MemoryUse:
    """Window of the image, descriptions, and tables of rows, columns and masks."""
    common = description_words(0)
    words = [description_words(count) - common for count in _described(steps, counts)]
    layers = {layer: each + tables.get(layer, 0) for layer, each in _summed(steps, words).items()}
    return MemoryUse(memory="layers", certainty=certainty, words=config.layer_words, common=common, layers=layers)


def _table_words(scheduled: Scheduled) -> dict[str, int]:
    """Words of tables by layer, in the core that has most of them; equal tables are kept once."""
    config = scheduled.placed.chosen.expanded.proven.config
    cores = [_tables_of(core, scheduled, config) for core in range(config.cores)]
    return max(cores, key=lambda layers: sum(layers.values()))


def _tables_of(core: int, scheduled: Scheduled, config: AcceleratorConfig) -> dict[str, int]:
    """Words of a core's tables by layer."""
    steps, words, seen = [each.step for each in scheduled.commands], [], set[tuple[int, ...]]()
    for number, work in enumerate(scheduled.commands):
        step, tables = steps[number], []
        if step.select is not None and step.select.kind == "mask" and (number == 0 or steps[number - 1] is not step):
            tables.append(masks_of(step.select, config.padded_channels(step.source.shape[2]) // WORD_CHANNELS))
        for task, done in zip(work.tasks, work.schedules, strict=True):
            if task.tile.core == core:
                for layout, entries in ((Row, done.row_fields), (Column, done.column_fields)):
                    packed = [encode(layout, **fields) for fields in entries(config.accumulators)]
                    tables.append(tuple(chain.from_iterable(packed)))
        new = set(tables) - seen
        seen |= new
        words.append(sum(map(len, new)))
    return _summed(steps, words)
