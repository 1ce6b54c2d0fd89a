"""What units say to each other: records, and signatures of wires that travel together.

A signature is seen from the unit that leads, which has it as ``Out``; the other one has it as ``In``, and ``connect``
wires them. What is said of a member holds on both sides. Streams carry records; a stream that is *always ready* has no
back-pressure.
"""

from amaranth import signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import LIST_WORD_BITS, WORD_CHANNELS, AcceleratorConfig
from hw.program.bits import bits_of, words_of
from hw.program.isa import MAX_CLASSES
from hw.rtl.structs import ErrorCode, LaneDescription, LayerRecord, Reply, Residual, RunFlags, RunResult, Target

__all__ = [
    "PAIR",
    "PLACE",
    "TALLY_BITS",
    "ChannelParameters",
    "CoreState",
    "HeadLogits",
    "HeadResult",
    "HostControl",
    "ImageWords",
    "JobPort",
    "LaneControl",
    "ListLoading",
    "LoadWord",
    "LogitRead",
    "Order",
    "OrderKind",
    "PairRead",
    "PointerLookup",
    "ReplyRecord",
    "RunControl",
    "ScanControl",
    "WordWrite",
    "job_layout",
    "list_row",
    "offer_record",
]

#: Two neighbouring activations, as a host reads them.
PAIR = data.ArrayLayout(signed(9), 2)
#: Bits of a scanner's accumulator: magnitudes of a channel over all positions of a bank.
TALLY_BITS = 20
#: Where an activation lies: number of its word in the map, and channel in the word.
PLACE = data.StructLayout({"word": 16, "channel": range(WORD_CHANNELS)})
#: Payload words of the longest record.
_RECORD_WORDS = max(words_of(LayerRecord), words_of(RunResult))


class WordWrite(data.Struct):
    """A word of a map, by its number in the map."""

    index: 16
    values: data.ArrayLayout(signed(9), WORD_CHANNELS)


class LoadWord(data.Struct):
    """A word for one of the memories that a program fills."""

    core: 8
    memory: 8
    address: 16
    data: 32


class ChannelParameters(data.Struct):
    """What the channel memories hold of a channel: bias and scale of its accumulators."""

    bias: signed(32)
    multiplier: 31
    shift: 5


class OrderKind(enum.Enum, shape=3):
    """What the cores shall do, all at the same time."""

    NONE = 0
    COUNT = 1  #: count the magnitudes that begin with the prefix, by their next digit ``index``
    SUM = 2  #: add the magnitudes of channel word ``value`` up
    FIND = 3  #: find activation ``value``, from 1, of those whose magnitude is the prefix, in the core called for
    LIMIT = 4  #: the last tie that wins is in word ``value`` of the map, channel ``index``; the prefix is its magnitude
    MASK = 5  #: take the low 8 bits of ``value`` for the mask of the channel word in its high ones
    FILL = 6  #: take the masks of the layer memory


class Order(data.Struct):
    """From the selector to all cores."""

    kind: OrderKind
    index: 4  # of the accumulator to tell, too
    value: 16
    prefix: 8


class ReplyRecord(data.Struct):
    """Something to tell the host."""

    reply: Reply
    code: ErrorCode
    length: 4
    payload: 32 * _RECORD_WORDS


def offer_record(target, reply, layout, whole=None, **fields):
    """Assignments that offer a record of a layout: of a ``whole`` one, if that is given, with these fields instead."""
    record = target.payload
    view = data.View(layout, record.payload[: bits_of(layout)])
    return [
        record.reply.eq(reply),
        record.length.eq(words_of(layout)),
        *([] if whole is None else [view.eq(whole)]),
        *(view[name].eq(value) for name, value in fields.items()),
        target.valid.eq(1),
    ]


def job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What the dispatcher tells a PE: an activation for a list, or (``dump``) a finished output position.

    Of split lists, entries with one of the marks ``skip`` have no product.
    """
    skip = {"skip": 2} if config.split_lists else {}
    return data.StructLayout({"dump": 1, "value": signed(9), "accumulator": config.accumulator_address_bits} | skip)


def list_row(config: AcceleratorConfig) -> data.StructLayout:
    """A list word for each PE, for the same address in all cores whose bit is set."""
    words = data.ArrayLayout(LIST_WORD_BITS, config.pes)
    return data.StructLayout({"cores": 8, "address": config.start_bits, "words": words})


class HostControl(wiring.Signature):
    """The host port orders programs and runs of the sequencer.

    Members
    -------
    prepare : Out(1)
        For one cycle, while ``idle``: programs were accepted; the sequencer cleans the cores.
    switch : Out(1)
        For one cycle, while ``idle``: runs are of the program of ``flags`` from now on, whose header the sequencer
        reads; ``flags`` are there a cycle before.
    run : Out(1)
        For one cycle, while ``free``: begin a run, of these ``flags``, when the one at work has ended.
    flags : Out(RunFlags)
        Of the RUN at hand; in other commands, anything.
    resume : Out(1)
        For one cycle, while ``paused``: go on.
    run_words : In(16), servable : In(1)
        Payload words of a RUN of the program switched to; whether its :class:`hw.program.isa.Header` allows one at all.
        There when the sequencer is idle again.
    idle, free, paused : In(1)
        Nothing runs or waits; no run waits; a stepped run awaits ``resume``. Low from the cycle after
        the order that it is for.
    stepping : In(1)
        A stepped run is at work or waits.
    """

    def __init__(self):
        orders = {"prepare": Out(1), "switch": Out(1), "run": Out(1), "flags": Out(RunFlags), "resume": Out(1)}
        program = {"run_words": In(16), "servable": In(1)}
        super().__init__(orders | program | {name: In(1) for name in ("idle", "free", "paused", "stepping")})


class RunControl(wiring.Signature):
    """What the sequencer tells every core, all in the same cycle.

    Members
    -------
    reset : Out(1)
        Stop everything and clear the accumulators; memories keep their contents.
    fetch : Out(1), fetch_address : Out(12), fetch_window : Out(1)
        For one cycle: read the description at this address of the layer memory, or (``fetch_window``) the window of
        images; not before :class:`CoreState` has said ``fetched`` of the one before. A description may be fetched while
        a layer runs.
    take : Out(1)
        For one cycle, while no layer runs: the description that was fetched holds from the next cycle on.
    start : Out(1)
        For one cycle, the one behind ``take`` or a later one: run the layer that was taken.
    take_selection : Out(1)
        As ``take``, of a :class:`hw.program.isa_select.Selection` that was fetched; cores without a selector don't hear
        it.
    """

    def __init__(self):
        fetch = {"fetch": Out(1), "fetch_address": Out(12), "fetch_window": Out(1)}
        layer = {"take": Out(1), "start": Out(1), "take_selection": Out(1)}
        super().__init__({"reset": Out(1, init=1)} | fetch | layer)


class CoreState(wiring.Signature):
    """What every core says of itself, to the sequencer.

    Members
    -------
    clearing : Out(1)
        After a reset, from two cycles after it on: the accumulators aren't clean yet.
    fetched : Out(1)
        For one cycle, as many cycles behind ``fetch`` as :class:`hw.rtl.fetcher.Fetcher` says: in all cores the same
        one.
    done : Out(1)
        Low from the cycle after ``start`` until this core has made its part of the layer and all words of it are in
        the memories. High throughout in a core that takes no part.
    stalled : Out(1)
        The dispatcher waited for a PE in the cycle before.
    products : Out
        Products made in the cycle before.
    """

    def __init__(self, config: AcceleratorConfig):
        states = {"clearing": Out(1), "fetched": Out(1), "done": Out(1)}
        super().__init__(states | {"stalled": Out(1), "products": Out(range(config.pes + 1))})


class ListLoading(wiring.Signature):
    """The sequencer tells the loader how far a run is, and hears how many of its chunks are there.

    Members
    -------
    chunk_table : Out(12), chunks : Out(8)
        Address of the program's chunk table, and how many entries it has; constant while ``active``.
    active : Out(1)
        A run is going on; low for some cycles between runs.
    running : Out(1)
        This cycle of the run counts. In others nothing is asked for or taken: time stands still for the loader, too.
    finished : Out(8)
        LAYERs that have ended in this run.
    written : In(8)
        Chunks that have come in this run: their last row is in the memories :attr:`hw.rtl.loader.Loader.WRITE` cycles
        after their last beat.
    busy : In(1)
        Words are on their way, or will be: a burst is offered. A run begins when there are none.
    """

    def __init__(self):
        program = {"chunk_table": Out(12), "chunks": Out(8)}
        run = {"active": Out(1), "running": Out(1), "finished": Out(8)}
        super().__init__(program | run | {"written": In(8), "busy": In(1)})


class ImageWords(wiring.Signature):
    """The sequencer gives words of an image to the exchange, beside the layer at work.

    Members
    -------
    layer : Out(1)
        A layer runs, and no selection: cores may make words.
    words : Out(stream of WordWrite), always ready
        For all cores. Without ``layer`` one a cycle, with it :attr:`hw.rtl.exchange.Exchange.IMAGE_DISTANCE` cycles
        apart.
    room : In(1)
        Words may come; those that came before find their way. From four cores on there is no room in a layer whose
        words go everywhere, for these may take every cycle.
    """

    def __init__(self):
        words = stream.Signature(WordWrite, always_ready=True)
        super().__init__({"layer": Out(1), "words": Out(words), "room": In(1)})


class PairRead(wiring.Signature):
    """The host port reads activations of a core, while no layer runs.

    Members
    -------
    bank : Out(1), address : Out(14)
        Where the pair is, by its number in the bank; stable until it is there.
    pair : In(PAIR)
        From a core two cycles later; a cycle more behind the choice of the core.
    """

    def __init__(self):
        super().__init__({"bank": Out(1), "address": Out(14), "pair": In(PAIR)})


class LogitRead(wiring.Signature):
    """The host port reads logits of the exit unit.

    Members
    -------
    address : Out
        The logit's class.
    logit : In(signed)
        In the next cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": Out(range(MAX_CLASSES)), "logit": In(signed(config.accumulator_bits))})


class HeadLogits(wiring.Signature):
    """The core that makes the heads gives their logits to the exit unit.

    Members
    -------
    raw : Out(1), classes : Out(8)
        Of the layer: whether it is a head, and how many of its values are logits, at least 2; what follows them is
        ignored. Stable from ``start`` until the layer is done.
    logits : Out(stream of signed accumulators), always ready
        In order of their class.
    """

    def __init__(self, config: AcceleratorConfig):
        logits = stream.Signature(signed(config.accumulator_bits), always_ready=True)
        super().__init__({"raw": Out(1), "classes": Out(8), "logits": Out(logits)})


class HeadResult(wiring.Signature):
    """What the exit unit has found in the last head, for the exit rule in the sequencer.

    Members
    -------
    label : Out(8), margin : Out(32)
        The largest logit's class, the first of equals, and its lead over the next; from the cycle after the last logit
        until the next head's first.
    """

    def __init__(self):
        super().__init__({"label": Out(8), "margin": Out(32)})


class ScanControl(wiring.Signature):
    """The selector has a core's scanner count, sum up and find; all cores get the same order in the same cycle.

    Members
    -------
    order : Out(Order)
        Its kind for one cycle; ``index`` and ``prefix`` also hold while there is none.
    called : Out(1)
        Of a FIND, it's this core.
    tally : In
        The accumulator ``order.index``, two cycles later.
    place : In(PLACE)
        What a FIND has found; 0 in cores that aren't called.
    """

    def __init__(self):
        super().__init__({"order": Out(Order), "called": Out(1), "tally": In(TALLY_BITS), "place": In(PLACE)})


class PointerLookup(wiring.Signature):
    """The dispatcher moves the pointer pipelines of all PEs, three stages long.

    Members
    -------
    number : Out
        Of the list that enters where ``advance`` is high.
    advance : Out(1)
        The first two stages move on. High where ``pushed`` was in the cycle before: it reaches far, and so has that
        cycle to do so.
    pushed : Out(1)
        The last one, the push stage, takes the next list. The list that the second stage gives away while the push
        stage stands still waits between them.
    dump : Out(1)
        What the push stage takes next is a dump, which is a job of all PEs.
    parts : Out(3), odd : Out(1)
        With split lists only, where ``number`` is of a pair of words, of the list that the second stage holds: its
        parts that are multiplied, or 0 and which word of the pair is the list's.
    """

    def __init__(self, config: AcceleratorConfig):
        stages = {"advance": Out(1, init=1), "pushed": Out(1), "dump": Out(1)}
        if config.split_lists:
            super().__init__({"number": Out(config.start_bits - 1), "parts": Out(3), "odd": Out(1)} | stages)
        else:
            super().__init__({"number": Out(config.start_bits)} | stages)


class JobPort(wiring.Signature):
    """The dispatcher gives a PE jobs for the list in its push stage.

    Members
    -------
    hit : In(1)
        That list has entries in this PE, or it is a dump that is there.
    blocked : In(1)
        With ``hit``: the PE's job queue takes no job now.
    push : Out(1), job : Out(job_layout)
        Queue a job; only with ``hit``, and not while ``blocked``. Jobs of the PEs differ in their activations, and that
        in depthwise layers only.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"hit": In(1), "blocked": In(1), "push": Out(1), "job": Out(job_layout(config))})


class LaneControl(wiring.Signature):
    """A core tells its lanes what to make of a layer's accumulators.

    Members
    -------
    fields : Out(LaneDescription), residual : Out(Residual), target : Out(Target)
        The layer, and how its output and the residual operand lie; stable from ``start`` until ``done``. Layers with a
        residual have to be slow, with two lanes raw ones too.
    start : Out(1)
        For one cycle: a layer begins.
    done : In(1)
        For one cycle, when the layer's last value has left.
    """

    def __init__(self):
        layer = {"fields": Out(LaneDescription), "residual": Out(Residual), "target": Out(Target)}
        super().__init__(layer | {"start": Out(1), "done": In(1)})
