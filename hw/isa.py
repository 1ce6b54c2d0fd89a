"""Every word that crosses an interface: program memory, list memory, host stream. Bits are laid out only here.

The RTL uses these layouts as hardware; compiler, simulator and driver pack and unpack them with :mod:`hw.words`. Words
of the program memory and of the host stream are 32 bits; a longer layout occupies consecutive words, least significant
first.
"""

from amaranth.lib import data, enum

from hw.config import AcceleratorConfig
from hw.isa_select import MAX_MASKS, Selection, SelectKind, SelectUse

__all__ = [
    "AUDIT_STEPS",
    "AUDIT_TAPS",
    "MAX_CHUNKS",
    "MAX_CLASSES",
    "MAX_MASKS",
    "NEVER",
    "NUMBERS",
    "PROTOCOL_VERSION",
    "SEGMENT_ROWS",
    "Burst",
    "Chunk",
    "Column",
    "CommandHeader",
    "Decision",
    "Entry",
    "ErrorCode",
    "Header",
    "HostCommand",
    "Layer",
    "LayerRecord",
    "Memory",
    "Opcode",
    "Operation",
    "Place",
    "Reply",
    "ReplyHeader",
    "Result",
    "Row",
    "RunError",
    "RunFlags",
    "RunOptions",
    "Segment",
    "SelectKind",
    "SelectUse",
    "Selection",
    "Source",
    "Target",
    "Window",
    "memory_depths",
    "pointer_layout",
]

#: Version of the host protocol and of the instruction formats, as INFO reports it.
PROTOCOL_VERSION = 6
#: A run's draw: the low 8 bits of a 16-bit Galois shift register (to the right, taps ``AUDIT_TAPS``) so many steps
#: after its seed. They are enough that of 256 consecutive seeds from a multiple of 256 each draw comes once.
AUDIT_STEPS = 24
AUDIT_TAPS = 0xB400
#: Logits that the exit unit keeps.
MAX_CLASSES = 64
#: Words of a map that can have a number.
NUMBERS = 1 << 16
#: Chunks that a program can have, and rows of list words that a segment of one can have.
MAX_CHUNKS = 255
SEGMENT_ROWS = 255
#: In a Header, for ``image_free``: more LAYERs than a program has.
NEVER = 511


class Opcode(enum.Enum, shape=4):
    """Instructions of the sequencer. 0 is no instruction: an empty memory does not run."""

    LAYER = 1  #: run the layer whose description follows
    BRANCH = 2  #: leave through this exit if the head's margin is at least the threshold of the Decision that follows
    STOP = 3  #: leave through this exit, whose Decision follows
    SELECT = 4  #: choose which activations of its input the layer that follows multiplies


class Operation(data.Struct):
    """First word of an instruction."""

    op: Opcode
    index: 8  # number of the layer, of a SELECT the one that follows, or of the exit
    target: 12  # LAYER, SELECT: address of the description in every core's layer memory; else 0
    chunks: 8  # LAYER: chunks of lists that must have been written before it starts, from the run's first on; else 0


class Decision(data.Struct):
    """What follows the first word of BRANCH and STOP: unsigned margins."""

    threshold: 32  # 0 in a STOP, which does not ask
    low: 32  # a margin below this one or above the next is out of range
    high: 32


class Window(data.Struct):
    """Which words of a map a core keeps, and where: word ``index`` of the map at ``base + index - low``."""

    bank: 1
    base: 12
    low: 16  # first word of the map that is kept
    count: 13  # words that are kept


class Target(data.Struct):
    """Which words of a map a core makes: position after position in the order of its walk, the channels together.

    Words of a map are numbered row by row, position by position, eight channels each.
    """

    first: 16  # number of the first word
    row_pitch: 12  # words of the map from the first position of a row of the walk to that of the next
    column_pitch: 12  # words of the map from one position to the next
    columns: 8  # positions made in a row of the walk
    words: 8  # words made at each position
    zero_point: 8  # code of the real zero, two's complement
    everywhere: 1  # words go to all cores; else only to this core and the ones before and after it


class Source(data.Struct):
    """How the dispatcher walks a map: rows of positions, words of each position. Addresses and pitches are in words.

    The rows of a walk may be columns of the map: outputs near the edges of a narrow band become final sooner then.
    """

    bank: 1
    base: 12
    row_pitch: 12
    column_pitch: 12
    words: 8  # words of a position
    rows: 8  # table entries
    blank_rows: 4  # so many of them, the last ones, are of rows below the map: nothing is read
    columns: 8
    row_table: 12  # layer memory address of the first Row
    column_table: 12  # layer memory address of the first Column
    first_list: 13  # number of the list that rows and columns count from
    first_dump: 10  # first accumulator that is taken out
    list_step: 12  # from a kernel row's lists to those of the next that meets the same input row
    accumulator_step: 10  # accumulators of one output row
    slots: 10  # accumulators of one output position
    threshold: 8  # at least 1: activations of a smaller magnitude count as zero
    maximum: 1  # accumulators keep the largest product instead of the sum
    partial: 1  # some stay filled for the next LAYER; what is taken out here goes nowhere
    select: SelectUse
    first_mask: 6  # CHANNELS: number of the first word's mask


class Row(data.Struct):
    """What one input row contributes to."""

    list: 12  # first list of the first kernel row that meets it, counted from the layer's first
    accumulator: 10  # first accumulator of the output row that this kernel row feeds
    count: 4  # lists for each of its activations, one per kernel row; each further one feeds the output row before
    final: 1  # it completes an output row


class Column(data.Struct):
    """Which lists one input column uses and where its products start."""

    list: 12  # added to the row's
    accumulator: 10  # added to the row's
    dumps: 4  # output positions that it completes in a row that completes an output row


class Lane(data.Struct):
    """How accumulators become activations."""

    outputs: 20  # accumulators of the whole layer in this core
    channel_base: 9  # first entries in the channel memories, eight channels each
    channels: 12  # accumulators of one position, a multiple of 8
    raw: 1  # deliver accumulators to the exit unit instead
    classes: 8  # raw: how many of them are logits
    slow: 1  # take accumulators in every second cycle only; always so with a residual
    double: 1  # double rounding
    offset: 8  # added after scaling, two's complement
    clamp_low: 8
    clamp_high: 8


class Residual(data.Struct):
    """The second operand of a fused ADD, and its scales."""

    enable: 1
    bank: 1
    base: 12  # word of the first position's first channel; the others lie as those of the Target
    zero_point: 8  # of the convolution's own output
    first_multiplier: 31
    first_shift: 5
    second_multiplier: 31
    second_shift: 5
    output_multiplier: 31
    output_shift: 5
    offset: 8  # zero point of the sum
    clamp_low: 8
    clamp_high: 8


class Layer(data.Struct):
    """Description of a layer in a core's layer memory."""

    enable: 1  # this core takes part; if not, only the window matters
    source: Source
    lane: Lane
    residual: Residual
    target: Target
    window: Window


class Header(data.Struct):
    """What the program memory begins with: the Header of each program, program after program."""

    entry: 12  # address of the first instruction
    image_window: 12  # layer memory address of the Window of an image, the same in every core
    image_free: 9  # from the end of the LAYER of this number, less 1, the next image may be written; NEVER: of the run
    image_words: 16  # 32-bit words of an image, four codes each
    image_bytes: 18  # codes of an image
    image_channels: 12  # codes of a position
    image_zero_point: 8
    limit: 32  # cycles after which a run is given up
    chunk_table: 12  # address of the first Chunk
    chunks: 8  # entries of that table


class Chunk(data.Struct):
    """Lists that are read from external memory during every run: an entry of a table in the program memory."""

    address: 32  # of its first beat
    beats: 24
    after: 8  # LAYERs of the run that must have ended before it is asked for: they use the memory that it is written to


class Burst(data.Struct):
    """A request for consecutive beats of external memory."""

    address: 32  # of the first one, counted in beats
    beats: 24  # at least 1


class Segment(data.Struct):
    """First beat of each part of a chunk, its low 32 bits; the others are 0. Its rows follow.

    A row is one list word for each PE, the one of PE 0 lowest, in as many beats as that takes, least significant first.
    """

    cores: 8  # that take the rows, one bit each
    rows: 8  # at least 1
    address: 13  # of the first row, in the list memory of every PE; the following rows follow
    last: 1  # nothing of the chunk follows this segment
    reserved: 2


class Entry(data.Struct):
    """A nonzero weight in a list."""

    weight: 8  # two's complement
    offset: 10  # added to the job's accumulator


def pointer_layout(config: AcceleratorConfig) -> data.StructLayout:
    """The word of a list memory that says where a list lies: its first entry's address and its length."""
    return data.StructLayout({"start": config.start_bits, "count": config.count_bits})


class HostCommand(enum.Enum, shape=8):
    """What a host may ask; every command is a header word and as many payload words as the header says."""

    INFO = 1  #: reply INFO
    BEGIN = 2  #: forget the program, start a new checksum
    WRITE = 3  #: argument = memory; payload = Place, words
    COMMIT = 4  #: argument = number of the last program; payload = CRC-32 of all payload words of all WRITEs since
    #: BEGIN, config digest; reply READY
    RUN = 5  #: argument = RunFlags; payload = RunOptions, the image; reply RESULT
    READ = 6  #: argument = memory; payload = Place, word count; reply DATA
    RESUME = 7  #: go on after a layer, in a stepped run


class RunFlags(data.Struct):
    """Argument of RUN.

    A RUN of the program that runs already is taken while that runs, and begins when that has ended; its image is
    written as soon as the place is free (:class:`Header`). One run can wait so; the stream holds the next one back.
    During a stepped run none is taken.
    """

    report: 1  # send LAYER after every layer
    step: 1  # after every layer, wait for RESUME
    constant: 1  # constant time: keep the decision of the first exit that would be taken, and go on to the end
    program: 5  # number of the program


class RunOptions(data.Struct):
    """First payload words of RUN.

    A run is audited if its draw (:data:`AUDIT_STEPS`) is below ``audit``: it goes on past the first exit that it would
    take, and ends at the next one that the deadline forces or at the last. A run in constant time goes on, too, but
    reports the exit passed. The deadline ends any run.
    """

    deadline: 32  # at a BRANCH that begins when more cycles of the run have passed, leave whatever the margin; 0: never
    seed: 16  # decides whether this one is audited; of 256 consecutive ones from a multiple of 256, ``audit`` are
    tag: 16  # whatever the host likes; what is said of this run carries it
    audit: 9  # runs of 256 that are audited
    reserved: 23


class CommandHeader(data.Struct):
    command: HostCommand
    argument: 8
    length: 16  # payload words


class Memory(enum.Enum, shape=8):
    """Memories a host can name. Lists are LISTS + number of the PE in its core."""

    PROGRAM = 0
    BIAS = 1
    SCALE = 2  #: two words a channel, the multiplier and the shift; with the second, both are written
    ACTIVATIONS_0 = 4  #: read only; two activations ``q - zero_point`` a word, sign-extended to 16 bits
    ACTIVATIONS_1 = 5
    LOGITS = 6  #: read only; those of the last head
    LAYERS = 7  #: layer memory of a core: of each program the Window of an image, descriptions and tables
    LISTS = 16


class Place(data.Struct):
    """First payload word of WRITE and READ."""

    address: 16
    reserved: 8
    core: 8  # 0 for memories that exist once


class Reply(enum.Enum, shape=8):
    """What the accelerator says; every reply is a header word and as many payload words as the header says."""

    INFO = 1  #: payload = protocol version, config digest
    READY = 2
    LAYER = 3  #: payload = LayerRecord
    RESULT = 4  #: payload = Result
    DATA = 5  #: payload = the words read
    ERROR = 6  #: code = ErrorCode; payload = detail


class ErrorCode(enum.Enum, shape=8):
    """Why a command was refused; nothing has changed then, unless said otherwise."""

    NONE = 0
    BAD_COMMAND = 1  #: unknown command; detail = header
    BAD_LENGTH = 2  #: wrong number of payload words; detail = header
    BAD_MEMORY = 3  #: no such memory, or not writable; detail = header
    BAD_ADDRESS = 4  #: beyond the end of the memory, or no such core; detail = Place, in the checksum if of a WRITE
    NOT_LOADING = 5  #: WRITE or COMMIT without BEGIN; detail = header
    BAD_CHECKSUM = 6  #: COMMIT with another checksum; the program is not accepted; detail = checksum found
    WRONG_CONFIG = 7  #: COMMIT for another config; the program is not accepted; detail = digest of this one
    NO_PROGRAM = 8  #: RUN of a program that was not accepted; detail = header
    NOT_STEPPING = 9  #: RESUME outside a stepped run; detail = header
    RUNNING = 10  #: in a stepped run only READ and RESUME are served; detail = header
    BAD_INSTRUCTION = 11  #: the program holds no instruction here; the run is given up; detail = RunError
    TIMEOUT = 12  #: the program's cycle limit has passed; the run is given up; detail = RunError
    ABANDONED = 13  #: the run before was given up when the image of this one was on its way; detail = RunError


class RunError(data.Struct):
    """Where a run was given up."""

    address: 16  # in the program memory; 0 if the run hadn't begun
    tag: 16  # of its RunOptions


class ReplyHeader(data.Struct):
    reply: Reply
    code: ErrorCode
    length: 16


class LayerRecord(data.Struct):
    """Counters of one layer."""

    index: 16  # number of the layer
    tag: 16  # of the run's RunOptions
    cycles: 32
    products: 32  # products of nonzero weights and nonzero activations
    stalls: 32  # cycles the dispatchers waited for a full PE queue, over all cores
    waited: 32  # those of the cycles that the layer waited for its lists


class Result(data.Struct):
    """Outcome of a run."""

    label: 8  # class
    exit: 8  # number of the exit taken
    early_label: 8  # class and number of the exit that the run went on past; 0 if none
    early_exit: 8
    margin: 32  # between the two largest logits
    cycles: 32  # of the whole run, without host traffic
    out_of_range: 1  # the margin is not within those of the exit's Decision
    forced: 1  # the run ended where it did only because the deadline had passed
    passed: 1  # it went on past an exit, audited or in constant time
    differs: 1  # and the head where it ended found another class than that exit
    reserved: 12
    tag: 16  # of the run's RunOptions


def memory_depths(config: AcceleratorConfig) -> dict[int, int]:
    """Words of every memory that a host can write, by number; all but PROGRAM exist in every core."""
    lists = {Memory.LISTS.value + pe: config.list_words for pe in range(config.pes)}
    return {
        Memory.PROGRAM.value: config.program_words,
        Memory.BIAS.value: config.channel_words,
        Memory.SCALE.value: 2 * config.channel_words,
        Memory.LAYERS.value: config.layer_words,
    } | lists
