"""Every word of a program: of program, layer and list memories, and of a request to external memory.

Bits are laid out only here; those of the host stream in :mod:`hw.program.protocol`. The RTL has these layouts from
:mod:`hw.rtl.structs`; compiler, simulator and driver pack and unpack them with :mod:`hw.program.bits`. Words of the
program memory are 32 bits; a longer layout occupies consecutive words, least significant first.
"""

from functools import cache

from hw.config import AcceleratorConfig
from hw.program.bits import FieldEnum, Layout, signed
from hw.program.isa_select import MAX_MASKS, Selection, SelectKind, SelectUse

__all__ = [
    "MARKS",
    "MAX_CHUNKS",
    "MAX_LIST_ROWS",
    "MAX_MASKS",
    "NEVER",
    "NUMBERS",
    "PARTS",
    "Burst",
    "Chunk",
    "Column",
    "Decision",
    "Entry",
    "FixedPoint",
    "Header",
    "LayerDescription",
    "Opcode",
    "Operation",
    "Row",
    "Segment",
    "SelectKind",
    "SelectUse",
    "Selection",
    "Source",
    "SplitEntry",
    "Target",
    "Window",
    "cuts_layout",
    "entry_layout",
    "pointer_layout",
]

#: Words of a map that can have a number.
NUMBERS = 1 << 16
#: Chunks that a program can have, and rows of list words that a segment of one can have.
MAX_CHUNKS = 255
MAX_LIST_ROWS = 255
#: Parts that a split list has, and marks that its entries can have.
PARTS, MARKS = 3, 2
#: In a Header, for ``image_free``: more LAYERs than a program has.
NEVER = 511


class Opcode(FieldEnum, bits=4):
    """Instructions of the sequencer. 0 is no instruction: an empty memory does not run."""

    LAYER = 1  #: run the layer whose description is at ``target``
    BRANCH = 2  #: leave through this exit if the head's margin is at least the threshold of the Decision that follows
    STOP = 3  #: leave through this exit, whose Decision follows
    SELECT = 4  #: choose which activations of its input the layer that follows multiplies


class Operation(Layout):
    """First word of an instruction."""

    op: Opcode
    index: 8  # number of the layer, of a SELECT the one that follows, or of the exit
    target: 12  # LAYER, SELECT: address of the description in every core's layer memory; else 0
    chunks: 8  # LAYER: chunks of lists that must have been written before it starts, from the run's first on; else 0


class Decision(Layout):
    """What follows the first word of BRANCH and STOP: unsigned margins."""

    threshold: 32  # 0 in a STOP, which does not ask
    low: 32  # a smaller margin is out of range
    high: 32  # a larger margin is out of range


class Window(Layout):
    """Which words of a map a core keeps, and where: word ``index`` of the map at ``base + index - low``."""

    bank: 1  # that keeps them
    base: 12  # address of the first word that is kept
    low: 16  # first word of the map that is kept
    count: 13  # words that are kept


class Target(Layout):
    """Which words of a map a core makes: position after position in the order of its walk, the channels together.

    Words of a map are numbered row by row, position by position, eight channels each.
    """

    first: 16  # number of the first word
    row_pitch: 12  # words of the map from the first position of a row of the walk to that of the next
    column_pitch: 12  # words of the map from one position to the next
    columns: 8  # positions made in a row of the walk
    words: 8  # words made at each position
    zero_point: signed(8)  # code that is stored as 0
    everywhere: 1  # words go to all cores; else only to this core and the ones before and after it


class Source(Layout):
    """How the dispatcher walks a map: rows of positions, words of each position. Addresses and pitches are in words.

    The rows of a walk may be columns of the map: outputs near the edges of a narrow band become final sooner then.
    """

    bank: 1  # that holds the map
    base: 12  # address of the first word
    row_pitch: 12  # from the first position of a row to that of the next
    column_pitch: 12  # from one position of a row to the next
    words: 8  # words of a position
    rows: 8  # entries of the row table
    blank_rows: 4  # so many of them, the last ones, are of rows below the map: nothing is read
    columns: 8  # positions of a row, entries of the column table
    row_table: 12  # layer memory address of the first Row
    column_table: 12  # layer memory address of the first Column
    first_list: 13  # address of the pointer that lists of rows and columns are counted from; of split lists half of it
    first_dump: 10  # first accumulator that is taken out
    list_step: 12  # from a kernel row's lists to those of the next that meets the same input row
    accumulator_step: 10  # accumulators of one output row
    dump_length: 10  # accumulators of one output position
    threshold: 8  # at least 1: activations of a smaller magnitude count as zero
    max_pool: 1  # accumulators keep the largest product instead of the sum
    partial: 1  # some stay filled for the next LAYER; what is taken out here goes nowhere
    depthwise: 1  # channel c feeds PE c % pes only: lists, and activations handed out, are of one channel for each PE
    select: SelectUse  # which activations a selection leaves
    first_mask: 6  # CHANNELS: number of the first word's mask


class Row(Layout):
    """What one input row contributes to."""

    list: 12  # first list of the first kernel row that meets it, counted from the layer's first
    accumulator: 10  # first accumulator of the output row that this kernel row feeds
    count: 4  # lists for each of its activations, one per kernel row; each further one feeds the output row before
    final: 1  # it completes an output row
    parts: PARTS  # of split lists: one bit for each part that the row meets, all neighbours; 0: lists aren't split
    skip: MARKS  # of split lists: entries with one of these marks have no product


class Column(Layout):
    """Which lists one input column uses and where its products start."""

    list: 12  # added to the row's
    accumulator: 10  # added to the row's
    dumps: 4  # output positions that it completes in a row that completes an output row
    parts: PARTS  # as the row's: those of both are multiplied
    skip: MARKS  # as the row's: marks of either are skipped


class LaneDescription(Layout):
    """How accumulators become activations."""

    outputs: 20  # accumulators of the whole layer in this core
    channel_base: 9  # first entries in the channel memories, eight channels each
    channels: 12  # accumulators of one position, a multiple of 8
    raw: 1  # deliver accumulators to the exit unit instead
    classes: 12  # raw: how many of them are logits
    slow: 1  # take accumulators in every second cycle only
    double: 1  # double rounding
    offset: signed(8)  # added after scaling
    clamp_low: signed(8)  # least code of the output
    clamp_high: signed(8)  # largest code of the output


class FixedPoint(Layout):
    """A factor below 1: multiplier / 2**(31 + shift)."""

    multiplier: 31  # its fraction, 31 bits behind the point
    shift: 5  # further bits to the right


class Residual(Layout):
    """The second operand of a fused ADD, and its scales."""

    enable: 1  # there is such an operand
    bank: 1  # that holds it
    base: 12  # word of the first position's first channel; the others lie as those of the Target
    zero_point: signed(8)  # of the convolution's own output
    first: FixedPoint  # 2**20 times this is the factor of the convolution's own output
    second: FixedPoint  # of the operand, likewise
    output: FixedPoint  # the factor of the sum
    offset: signed(8)  # zero point of the sum
    clamp_low: signed(8)  # least code of the sum
    clamp_high: signed(8)  # largest code of the sum


class LayerDescription(Layout):
    """Description of a layer in a core's layer memory."""

    enable: 1  # this core takes part; if not, only the window matters
    source: Source
    lane: LaneDescription
    residual: Residual
    target: Target
    window: Window


class Header(Layout):
    """What the program memory begins with: the Header of each program, program after program.

    RUN is refused (BAD_HEADER) unless the words of an image are as many as its codes take, at least one, and have room
    in a payload behind the options, and a position has a channel. That positions are whole is left to
    :mod:`hw.program.check`.
    """

    entry: 12  # address of the first instruction
    image_window: 12  # layer memory address of the Window of an image, the same in every core
    image_free: 9  # from the end of the LAYER of this number, less 1, the next image may be written; NEVER: of the run
    image_words: 16  # 32-bit words of an image, four codes each
    image_bytes: 18  # codes of an image
    image_channels: 12  # codes of a position: channels, of as many columns as lie side by side
    image_zero_point: signed(8)  # code of an image that is stored as 0
    timeout: 31  # cycles after which a run is given up; less than the counter can count, so it always comes
    reserved: 1
    chunk_table: 12  # address of the first Chunk
    chunks: 8  # entries of that table


class Chunk(Layout):
    """Lists that are read from external memory during every run: an entry of a table in the program memory."""

    address: 32  # of its first beat
    beats: 24  # of the whole chunk
    after: 8  # LAYERs of the run that must have ended before it is asked for: they use the memory that it is written to


class Burst(Layout):
    """A request for consecutive beats of external memory."""

    address: 32  # of the first one, counted in beats
    beats: 24  # at least 1


class Segment(Layout):
    """First beat of each segment of a chunk, its low 32 bits; the others are 0. Its rows follow.

    A row is one list word for each PE, the one of PE 0 lowest, in as many beats as that takes, least significant first.
    """

    cores: 8  # that take the list rows, one bit each
    list_rows: 8  # at least 1
    address: 13  # of the first list row, in the list memory of every PE; the others follow
    last: 1  # nothing of the chunk follows this segment
    reserved: 2


class Entry(Layout):
    """A nonzero weight in a list."""

    weight: signed(8)  # its code
    offset: 10  # added to the job's accumulator


class SplitEntry(Layout):
    """A nonzero weight in a split list."""

    weight: signed(8)  # its code
    offset: 8  # added to the job's accumulator
    marks: MARKS  # one bit each: positions at an edge of the map skip the entry if it has one of theirs


def entry_layout(config: AcceleratorConfig) -> type[Layout]:
    """What the entries of a config's lists are."""
    return SplitEntry if config.split_lists else Entry


@cache
def cuts_layout(config: AcceleratorConfig) -> type[Layout]:
    """The word behind a split list's pointer, which stands at an even address.

    Read as a pointer, this word is that of an empty list: the bits of a length are 0.
    """
    bits = config.start_bits // 2

    class Cuts(Layout):
        first: bits  # entries of the first part
        second: bits  # entries of the first two parts

    return Cuts


@cache
def pointer_layout(config: AcceleratorConfig) -> type[Layout]:
    """The word of a list memory that says where a list lies: its first entry's address and its length."""

    class Pointer(Layout):
        start: config.start_bits  # address of the first entry
        count: config.count_bits  # entries

    return Pointer
