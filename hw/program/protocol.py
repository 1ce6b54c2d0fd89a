"""The host stream: commands in, replies out, and the memories that they name. Bits are laid out only here.

The accelerator waits for the rest of a command's payload, and for its replies to be taken, as long as that takes. A
host that can't go on resets it (over a serial line by a break). All else ends by itself: a run by its program's
timeout.

Words are 32 bits; a longer layout occupies consecutive words, least significant first (:mod:`hw.program.bits`). What a
program's words mean is said in :mod:`hw.program.isa`.
"""

from hw.config import AcceleratorConfig
from hw.program.bits import FieldEnum, Layout, signed

__all__ = [
    "PROTOCOL_VERSION",
    "CommandHeader",
    "Commit",
    "ErrorCode",
    "HostCommand",
    "Identity",
    "LayerRecord",
    "Memory",
    "PairWord",
    "Place",
    "ReadRange",
    "Reply",
    "ReplyHeader",
    "RunError",
    "RunFlags",
    "RunOptions",
    "RunResult",
    "ScaleWords",
    "memory_depths",
]

#: Version of the host protocol and of the instruction formats, as INFO reports it.
PROTOCOL_VERSION = 10


class HostCommand(FieldEnum, bits=8):
    """What a host may ask; every command is a header word and as many payload words as the header says."""

    INFO = 1  #: reply INFO
    BEGIN = 2  #: forget the program, start a new checksum
    WRITE = 3  #: argument = memory; payload = Place, words
    COMMIT = 4  #: argument = number of the last program; payload = Commit; reply READY
    RUN = 5  #: argument = RunFlags; payload = RunOptions, the image; reply RESULT
    READ = 6  #: argument = memory; payload = ReadRange; reply DATA
    RESUME = 7  #: go on after a layer, in a stepped run


class RunFlags(Layout):
    """Argument of RUN.

    A RUN of the program that runs already is taken while that runs, and begins when that has ended; its image is
    written as soon as the place is free (:class:`Header`). One run can wait so; the stream holds the next one back.
    During a stepped run none is taken.
    """

    report: 1  # send LAYER after every layer
    step: 1  # after every LAYER sent, wait for RESUME; without ``report`` none is sent, and the run goes on to its end
    constant: 1  # constant time: keep the decision of the first exit that would be taken, go on to the end, hold the
    #: result until the deadline
    program: 5  # number of the program


class RunOptions(Layout):
    """First payload words of RUN.

    A run is audited if its draw (:data:`hw.network.exits.AUDIT_STEPS`) is below ``audit``: it goes on past the first
    exit that it would take, and ends at the next one that the deadline forces or at the last. A run in constant time
    goes on to the last, too, but reports the exit passed.

    In constant time the deadline forces nobody out: it is the cycles that every run takes. If no run can take more
    (:func:`sim.worst_case`), neither the result nor its time tells how long the layers took. Layer records and pauses
    do, and so does a RUN sent before the result of the one at work: its image is taken when a layer of that has ended.
    """

    deadline: 32  # at a BRANCH that begins when more cycles of the run have passed, leave at any margin; 0: never.
    #: In constant time: the result comes when so many cycles have passed, or all layers have run, if that is later.
    seed: 16  # decides whether this one is audited; of 256 consecutive ones from a multiple of 256, ``audit`` are
    tag: 16  # whatever the host likes; what is said of this run carries it
    audit: 9  # runs of 256 that are audited
    reserved: 23


class CommandHeader(Layout):
    """First word of a command."""

    command: HostCommand
    argument: 8  # as the HostCommand says
    length: 16  # payload words


class Memory(FieldEnum, bits=8):
    """Memories a host can name. Lists are LISTS + number of the PE in its core."""

    PROGRAM = 0  #: headers, instructions and chunk tables of all programs
    BIAS = 1  #: a word a channel
    SCALE = 2  #: ScaleWords of each channel; with the second word, both are written
    ACTIVATIONS_0 = 4  #: the first bank, read only; a PairWord each
    ACTIVATIONS_1 = 5  #: the second bank, as the first
    LOGITS = 6  #: read only; those of the last head
    LAYERS = 7  #: layer memory of a core: of each program the Window of an image, descriptions and tables
    LISTS = 16  #: pointers and entries, 18 bits a word; this number is PE 0's, the next one PE 1's


class Place(Layout):
    """First payload word of WRITE and READ."""

    address: 16  # of the first word
    reserved: 8
    core: 8  # 0 for memories that exist once


class ReadRange(Layout):
    """Payload of READ."""

    place: Place  # of the first one
    count: 32  # words


class Commit(Layout):
    """Payload of COMMIT."""

    checksum: 32  # CRC-32 of all payload words of all WRITEs since BEGIN
    digest: 32  # of the config that the programs are for


class ScaleWords(Layout):
    """The factor of a channel's accumulators, as the memory SCALE takes it: :class:`hw.program.isa.FixedPoint`."""

    multiplier: 32  # 31 bits of it count
    shift: 32  # 5 bits of it


class PairWord(Layout):
    """Two neighbouring activations ``q - zero_point`` of a bank, as a host reads them."""

    first: signed(16)  # that of the even channel
    second: signed(16)  # that of the odd one


class Identity(Layout):
    """Payload of the reply INFO."""

    version: 32  # PROTOCOL_VERSION
    digest: 32  # of the accelerator's config


class Reply(FieldEnum, bits=8):
    """What the accelerator says; every reply is a header word and as many payload words as the header says."""

    INFO = 1  #: payload = Identity
    READY = 2  #: the programs are accepted; no payload
    LAYER = 3  #: payload = LayerRecord
    RESULT = 4  #: payload = RunResult
    DATA = 5  #: payload = the words read
    ERROR = 6  #: code = ErrorCode; payload = detail


class ErrorCode(FieldEnum, bits=8):
    """Why a command was refused; nothing has changed then, unless said otherwise."""

    NONE = 0  #: no error
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
    TIMEOUT = 12  #: the program's timeout has passed, in the run or before it, while lists that the run before asked
    #: for were on their way; the run is given up; detail = RunError
    ABANDONED = 13  #: the run before was given up when the image of this one was on its way; detail = RunError
    BAD_HEADER = 14  #: RUN of a program whose Header asks for an image that no RUN can bring; detail = header


class RunError(Layout):
    """Where a run was given up."""

    address: 16  # in the program memory; 0 if the run hadn't begun
    tag: 16  # of its RunOptions


class ReplyHeader(Layout):
    """First word of a reply."""

    reply: Reply
    code: ErrorCode  # of an ERROR, else NONE
    length: 16  # payload words


class LayerRecord(Layout):
    """Counters of one layer."""

    index: 16  # number of the layer
    tag: 16  # of the run's RunOptions
    cycles: 32  # of the layer, those in which it waited for its lists included
    products: 32  # products of nonzero weights and nonzero activations
    stalls: 32  # cycles the dispatchers waited for a full PE queue, over all cores
    waited: 32  # those of the cycles that the layer waited for its lists


class RunResult(Layout):
    """Outcome of a run."""

    label: 12  # class
    exit: 8  # number of the exit taken
    early_label: 12  # class found by the exit that the run went on past; 0 if none
    margin: 32  # between the two largest logits
    cycles: 32  # of the whole run, without host traffic; in constant time, what it was held for included
    out_of_range: 1  # the margin is not within those of the exit's Decision
    forced: 1  # the run ended where it did only because the deadline had passed
    passed: 1  # it went on past an exit, audited or in constant time
    differs: 1  # and the head where it ended found another class than that exit
    overrun: 1  # in constant time: it took more cycles than the deadline
    reserved: 3
    early_exit: 8  # number of the exit that the run went on past; 0 if none
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
