"""A step under a partition, expanded: what each core makes of every command, and how it walks there."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import product

from hw.compiler.steps.blocks import Block, blocks_of
from hw.compiler.steps.partition import Partition, bands_of
from hw.compiler.steps.split import SplitWalk, split_of
from hw.compiler.steps.step import Kernel, Step
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.tiles import Tile, divide, tiles_of

__all__ = ["CoreTask", "Expansion", "can_split", "expand_step"]


@dataclass(frozen=True)
class CoreTask:
    """What a core makes of a command.

    Attributes
    ----------
    tile : Tile
        Output rows and channel words.
    channels : tuple of 2 int
        First output channel and the one after the last.
    top : int
        First row of the map that is walked.
    kernel : Kernel
        As the core meets it: turned where it walks column by column.
    rows : tuple of 2 int
        First output row of the walk, and the one after the last.
    blocks : tuple of Block
        Kernel rows that stand in one list.
    split : SplitWalk or None
        How its lists are split, if they are; then there are no blocks.
    """

    tile: Tile
    channels: tuple[int, int]
    top: int
    kernel: Kernel
    rows: tuple[int, int]
    blocks: tuple[Block, ...]
    split: SplitWalk | None = None

    @property
    def words(self) -> int:
        """Channel words of a position that are made."""
        return self.tile.words[1] - self.tile.words[0]

    @property
    def same_lists(self) -> tuple[Hashable, ...]:
        """What the lists depend on besides layer, direction of the walk and pass."""
        if self.split is not None:
            return self.channels, self.split.same, self.kernel.columns.outputs
        return self.channels, self.blocks, self.kernel.columns

    def list_count(self, inputs: tuple[int, int], config: AcceleratorConfig) -> int:
        """How many words of pointers the lists of a pass over some input channels have."""
        if self.split is not None:
            return 2 * self.split.lists * (inputs[1] - inputs[0])
        each = self.words * WORD_CHANNELS // config.pes if self.kernel.depthwise else inputs[1] - inputs[0]
        return len(self.kernel.classes) * len(self.blocks) * each


@dataclass(frozen=True)
class Expansion:
    """A step under a partition; of strips that make the same rows of a layer, one is as good as the other.

    Attributes
    ----------
    partition : Partition
    depth : int
        Input channels.
    commands : tuple of tuple of CoreTask
        What each core with work makes of every command, whatever its passes.
    passes : tuple of tuple of 2 int
        Of each pass the first input channel, a multiple of 8, and the one after the last.
    """

    partition: Partition
    depth: int
    commands: tuple[tuple[CoreTask, ...], ...]
    passes: tuple[tuple[int, int], ...]

    def layers(self) -> Iterator[tuple[tuple[CoreTask, ...], tuple[int, int]]]:
        """The LAYER instructions in order: a command's tasks, and the input channels of a pass."""
        return product(self.commands, self.passes)

    @property
    def tiles(self) -> list[Tile]:
        """Who makes which rows; every command makes the same ones in the same cores."""
        return [task.tile for task in self.commands[0]]


def can_split(step: Step, bands: int, *, column_major: bool) -> bool:
    """Whether the lists of a step in so many bands can be split: its kernel is larger than 1x1, and parts and marks
    suffice.
    """
    kernel = step.kernel
    if kernel.depthwise or kernel.global_pool or kernel.rows.kernel == kernel.columns.kernel == 1:
        return False
    walks = (kernel.walk(rows, column_major) for rows in bands_of(step, bands))
    return all(
        split_of(turned.rows.band(*rows)[1], turned.columns, column_major=column_major) is not None
        for turned, rows in walks
    )


def expand_step(step: Step, partition: Partition, config: AcceleratorConfig) -> Expansion:
    """What every core makes of every command of a step."""
    channels, depth = step.result.output.shape[2], step.source.shape[2]
    words = divide(0, config.padded_channels(channels) // WORD_CHANNELS, partition.commands)
    bands = bands_of(step, partition.bands)
    walks = {}
    for rows in bands:
        kernel, walk_rows = step.kernel.walk(rows, partition.column_major)
        top = 0 if kernel.global_pool else step.kernel.reads(*rows)[0]
        split = None
        if partition.split:
            split = split_of(kernel.rows.band(*walk_rows)[1], kernel.columns, column_major=partition.column_major)
            assert split is not None
        blocks = () if split else blocks_of(kernel, walk_rows, partition.merged)
        walks[rows] = top, kernel, walk_rows, blocks, split
    commands = tuple(
        tuple(
            CoreTask(tile, tile.channels(channels), *walks[tile.rows])
            for tile in tiles_of(bands, some, partition.groups)
        )
        for some in words
    )
    deep = divide(0, -(-depth // WORD_CHANNELS), partition.passes)
    passes = tuple((first * WORD_CHANNELS, min(last * WORD_CHANNELS, depth)) for first, last in deep)
    return Expansion(partition, depth, commands, passes)
