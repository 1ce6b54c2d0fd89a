"""Takes the next run from the host, also while another one is at work: its options, then its image."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.program.bits import words_of
from hw.rtl.control.exit_unit import draw
from hw.rtl.control.image_packer import ImagePacker
from hw.rtl.interfaces import ImageControl
from hw.rtl.records import WordWrite
from hw.rtl.structs import RunOptions

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
    control : In(ImageControl)
        The sequencer's orders.
    word : In(stream of 32 bits)
        Options of the run, then the image, four codes a word, first code lowest.
    room : In(1)
        A word of the image may be begun.
    image : Out(stream of WordWrite), always ready
        The image's words, for all cores.

    Parts, state by state: a run is accepted, its options are taken; it waits until the image may be written, which then
    passes; it is loaded.

    Latency: :attr:`LOADED_CYCLES`. Throughput: a code a cycle, less where words are spaced. Back-pressure: on ``word``,
    nothing is lost. Reset: no run waits.
    """

    #: Cycles from the one in which the image's last code goes on to ``loaded``.
    LOADED_CYCLES = 2

    def __init__(self):
        super().__init__(
            {
                "control": In(ImageControl()),
                "word": In(stream.Signature(32)),
                "room": In(1),
                "image": Out(stream.Signature(WordWrite, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.packer = packer = ImagePacker()
        image, control = _Image(), self.control
        m.d.comb += [
            packer.channels.eq(control.channels),
            packer.zero_point.eq(control.zero_point),
            packer.spaced.eq(control.spaced),
            packer.i.payload.eq(image.word[:8]),
            image.fed.eq(packer.i.valid & packer.i.ready),
        ]
        m.d.sync += control.drawn.eq(draw(control.options.seed) < control.options.audit)
        connect(m, packer.o, flipped(self.image))
        with m.FSM():
            self._accept_run(m, packer, image)
            self._take_options(m, image)
            with m.State("wait"):
                with m.If(control.allowed):
                    m.next = "image"
            with m.State("image"):
                self._pass_image(m, packer, image)
            with m.State("loaded"):
                m.d.comb += control.loaded.eq(1)
                m.d.sync += control.spoiled.eq(control.spoiled | control.spoil)
                with m.If(control.take):
                    m.next = "free"
        return m

    def _accept_run(self, m, packer, image):
        """No run waits; what the next one's image has is counted from the header."""
        control = self.control
        with m.State("free"):
            m.d.comb += [control.free.eq(1), packer.start.eq(control.run)]
            m.d.sync += [
                image.left.eq(control.bytes),
                image.words.eq((control.bytes + 3) >> 2),
                image.more.eq(control.bytes != 0),
                image.have_word.eq(0),
                image.have_next.eq(0),
                image.missing.eq(words_of(RunOptions)),
                control.spoiled.eq(0),
            ]
            with m.If(control.run):
                m.d.sync += control.waiting.eq(control.flags)
                m.next = "options"

    def _take_options(self, m, image):
        """The first words of the payload."""
        options = self.control.options
        with m.State("options"):
            m.d.comb += self.word.ready.eq(1)
            with m.If(self.word.valid):
                m.d.sync += [
                    options.eq(Cat(options.as_value(), self.word.payload)[32:]),
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
            self.control.spoiled.eq(self.control.spoiled | self.control.spoil),
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
