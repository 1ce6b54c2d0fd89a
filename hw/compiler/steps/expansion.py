"""A step under a partition, expanded: what each core makes of every command, and how it walks there."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from hw.compiler.steps.blocks import Block, blocks_of
from hw.compiler.steps.geometry import Axis
from hw.compiler.steps.partition import Partition, bands_of
from hw.compiler.steps.step import Kernel, Step
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.parts import Part, divide, parts_of

__all__ = ["Expansion", "Share", "expand_step"]


@dataclass(frozen=True)
class Share:
    """What a core makes of a command.

    Attributes
    ----------
    part : Part
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
    """

    part: Part
    channels: tuple[int, int]
    top: int
    kernel: Kernel
    rows: tuple[int, int]
    blocks: tuple[Block, ...]

    @property
    def words(self) -> int:
        """Channel words of a position that are made."""
        return self.part.words[1] - self.part.words[0]

    @property
    def same_lists(self) -> tuple[tuple[int, int], tuple[Block, ...], Axis]:
        """What the lists depend on besides layer, direction of the walk and pass."""
        return self.channels, self.blocks, self.kernel.columns

    def list_count(self, inputs: tuple[int, int], config: AcceleratorConfig) -> int:
        """How many lists a pass over some input channels has."""
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
    commands : tuple of tuple of Share
        What each core with work makes of every command, whatever its passes.
    passes : tuple of tuple of 2 int
        Of each pass the first input channel, a multiple of 8, and the one after the last.
    """

    partition: Partition
    depth: int
    commands: tuple[tuple[Share, ...], ...]
    passes: tuple[tuple[int, int], ...]

    def layers(self) -> Iterator[tuple[tuple[Share, ...], tuple[int, int]]]:
        """The LAYER instructions in order: a command's shares, and the input channels of a pass."""
        return product(self.commands, self.passes)

    @property
    def parts(self) -> list[Part]:
        """Who makes which rows; every command makes the same ones in the same cores."""
        return [share.part for share in self.commands[0]]


def expand_step(step: Step, partition: Partition, config: AcceleratorConfig) -> Expansion:
    """What every core makes of every command of a step."""
    channels, depth = step.result.output.shape[2], step.source.shape[2]
    words = divide(0, config.padded_channels(channels) // WORD_CHANNELS, partition.commands)
    bands = bands_of(step, partition.bands)
    walks = {}
    for rows in bands:
        kernel, walk_rows = step.kernel.walk(rows, partition.column_major)
        top = 0 if kernel.global_pool else step.kernel.reads(*rows)[0]
        walks[rows] = top, kernel, walk_rows, blocks_of(kernel, walk_rows, partition.merged)
    commands = tuple(
        tuple(
            Share(part, part.channels(channels), *walks[part.rows]) for part in parts_of(bands, some, partition.groups)
        )
        for some in words
    )
    deep = divide(0, -(-depth // WORD_CHANNELS), partition.passes)
    passes = tuple((first * WORD_CHANNELS, min(last * WORD_CHANNELS, depth)) for first, last in deep)
    return Expansion(partition, depth, commands, passes)
