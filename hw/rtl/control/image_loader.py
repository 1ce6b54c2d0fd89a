"""Takes the next run from the host, also while another one is at work: its options, then its image."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.program.bits import words_of
from hw.rtl.control.exit_unit import draw
from hw.rtl.control.image_packer import ImagePacker
from hw.rtl.interfaces import WordWrite
from hw.rtl.structs import RunFlags, RunOptions

__all__ = ["ImageLoader"]


class _Image:
    """Registers that the loader's states share."""

    def __init__(self):
        self.missing = Signal(range(words_of(RunOptions) + 1))  # words of the options
        self.left = Signal(18)  # codes of the image
        self.words, self.more = Signal(16), Signal()  # of the image that are still to come; there are some
        self.byte = Signal(2)  # of the word at hand
        self.word, self.next_word = Signal(32), Signal(32)
        self.have_word, self.have_next, self.fed = Signal(), Signal(), Signal()


class ImageLoader(wiring.Component):
    """Waits for a run to be accepted, takes its payload and holds it until the sequencer begins the run.

    Members
    -------
    bytes : In(18), channels : In(12), zero_point : In(signed 8)
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

    Parts, state by state: a run is accepted, its options are taken; it waits until the image may be written, which then
    passes; it is loaded.

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
                "zero_point": In(signed(8)),
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
        image = _Image()
        m.d.comb += [
            packer.channels.eq(self.channels),
            packer.zero_point.eq(self.zero_point),
            packer.spaced.eq(self.spaced),
            packer.i.payload.eq(image.word[:8]),
            image.fed.eq(packer.i.valid & packer.i.ready),
        ]
        m.d.sync += self.drawn.eq(draw(self.options.seed) < self.options.audit)
        connect(m, packer.o, flipped(self.image))
        with m.FSM():
            self._accept_run(m, packer, image)
            self._take_options(m, image)
            with m.State("wait"):
                with m.If(self.allowed):
                    m.next = "image"
            with m.State("image"):
                self._pass_image(m, packer, image)
            with m.State("loaded"):
                m.d.comb += self.loaded.eq(1)
                m.d.sync += self.spoiled.eq(self.spoiled | self.spoil)
                with m.If(self.take):
                    m.next = "free"
        return m

    def _accept_run(self, m, packer, image):
        """No run waits; what the next one's image has is counted from the header."""
        with m.State("free"):
            m.d.comb += [self.free.eq(1), packer.start.eq(self.run)]
            m.d.sync += [
                image.left.eq(self.bytes),
                image.words.eq((self.bytes + 3) >> 2),
                image.more.eq(self.bytes != 0),
                image.have_word.eq(0),
                image.have_next.eq(0),
                image.missing.eq(words_of(RunOptions)),
                self.spoiled.eq(0),
            ]
            with m.If(self.run):
                m.d.sync += self.run_flags.eq(self.flags)
                m.next = "options"

    def _take_options(self, m, image):
        """The first words of the payload."""
        with m.State("options"):
            m.d.comb += self.word.ready.eq(1)
            with m.If(self.word.valid):
                m.d.sync += [
                    self.options.eq(Cat(self.options.as_value(), self.word.payload)[32:]),
                    image.missing.eq(image.missing - 1),
                ]
                with m.If(image.missing == 1):
                    m.next = "wait"

    def _pass_image(self, m, packer, image):
        """A code a cycle. The next word waits beside the one at hand, so that the host learns from flip-flops alone
        whether it may come.
        """
        left, word, have_word, have_next = image.left, image.word, image.have_word, image.have_next
        taken = Signal()
        m.d.comb += [
            packer.i.valid.eq(have_word & self.room),
            self.word.ready.eq(~have_next & image.more),
            taken.eq(self.word.valid & self.word.ready),
        ]
        m.d.sync += [
            image.words.eq(image.words - taken),
            image.more.eq(image.more & ~(taken & (image.words == 1))),
            self.spoiled.eq(self.spoiled | self.spoil),
        ]
        with m.If(image.fed):
            m.d.sync += [word.eq(word >> 8), image.byte.eq(image.byte + 1), left.eq(left - 1)]
        with m.If(~have_word | (image.fed & ((image.byte == 3) | (left == 1)))):
            m.d.sync += [
                word.eq(Mux(have_next, image.next_word, self.word.payload)),
                have_word.eq(have_next | taken),
                have_next.eq(0),
                image.byte.eq(0),
            ]
        with m.Elif(taken):
            m.d.sync += [image.next_word.eq(self.word.payload), have_next.eq(1)]
        with m.If((left == 0) & ~have_word):
            m.next = "loaded"
