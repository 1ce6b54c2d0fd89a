"""Takes the next run from the host, also while another one is at work: its options, then its image."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.program.bits import words_of
from hw.rtl.control.exit_unit import draw
from hw.rtl.control.image_packer import ImagePacker
from hw.rtl.exchange import WordWrite
from hw.rtl.structs import RunFlags, RunOptions

__all__ = ["ImageLoader"]


class ImageLoader(wiring.Component):
    """Waits for a run to be accepted, takes its payload and holds it until the sequencer begins the run.

    Members
    -------
    bytes : In(18), channels : In(12), zero_point : In(8)
        Of an image, as in :class:`hw.program.isa.Header`; stable from the cycle before ``run`` until ``loaded``.
    run : In(1), flags : In(RunFlags)
        A run was accepted; only while ``free``.
    word : In(stream of 32 bits)
        Options of the run, then the image, four codes a word, first code lowest.
    allowed : In(1)
        The image may be written; once it has begun, until a run begins or ``spoil``.
    spaced, room : In(1)
        A run is at work: words come :attr:`hw.rtl.exchange.Exchange.IMAGE_DISTANCE` cycles apart, and none is begun
        without ``room``.
    image : Out(stream of WordWrite), always ready
        The image's words, for all cores.
    free : Out(1)
        No run waits here.
    loaded : Out(1)
        A run does, and its image is complete; until ``take``.
    spoil : In(1), spoiled : Out(1)
        Words of the image may be lost; so they may, of the run that waits.
    take : In(1)
        The run begins.
    run_flags : Out(RunFlags), options : Out(RunOptions)
        Of the run that waits.
    drawn : Out(1)
        It is to be audited.

    Throughput: a code a cycle, less where words are spaced. Back-pressure: on ``word``, nothing is lost. Reset: no run
    waits.
    """

    #: Cycles from the one in which the image's last code goes on to ``loaded``.
    LOADED_CYCLES = 2

    def __init__(self):
        super().__init__(
            {
                "bytes": In(18),
                "channels": In(12),
                "zero_point": In(8),
                "run": In(1),
                "flags": In(RunFlags),
                "word": In(stream.Signature(32)),
                "allowed": In(1),
                "spaced": In(1),
                "room": In(1),
                "image": Out(stream.Signature(WordWrite, always_ready=True)),
                "free": Out(1),
                "loaded": Out(1),
                "spoil": In(1),
                "spoiled": Out(1),
                "take": In(1),
                "run_flags": Out(RunFlags),
                "options": Out(RunOptions),
                "drawn": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.packer = packer = ImagePacker()
        missing = Signal(range(words_of(RunOptions) + 1))  # words of the options
        left = Signal(18)  # codes of the image
        words, more = Signal(16), Signal()  # of the image that are still to come; there are some
        byte = Signal(2)
        word, next_word = Signal(32), Signal(32)
        have_word, have_next, fed, taken = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            packer.channels.eq(self.channels),
            packer.zero_point.eq(self.zero_point),
            packer.spaced.eq(self.spaced),
            packer.i.payload.eq(word[:8]),
            fed.eq(packer.i.valid & packer.i.ready),
        ]
        m.d.sync += self.drawn.eq(draw(self.options.seed) < self.options.audit)
        connect(m, packer.o, flipped(self.image))

        with m.FSM():
            with m.State("free"):
                m.d.comb += [self.free.eq(1), packer.start.eq(self.run)]
                m.d.sync += [
                    left.eq(self.bytes),
                    words.eq((self.bytes + 3) >> 2),
                    more.eq(self.bytes != 0),
                    have_word.eq(0),
                    have_next.eq(0),
                    missing.eq(words_of(RunOptions)),
                    self.spoiled.eq(0),
                ]
                with m.If(self.run):
                    m.d.sync += self.run_flags.eq(self.flags)
                    m.next = "options"

            with m.State("options"):
                m.d.comb += self.word.ready.eq(1)
                with m.If(self.word.valid):
                    m.d.sync += [
                        self.options.eq(Cat(self.options.as_value(), self.word.payload)[32:]),
                        missing.eq(missing - 1),
                    ]
                    with m.If(missing == 1):
                        m.next = "wait"

            with m.State("wait"):
                with m.If(self.allowed):
                    m.next = "image"

            with m.State("image"):
                # A code a cycle. The next word waits beside the one at hand, so that the host learns from flip-flops
                # alone whether it may come.
                m.d.comb += [
                    packer.i.valid.eq(have_word & self.room),
                    self.word.ready.eq(~have_next & more),
                    taken.eq(self.word.valid & self.word.ready),
                ]
                m.d.sync += [words.eq(words - taken), more.eq(more & ~(taken & (words == 1)))]
                m.d.sync += self.spoiled.eq(self.spoiled | self.spoil)
                with m.If(fed):
                    m.d.sync += [word.eq(word >> 8), byte.eq(byte + 1), left.eq(left - 1)]
                with m.If(~have_word | (fed & ((byte == 3) | (left == 1)))):
                    m.d.sync += [
                        word.eq(Mux(have_next, next_word, self.word.payload)),
                        have_word.eq(have_next | taken),
                        have_next.eq(0),
                        byte.eq(0),
                    ]
                with m.Elif(taken):
                    m.d.sync += [next_word.eq(self.word.payload), have_next.eq(1)]
                with m.If((left == 0) & ~have_word):
                    m.next = "loaded"

            with m.State("loaded"):
                m.d.comb += self.loaded.eq(1)
                m.d.sync += self.spoiled.eq(self.spoiled | self.spoil)
                with m.If(self.take):
                    m.next = "free"
        return m
