"""A core: dispatcher, PEs, lanes, packer and their memories, wired together. It runs its part of a layer at a time."""

from amaranth import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.bits import words_of
from hw.rtl.adders import popcount
from hw.rtl.core.activations import ActivationMemory
from hw.rtl.core.dispatcher import Dispatcher
from hw.rtl.core.lanes import Lanes
from hw.rtl.core.packer import Packer
from hw.rtl.core.pe import ProcessingElement
from hw.rtl.core.scanner import Scanner
from hw.rtl.core.winner_masks import WinnerMasks
from hw.rtl.exchange import Exchange
from hw.rtl.fetcher import Fetcher
from hw.rtl.interfaces import CoreState, HeadLogits, PairRead, RunControl, ScanControl
from hw.rtl.records import PAIR, ArrivingWord, ChannelParameters, LoadWord, WordWrite, list_row
from hw.rtl.structs import FixedPoint, LayerDescription, Memory, ScaleWords, Selection, Window
from hw.rtl.verilog_platform import memory_attributes, promote

__all__ = ["Core"]


class Core(wiring.Component):
    """One core.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    number : In(8)
        Its number: of the program words, it takes those for this core. Constant.
    control : In(RunControl), state : Out(CoreState)
        The sequencer's orders, and what it has to know.
    selector : In(ScanControl), selection : Out(Selection)
        Of a config with selector: its orders; the description taken of a selection.
    everywhere : Out(1)
        Of the layer: :class:`hw.program.isa.Target`.
    o : Out(stream of WordWrite), i : In(stream of ArrivingWord), always ready
        Words made here, to the exchange; words made anywhere, and those of images, from it. Those outside the window
        are dropped: the layer's behind ``control.take``, and that of images once it is fetched.
    load : In(stream of LoadWord), always ready
        Program words of all cores.
    row : In(stream of list_row), always ready
        List words that the loader has read, for some of the cores, at least two cycles apart; only with a loader.
    head : Out(HeadLogits)
        To the exit unit: logits of raw layers.
    read : In(PairRead)
        Host reads.

    Parts, in the order of :meth:`elaborate`: the layer memory; the end of a layer; the dispatcher with its reads; the
    PEs; the lanes with their channel memories; words out and in.

    A row is written two cycles after it came; the dispatcher is held in the cycle before that.

    Latency: :meth:`flush` cycles from the lanes' last value to ``state.done``; the simulator has those of whole layers.
    Throughput: a product a cycle and PE. Takes no back-pressure: words that come are kept or dropped at once.

    Reset: only by ``control.reset``, one cycle later; each core has its own register, for the thousands of flip-flops
    that a reset reaches. From there it goes, and ``control.take`` comes, through
    :func:`hw.rtl.verilog_platform.promote`: over clock networks, on boards that have such.
    """

    #: Cycles from ``control.start`` to that of the core's units.
    BEGIN = 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        row = {"row": In(stream.Signature(list_row(config), always_ready=True))} if config.loader else {}
        selecting = {"selector": In(ScanControl()), "selection": Out(Selection)}
        super().__init__(
            row
            | (selecting if config.selector else {})
            | {
                "number": In(8),
                "control": In(RunControl()),
                "state": Out(CoreState(config)),
                "everywhere": Out(1),
                "o": Out(stream.Signature(WordWrite, always_ready=True)),
                "i": In(stream.Signature(ArrivingWord, always_ready=True)),
                "load": In(stream.Signature(LoadWord, always_ready=True)),
                "head": Out(HeadLogits(config)),
                "read": In(PairRead()),
            }
        )

    @staticmethod
    def flush(config: AcceleratorConfig, everywhere: bool) -> int:
        """Cycles from the lanes' ``done`` to the end of the layer; their last word has reached every memory then.

        ``state.done`` comes one cycle before: the sequencer takes that cycle to see it of all cores.
        """
        return Packer.LATENCY + Exchange.longest(config, everywhere) + ActivationMemory.LATENCY

    def elaborate(self, platform):
        m = Module()
        config = self._config
        load, loads = self._loads(m)

        m.submodules.activations = activations = ActivationMemory(config)
        m.submodules.dispatcher = dispatcher = Dispatcher(config)
        m.submodules.lanes = lanes = Lanes(config)
        m.submodules.packer = packer = Packer(config)
        scanner = Scanner(config) if config.selector else None
        fetched, layer, image_window = self._layer_memory(m, load, loads, dispatcher, scanner)

        # Registered: it comes from far away and goes to all units. The layer in force is the one fetched last: it may
        # be taken in this very cycle.
        start, begin = Signal(), Signal()
        m.d.comb += start.eq(self.control.start & fetched.enable)
        m.d.sync += begin.eq(start)
        self._finish(m, start, lanes.layer.done)

        self._connect_dispatcher(m, begin, layer, dispatcher, scanner, activations)
        self._processing_elements(m, load, loads, layer, dispatcher, lanes)

        # Lanes: channel memories, residual operand.
        m.d.comb += [
            lanes.layer.fields.eq(layer.lane),
            lanes.layer.residual.eq(layer.residual),
            lanes.layer.target.eq(layer.target),
            lanes.layer.start.eq(begin),
            activations.other_address.eq(lanes.residual_address),
            lanes.operand.eq(activations.other),
            self.head.raw.eq(layer.lane.raw),
            self.head.classes.eq(layer.lane.classes),
        ]
        # Registered: the exit unit compares whole accumulators, and has the time of the flush.
        logits = self.head.logits
        m.d.sync += [logits.valid.eq(lanes.logit.valid), logits.payload.eq(lanes.logit.payload)]
        self._channel_memories(m, load, loads, lanes)

        # Words out, words in.
        m.d.comb += [
            packer.target.eq(layer.target),
            packer.start.eq(begin),
            activations.window.eq(layer.window),
            activations.image_window.eq(image_window),
            self.everywhere.eq(layer.target.everywhere),
        ]
        connect(m, lanes.o, packer.i)
        connect(m, packer.o, flipped(self.o))
        connect(m, flipped(self.i), activations.write)
        reset = Signal(init=1, reset_less=True)
        m.d.sync += reset.eq(self.control.reset)
        return ResetInserter(promote(platform, m, reset))(m)

    def _loads(self, m):
        """Program words come from far away and go to every memory here: a register for each way.

        Returns the word, and for each memory that a program fills, by its number, that the word is for it.
        """
        arrived, word, load = Signal(), Signal(LoadWord), Signal(LoadWord)
        m.d.sync += [arrived.eq(self.load.valid), word.eq(self.load.payload), load.eq(word)]
        lists = range(Memory.LISTS.value, Memory.LISTS.value + self._config.pes)
        loads = {}
        for number in (*lists, *(kind.value for kind in (Memory.LAYERS, Memory.BIAS, Memory.SCALE))):
            loads[number] = Signal(name=f"loads_{number}")
            m.d.sync += loads[number].eq(arrived & (word.core == self.number) & (word.memory == number))
        return load, loads

    def _connect_dispatcher(self, m, begin, layer, dispatcher, scanner, activations):
        """Its words come from the bank's one read port, which the scanner has in selections, the host while idle."""
        bank, pair = Signal(), self.read.address[:2]
        next_bank = Mux(self.state.done, self.read.bank, layer.source.bank)
        word_address = Mux(self.state.done, self.read.address[2:], dispatcher.words.address)
        if scanner is not None:
            self._connect_scanner(m, scanner, layer, dispatcher, activations)
            next_bank = Mux(scanner.begins | scanner.reads, self.selection.bank, next_bank)
            word_address = Mux(scanner.reads, scanner.words.address, word_address)
        m.d.sync += bank.eq(next_bank)
        m.d.comb += [
            dispatcher.source.eq(layer.source),
            dispatcher.start.eq(begin),
            activations.bank.eq(bank),
            activations.address.eq(word_address),
            dispatcher.words.data.eq(activations.word),
        ]
        pairs = data.View(data.ArrayLayout(PAIR, WORD_CHANNELS // 2), activations.word.as_value())
        m.d.sync += [self.read.pair.eq(pairs[pair]), self.state.stalled.eq(dispatcher.stalled)]

    def _processing_elements(self, m, load, loads, layer, dispatcher, lanes):
        """The PEs between dispatcher and lanes; program words and the loader's rows are written to their lists."""
        row, writes = self._rows(m, dispatcher)
        pes = [ProcessingElement(self._config) for _ in range(self._config.pes)]
        connect(m, dispatcher.lookup, *(pe.lookup for pe in pes))
        for number, pe in enumerate(pes):
            m.submodules[f"pe_{number}"] = pe
            connect(m, dispatcher.pes[number], pe.dispatcher)
            connect(m, pe.o, lanes.i[number])
            m.d.comb += [
                pe.load.valid.eq(writes | loads[Memory.LISTS.value + number]),
                pe.load.payload.address.eq(Mux(writes, row.address, load.address)),
                pe.load.payload.data.eq(Mux(writes, row.words[number], load.data)),
                pe.dump_length.eq(layer.source.dump_length),
                pe.max_pool.eq(layer.source.max_pool),
            ]
        m.d.comb += self.state.clearing.eq(pes[0].clearing)
        m.d.sync += self.state.products.eq(popcount([pe.product for pe in pes]))

    def _rows(self, m, dispatcher):
        """The row that the loader has sent last, and whether to write it now."""
        row, arrived, writes = Signal(list_row(self._config)), Signal(), Signal()
        if self._config.loader:
            m.d.sync += [
                arrived.eq(self.row.valid & self.row.payload.cores.bit_select(self.number, 1)),
                writes.eq(arrived),
            ]
            m.d.comb += dispatcher.hold.eq(arrived)
            with m.If(self.row.valid):
                m.d.sync += row.eq(self.row.payload)
        return row, writes

    def _connect_scanner(self, m, scanner, layer, dispatcher, activations):
        """The core's part of selections, and what its dispatcher has to know of them."""
        m.submodules.scanner = scanner
        m.submodules.winners = winners = WinnerMasks(self._config)
        connect(m, flipped(self.selector), scanner.selector)
        connect(m, scanner.mask, winners.mask)
        connect(m, dispatcher.winners, winners.lookup)
        m.d.comb += [
            scanner.selection.eq(self.selection),
            scanner.words.data.eq(activations.word),
            winners.order.eq(self.selector.order),
            winners.selection.eq(self.selection),
            winners.source.eq(layer.source),
        ]

    def _layer_memory(self, m, load, loads, dispatcher, scanner):
        """Memory of descriptions and tables.

        Returns the description fetched last, the one in force, and the window of images.
        """
        m.submodules.layers = layers = memory.Memory(
            shape=32, depth=self._config.layer_words, init=[], attrs={"no_rw_check": 1}
        )
        m.submodules.fetcher = fetcher = Fetcher(words_of(LayerDescription))
        # Writing and fetching share an address, the tables have their own port: a true dual-port block RAM.
        write, descriptions, tables = layers.write_port(), layers.read_port(), layers.read_port()
        address = Signal(12)
        of_image = Signal()
        fetched = fetcher.top(LayerDescription)
        layer, image_window = Signal(LayerDescription), Signal(Window)
        m.d.comb += [
            write.en.eq(loads[Memory.LAYERS.value]),
            address.eq(Mux(write.en, load.address, fetcher.read.address)),
            write.addr.eq(address),
            write.data.eq(load.data),
            descriptions.addr.eq(address),
            descriptions.en.eq(1),
            fetcher.read.data.eq(descriptions.data),
            fetcher.start.eq(self.control.fetch),
            fetcher.first.eq(self.control.fetch_address),
            fetcher.count.eq(Mux(self.control.fetch_window, words_of(Window), words_of(LayerDescription))),
            self.state.fetched.eq(fetcher.done),
            tables.addr.eq(dispatcher.table.address),
            tables.en.eq(1),
            dispatcher.table.data.eq(tables.data),
        ]
        if scanner is not None:
            m.d.comb += scanner.table.data.eq(tables.data)
            with m.If(scanner.fills):
                m.d.comb += tables.addr.eq(scanner.table.address)
            with m.If(self.control.take_selection):
                m.d.sync += self.selection.eq(fetcher.top(Selection))
        with m.If(self.control.fetch):
            m.d.sync += of_image.eq(self.control.fetch_window)
        # The fetcher's words are the next description while this one is at work.
        with m.If(self.control.take):
            m.d.sync += layer.eq(fetched)
        with m.If(fetcher.done & of_image):
            m.d.sync += image_window.eq(fetcher.top(Window))
        return fetched, layer, image_window

    def _finish(self, m, start, lanes_done):
        """``state.done``: a cycle less than :meth:`flush` behind the lanes."""
        near, far = (self.flush(self._config, everywhere) - 2 for everywhere in (False, True))
        left = Signal(range(far + 1))
        last, busy = Signal(), Signal()
        m.d.comb += [self.state.done.eq(~busy), last.eq(left == 1)]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(lanes_done):
            m.d.sync += left.eq(Mux(self.everywhere, far, near))
        with m.If(start):
            m.d.sync += busy.eq(1)
        with m.Elif(last):
            m.d.sync += busy.eq(0)

    def _channel_memories(self, m, load, loads, lanes):
        """Bias and scale of each channel: a memory each for each lane, for every ``lanes``-th channel."""
        config = self._config
        lane_bits = config.lanes.bit_length() - 1
        # A scale's first word waits for its second.
        scale, second, is_scale = Signal(FixedPoint), load.address[0], loads[Memory.SCALE.value]
        first = Signal.like(load.data)
        with m.If(is_scale & ~second):
            m.d.sync += first.eq(load.data)
        words = ScaleWords(Cat(first, load.data))
        m.d.comb += [scale.multiplier.eq(words.multiplier), scale.shift.eq(words.shift)]
        bias = ChannelParameters.as_shape()["bias"].shape
        kinds = {
            "bias": (bias, load.data, loads[Memory.BIAS.value], load.address),
            "scale": (FixedPoint, scale, is_scale & second, load.address[1:]),
        }
        for number in range(config.lanes):
            reads = {}
            for kind, (shape, word, mine, channel) in kinds.items():
                depth = config.channel_words // config.lanes
                ram = memory.Memory(shape=shape, depth=depth, init=[], attrs=memory_attributes(depth))
                m.submodules[f"{kind}_{number}"] = ram
                write, reads[kind] = ram.write_port(), ram.read_port()
                m.d.comb += [
                    write.addr.eq(channel[lane_bits:]),
                    write.data.eq(word),
                    write.en.eq(mine & (channel[:lane_bits] == number)),
                    reads[kind].addr.eq(lanes.channel_address),
                    reads[kind].en.eq(1),
                ]
            parameters = lanes.parameters[number]
            m.d.comb += [parameters.bias.eq(reads["bias"].data), parameters.scale.eq(reads["scale"].data)]
