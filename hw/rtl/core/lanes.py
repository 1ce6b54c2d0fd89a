"""The lanes of a core in lockstep: takes accumulators from the PEs in channel order and finishes them.

A *step* takes one accumulator for every lane, from as many PEs side by side. Slow layers take steps in every second
cycle only, counted from ``start``: so that residual sums may share multipliers, logits leave one by one, and every core
gets its turn in the exchange.
"""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.rtl.core.address_generator import AddressGenerator
from hw.rtl.core.lane import Lane
from hw.rtl.core.wrapping_counter import WrappingCounter
from hw.rtl.interfaces import LaneControl
from hw.rtl.records import WORD, ChannelParameters

__all__ = ["Lanes"]


class _Steps:
    """Steps on their way in."""

    def __init__(self, config):
        self.free, self.taken = Signal(), Signal()  # one may be, one is taken now
        self.each = Signal(12)  # steps of an output position
        self.turn = Signal(range(config.pes // config.lanes))  # of the PEs side by side
        self.phase = Signal()  # slow layers take a step when it is 0


class Lanes(wiring.Component):
    """Lanes with their common control.

    Members
    -------
    layer : In(LaneControl)
        What to make of the accumulators.
    i : In(stream of signed accumulators), one per PE
        Channel ``c`` comes from PE ``c % pes``.
    channel_address : Out(12), parameters : In(ChannelParameters), one per lane
        Synchronous read of the channel memories: one row for each step, ``channel // lanes``.
    residual_address : Out(12), operand : In(WORD)
        Read pipeline of two cycles over the words of the residual operand.
    o : Out(stream of one signed 9 per lane), always ready
        Activations of consecutive channels.
    logit : Out(stream of signed accumulators), always ready
        Biased accumulators of a raw layer, instead, one channel after the other.

    Parts, in the order of the pipeline: a step is taken; ``valid`` travels with it; the residual operand is read; the
    lanes; activations and logits leave; steps are counted to ``layer.done``.

    Latency: :attr:`LATENCY`, :attr:`RESIDUAL_LATENCY` or :attr:`RAW_LATENCY` cycles from a step to its result; the
    second lane's logit comes a cycle later. Throughput: one step per cycle, one per two cycles in slow layers.
    Back-pressure: on ``i``, until the PE's turn comes and all lanes have an accumulator. Reset: idle.
    """

    #: Cycles from a step to its activations.
    LATENCY = Lane.LATENCY
    #: Cycles from a step to its activations with the residual added.
    RESIDUAL_LATENCY = Lane.RESIDUAL_LATENCY
    #: Cycles from a step to the first lane's logit.
    RAW_LATENCY = Lane.RAW_LATENCY

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        lanes = config.lanes
        #: Lanes are a power of two: steps are numbered like channels, without these low bits.
        self._lane_bits = (lanes - 1).bit_length()
        accumulator = signed(config.accumulator_bits)
        super().__init__(
            {
                "layer": In(LaneControl()),
                "i": In(stream.Signature(accumulator)).array(config.pes),
                "channel_address": Out(12),
                "parameters": In(ChannelParameters).array(lanes),
                "residual_address": Out(12),
                "operand": In(WORD),
                "o": Out(stream.Signature(data.ArrayLayout(signed(9), lanes), always_ready=True)),
                "logit": Out(stream.Signature(accumulator, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = [Lane(self._config) for _ in range(self._config.lanes)]
        steps = _Steps(self._config)
        self._take_step(m, lanes, steps)
        valid = self._valid(m, steps)
        operand = self._read_residual(m, steps, valid)
        self._connect_lanes(m, lanes, valid, operand)
        finished = self._put_out(m, lanes, valid)
        self._count(m, steps, finished)
        return m

    def _take_step(self, m, lanes, steps):
        """Cycle 0: the next channels' accumulators, all or none, of PEs whose turn comes round."""
        config, fields = self._config, self.layer.fields
        offered = Signal()
        m.d.comb += [steps.free.eq(~fields.slow | ~steps.phase), steps.taken.eq(offered & steps.free)]
        with m.Switch(steps.turn):
            for number in range(config.pes // config.lanes):
                group = [self.i[number * config.lanes + place] for place in range(config.lanes)]
                with m.Case(number):
                    m.d.comb += offered.eq(Cat(source.valid for source in group).all())
                    for lane, source in zip(lanes, group, strict=True):
                        others = [other.valid for other in group if other is not source]
                        m.d.comb += [
                            lane.accumulator.eq(source.payload),
                            source.ready.eq(Cat(steps.free, *others).all()),
                        ]
        m.submodules.counter = counter = WrappingCounter(len(steps.each))
        m.d.comb += [
            steps.each.eq(fields.channels >> self._lane_bits),
            counter.count.eq(steps.each),
            counter.start.eq(self.layer.start),
            counter.advance.eq(steps.taken),
            self.channel_address.eq((fields.channel_base << 3 >> self._lane_bits) + counter.value),
        ]
        m.d.sync += steps.phase.eq(~steps.phase)
        with m.If(steps.taken):
            m.d.sync += steps.turn.eq(steps.turn + 1)

    def _valid(self, m, steps):
        """``valid[n]``: a step was taken n cycles ago; beyond the plain latency, only of residual layers."""
        valid = [steps.taken]
        for cycle in range(1, self.RESIDUAL_LATENCY + 1):
            valid.append(Signal(name=f"valid_{cycle}"))
            before = valid[cycle - 1]
            m.d.sync += valid[cycle].eq(before & self.layer.residual.enable if cycle == self.LATENCY + 1 else before)
        return valid

    def _read_residual(self, m, steps, valid):
        """The residual operand: its word is asked for two cycles before its channels go to the multiplier."""
        lanes, target = self._config.lanes, self.layer.target
        per_word = WORD_CHANNELS // lanes
        m.submodules.residual_counter = counter = WrappingCounter(len(steps.each))
        place = [Signal(range(per_word), name=f"place_{cycle}") for cycle in range(3)]
        m.d.comb += place[0].eq(counter.value)
        m.d.sync += [place[1].eq(place[0]), place[2].eq(place[1])]
        asks, last = valid[self.LATENCY - 2], counter.last
        m.submodules.addresses = addresses = AddressGenerator(len(self.residual_address))
        m.d.comb += [
            counter.count.eq(steps.each),
            counter.start.eq(self.layer.start),
            counter.advance.eq(asks),
            addresses.strides.base.eq(self.layer.residual.base),
            addresses.strides.column_pitch.eq(target.column_pitch),
            addresses.strides.row_pitch.eq(target.row_pitch),
            addresses.strides.columns.eq(target.columns),
            addresses.start.eq(self.layer.start),
            addresses.advance.eq(asks & (last | (place[0] == per_word - 1))),
            addresses.last.eq(last),
            self.residual_address.eq(addresses.address),
        ]
        word = data.View(data.ArrayLayout(data.ArrayLayout(signed(9), lanes), per_word), self.operand.as_value())
        operand = Signal(data.ArrayLayout(signed(9), lanes))
        with m.Switch(place[2]):
            for number in range(per_word):
                with m.Case(number):
                    m.d.comb += operand.eq(word[number])
        return operand

    def _connect_lanes(self, m, lanes, valid, operand):
        """Each lane has its channel's parameters and operand, and controls that travel with the step."""
        for number, lane in enumerate(lanes):
            m.submodules[f"lane_{number}"] = lane
            m.d.comb += [
                lane.fields.eq(self.layer.fields),
                lane.residual.eq(self.layer.residual),
                lane.zero_point.eq(self.layer.target.zero_point),
                lane.parameters.eq(self.parameters[number]),
                lane.operand.eq(operand[number]),
                lane.stages.own.eq(valid[self.LATENCY + 1]),
                lane.stages.sum.eq(valid[Lane.SUM - 1]),
                self.o.payload[number].eq(lane.o),
            ]

    def _put_out(self, m, lanes, valid):
        """Activations of all lanes in one cycle, or logits, one a cycle: the first leaves at once, the others wait.

        Returns
        -------
        Signal
            A step's last value leaves in this cycle.
        """
        config, fields = self._config, self.layer.fields
        queue = [(valid[self.RAW_LATENCY] & fields.raw, lane.logit) for lane in lanes]
        for number in range(1, config.lanes):
            for cycle in range(number):
                later_valid, later = (
                    Signal(name=f"raw_{number}_{cycle}"),
                    Signal.like(self.logit.payload, reset_less=True),
                )
                m.d.sync += [later_valid.eq(queue[number][0]), later.eq(queue[number][1])]
                queue[number] = (later_valid, later)
        for logit_valid, logit in queue:
            with m.If(logit_valid):
                m.d.comb += [self.logit.valid.eq(1), self.logit.payload.eq(logit)]
        finished = Signal()
        activations = (valid[self.LATENCY] & ~self.layer.residual.enable & ~fields.raw) | valid[self.RESIDUAL_LATENCY]
        m.d.comb += [self.o.valid.eq(activations), finished.eq(self.o.valid | queue[-1][0])]
        return finished

    def _count(self, m, steps, finished):
        """Steps that are left, to the last one's end; a layer begins with the first PE's turn."""
        left = Signal(20)  # steps
        m.d.sync += self.layer.done.eq(finished & (left == 1))
        with m.If(finished):
            m.d.sync += left.eq(left - 1)
        with m.If(self.layer.start):
            m.d.sync += [
                left.eq(self.layer.fields.outputs >> self._lane_bits),
                steps.turn.eq(0),
                steps.phase.eq(0),
            ]
