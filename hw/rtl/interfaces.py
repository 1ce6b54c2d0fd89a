"""Signatures of wires that travel together between units.

A signature is seen from the unit that leads, which has it as ``Out``; the other one has it as ``In``, and ``connect``
wires them. What is said of a member holds on both sides. Streams carry :mod:`hw.rtl.records`; a stream that is *always
ready* has no back-pressure.
"""

from amaranth import signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.rtl.records import PAIR, PLACE, TALLY_BITS, Order, WordWrite, job_layout
from hw.rtl.structs import Decision, LaneDescription, Residual, RunFlags, RunOptions, RunResult, Target

__all__ = [
    "CoreState",
    "ExitControl",
    "HeadLogits",
    "HeadResult",
    "HostControl",
    "ImageControl",
    "ImageWords",
    "JobPort",
    "LaneControl",
    "ListLoading",
    "LogitRead",
    "PairRead",
    "PointerLookup",
    "ReadPort",
    "RunControl",
    "ScanControl",
    "SelectControl",
    "WinnerLookup",
]


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
        For one cycle, that of ``take`` or a later one: run the layer that is taken.
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


class ImageControl(wiring.Signature):
    """The sequencer has the image loader take the next run, which may come while another one is at work.

    Members
    -------
    bytes : Out(18), channels : Out(12), zero_point : Out(signed 8)
        Of an image, as in :class:`hw.program.isa.Header`; stable from the cycle before ``run`` until ``loaded``.
    run : Out(1), flags : Out(RunFlags)
        A run was accepted; only while ``free``.
    allowed : Out(1)
        The image may be written; once it has begun, until a run begins or ``spoil``.
    spaced : Out(1)
        A run is at work: the image's words come :attr:`hw.rtl.exchange.Exchange.IMAGE_DISTANCE` cycles apart.
    spoil : Out(1)
        Words of the image may be lost.
    take : Out(1)
        The run begins; only while ``loaded``.
    free : In(1)
        No run waits.
    loaded : In(1)
        One does, and its image is complete; until ``take``.
    spoiled : In(1)
        Its words may be lost.
    waiting : In(RunFlags), options : In(RunOptions), drawn : In(1)
        Of the run that waits; it is to be audited.
    """

    def __init__(self):
        image = {"bytes": Out(18), "channels": Out(12), "zero_point": Out(signed(8))}
        orders = {"run": Out(1), "flags": Out(RunFlags)}
        orders |= {name: Out(1) for name in ("allowed", "spaced", "spoil", "take")}
        states = {name: In(1) for name in ("free", "loaded", "spoiled", "drawn")}
        super().__init__(image | orders | states | {"waiting": In(RunFlags), "options": In(RunOptions)})


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


class ReadPort(wiring.Signature):
    """A unit reads a memory that isn't its own.

    Members
    -------
    address : Out(12)
        Of a word.
    data : In
        The word: of a memory's own port in the next cycle, of a bank of activations one cycle later.
    """

    def __init__(self, shape):
        super().__init__({"address": Out(12), "data": In(shape)})


class PairRead(wiring.Signature):
    """The host port reads activations of a core, while no layer runs.

    Members
    -------
    bank : Out(1), address : Out(14)
        Where the pair is, by its number in the bank; stable until it is there.
    pair : In(PAIR)
        From a core three cycles later; a cycle more behind the choice of the core.
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
        super().__init__({"address": Out(range(config.classes)), "logit": In(signed(config.accumulator_bits))})


class HeadLogits(wiring.Signature):
    """The core that makes the heads gives their logits to the exit unit.

    Members
    -------
    raw : Out(1), classes : Out
        Of the layer: whether it is a head, and how many of its values are logits, at least 2; what follows them is
        ignored. Stable from ``start`` until the layer is done.
    logits : Out(stream of signed accumulators), always ready
        In order of their class.
    """

    def __init__(self, config: AcceleratorConfig):
        logits = stream.Signature(signed(config.accumulator_bits), always_ready=True)
        super().__init__(
            {"raw": Out(1), "classes": Out(LaneDescription.as_shape()["classes"].shape), "logits": Out(logits)}
        )


class HeadResult(wiring.Signature):
    """What the exit unit has found in the last head, for the exit rule in the sequencer.

    Members
    -------
    label : Out, margin : Out(32)
        The largest logit's class, the first of equals, and its lead over the next; from three cycles behind the last
        logit until the next head's first.
    """

    def __init__(self):
        super().__init__({"label": Out(RunResult.as_shape()["label"].shape), "margin": Out(32)})


class ExitControl(wiring.Signature):
    """The sequencer asks the exit rule at a BRANCH or STOP.

    Members
    -------
    begin : Out(1)
        Forget the run before.
    constant : Out(1), drawn : Out(1)
        The run is in constant time; it is audited. Stable throughout the run.
    compare : Out(1)
        A BRANCH or STOP is reached; ``stop``, ``index``, ``decision`` and ``expired`` are stable in this cycle and the
        next.
    stop : Out(1), index : Out(8), decision : Out(Decision)
        Of the instruction.
    expired : Out(1)
        The deadline has passed; it forces no run in constant time.
    judge : Out(1)
        In the cycle after ``compare``.
    ends : In(1)
        With ``judge``: the run ends here.
    result : In(RunResult)
        What is to be reported, without cycles, overrun and tag; complete from the cycle after the one in which the run
        ends.
    """

    def __init__(self):
        orders = {name: Out(1) for name in ("begin", "constant", "drawn", "compare", "stop", "expired", "judge")}
        instruction = {"index": Out(8), "decision": Out(Decision)}
        super().__init__(orders | instruction | {"ends": In(1), "result": In(RunResult)})


class SelectControl(wiring.Signature):
    """The sequencer has the selector make a selection, together with all cores.

    Members
    -------
    start : Out(1)
        For one cycle, the one in which ``start`` of a layer would be: make the selection that was taken.
    done : In(1)
        Low from the cycle after ``start`` until it is made. High throughout where there is no selector.
    """

    def __init__(self):
        super().__init__({"start": Out(1), "done": In(1)})


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


class WinnerLookup(wiring.Signature):
    """The dispatcher asks of each word which channels are winners of the selections before, and what is nonzero in it.

    Members
    -------
    address : Out(12), word : Out(8)
        Where the word lies, and its number at its position.
    winners : In(8)
        Its channels that are winners, two cycles later.
    complement : In(8), other_complement : In(8)
        256 less the threshold of winners, and of other channels, two cycles later; 0 where no magnitude reaches it.
    """

    def __init__(self):
        asked = {"address": Out(12), "word": Out(8)}
        told = {"winners": In(WORD_CHANNELS), "complement": In(8), "other_complement": In(8)}
        super().__init__(asked | told)


class PointerLookup(wiring.Signature):
    """The dispatcher moves the pointer pipelines of all PEs, three stages long.

    Members
    -------
    number : Out
        Of the list that enters where ``advance`` is high.
    advance : Out(1)
        The first two stages move on. This is ``pushed`` of the cycle before, out of a register: it goes to all PEs, and
        so has a whole cycle for the way.
    pushed : Out(1)
        The last one, the push stage, takes the next list. The list that the second stage gives away while the push
        stage stands still waits between them.
    dump : Out(1)
        What the push stage takes next is a dump, which is a job of all PEs.
    parts : Out(3), odd : Out(1)
        With split lists only, where ``number`` is of a pair of words, of the list that the first stage holds: its
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
    wanted : Out(1), job : Out(job_layout)
        The job for that list, if there is one for this PE. With ``hit``, the PE queues it in the cycle of the lookup's
        ``pushed``, which never comes while a PE with a wanted job is ``blocked``. In depthwise layers each PE's job has
        an activation of its own; else all jobs are the same.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"hit": In(1), "blocked": In(1), "wanted": Out(1), "job": Out(job_layout(config))})


class LaneControl(wiring.Signature):
    """A core tells its lanes what to make of a layer's accumulators.

    Members
    -------
    fields : Out(LaneDescription), residual : Out(Residual), target : Out(Target)
        The layer, and how its output and the residual operand lie; stable from ``start`` until ``done``. Layers with a
        residual must have ``slow`` set; with two lanes, raw layers too.
    start : Out(1)
        For one cycle: a layer begins.
    done : In(1)
        For one cycle, when the layer's last value has left.
    """

    def __init__(self):
        layer = {"fields": Out(LaneDescription), "residual": Out(Residual), "target": Out(Target)}
        super().__init__(layer | {"start": Out(1), "done": In(1)})
