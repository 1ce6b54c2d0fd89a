from dataclasses import dataclass

import pytest
from amaranth import Module, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, connect, flipped

from hw.config import AcceleratorConfig
from hw.lane import Lane
from hw.numerics import Rounding, Scale, add, add_scales, clamp, quantize_scale, requantize
from tests.hw.simulate import Bench, always, seldom, simulate

CONFIG = AcceleratorConfig(pes=4, channel_words=64, activation_bytes=1024)
LIMIT = 1 << (CONFIG.accumulator_bits - 1)


def byte(code):
    """Two's complement of a code."""
    return code & 0xFF


@dataclass(frozen=True)
class Layer:
    """A layer's last part: parameters of its channels, fields of the instruction, zero point of what it writes."""

    channels: int
    positions: int
    biases: list[int]
    scales: list[Scale]
    double: bool
    raw: bool
    channel_base: int
    offset: int
    clamp: tuple[int, int]
    zero_point: int
    residual: dict | None
    add_scales: object = None

    @property
    def fields(self):
        return {
            "outputs": self.channels * self.positions,
            "channel_base": self.channel_base,
            "channels": self.channels,
            "raw": self.raw,
            "classes": 0,
            "double": self.double,
            "offset": byte(self.offset),
            "clamp_low": byte(self.clamp[0]),
            "clamp_high": byte(self.clamp[1]),
        }

    @property
    def residual_fields(self):
        if self.residual is None:
            return {"enable": 0}
        places = ("offset", "clamp_low", "clamp_high", "zero_point")
        fields = {name: byte(value) if name in places else value for name, value in self.residual.items()}
        for name, scale in zip(("first", "second", "output"), self.add_scales, strict=True):
            fields |= {f"{name}_multiplier": scale.multiplier, f"{name}_shift": scale.shift}
        return fields

    def results(self, accumulators, operands):
        """What leaves, in order; ``operands`` is the other bank."""
        for index, accumulator in enumerate(accumulators):
            position, channel = divmod(index, self.channels)
            biased = accumulator + self.biases[channel]
            if self.raw:
                yield biased
                continue
            rounding = Rounding.DOUBLE if self.double else Rounding.SINGLE
            scaled = requantize(biased, *self.scales[channel], rounding)
            code = clamp(scaled + self.offset, *self.clamp)
            if self.residual is not None:
                residual = self.residual
                other = operands[residual["base"] + position * residual["pitch"] + channel]
                total = add(code - residual["zero_point"], other, self.add_scales)
                code = clamp(total + residual["offset"], residual["clamp_low"], residual["clamp_high"])
            yield code - self.zero_point


def random_clamp(rng):
    return rng.choice(((-128, 127), (rng.randint(-128, 0), rng.randint(0, 127))))


def random_layer(rng, kind):
    channels, positions = CONFIG.pes * rng.randint(1, 5), rng.randint(2, 8)
    residual = scales = None
    if kind == "residual":
        low, high = random_clamp(rng)
        residual = {
            "enable": 1,
            "bank": 1,
            "base": rng.randrange(500),
            "pitch": channels + rng.randrange(5),
            "zero_point": rng.randint(-128, 127),
            "offset": rng.randint(-128, 127),
            "clamp_low": low,
            "clamp_high": high,
        }
        scales = add_scales(rng.uniform(0.01, 1.0), rng.uniform(0.01, 1.0), rng.uniform(0.1, 2.0))
    return Layer(
        channels=channels,
        positions=positions,
        biases=[rng.randrange(-20_000, 20_000) for _ in range(channels)],
        scales=[quantize_scale(2.0 ** rng.uniform(-14, -6)) for _ in range(channels)],
        double=kind != "single",
        raw=kind == "raw",
        channel_base=rng.randrange(CONFIG.channel_words - channels + 1),
        offset=rng.randint(-128, 127),
        clamp=random_clamp(rng),
        zero_point=rng.randint(-128, 127),
        residual=residual,
        add_scales=scales,
    )


class Surroundings(wiring.Component):
    """A lane with the memories it reads."""

    def __init__(self, layer, operands):
        self.lane = Lane(CONFIG)
        self._layer, self._operands = layer, operands
        super().__init__({"i": In(stream.Signature(signed(CONFIG.accumulator_bits))).array(CONFIG.pes)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.lane = lane = self.lane
        layer = self._layer

        def port(name, shape, contents, address):
            m.submodules[name] = ram = memory.Memory(shape=shape, depth=len(contents), init=contents)
            read = ram.read_port()
            m.d.comb += [read.addr.eq(address), read.en.eq(1)]
            return read.data

        def channels(values):
            before = [1] * layer.channel_base
            return before + list(values) + [1] * (CONFIG.channel_words - layer.channel_base - layer.channels)

        multipliers, shifts = zip(*layer.scales, strict=True)
        operand = Signal(signed(9))
        m.d.sync += operand.eq(port("operands", signed(9), self._operands, lane.residual_address))
        m.d.comb += [
            lane.bias.eq(port("bias", signed(32), channels(layer.biases), lane.channel_address)),
            lane.multiplier.eq(port("multiplier", 31, channels(multipliers), lane.channel_address)),
            lane.shift.eq(port("shift", 5, channels(shifts), lane.channel_address)),
            lane.operand.eq(operand),
        ]
        for outside, inside in zip(self.i, lane.i, strict=True):
            connect(m, flipped(outside), inside)
        return m


def bench(rng, kind, latency, distance, *, gaps):
    """The layer twice, with or without gaps before the PEs' accumulators.

    ``distance`` is the number of cycles between transfers if nothing has to wait.
    """
    layer = random_layer(rng, kind)
    operands = [rng.randrange(-255, 256) for _ in range(CONFIG.activation_bytes)]
    dut = Surroundings(layer, operands)
    lane = dut.lane
    count = layer.channels * layer.positions
    # Values around what the scales bring into the range of a code, and some far outside.
    reach = [1 << 8, 1 << 15, 1 << 21, LIMIT - 20_000]
    data = [[rng.randrange(-limit, limit) for limit in rng.choices(reach, k=count)] for _ in range(2)]

    async def drive(ctx):
        ctx.set(lane.fields, layer.fields)
        ctx.set(lane.residual, layer.residual_fields)
        ctx.set(lane.zero_point, layer.zero_point)
        for accumulators in data:
            # PE p holds every pes-th accumulator.
            queues = [accumulators[pe :: CONFIG.pes][::-1] for pe in range(CONFIG.pes)]
            go = [seldom(rng, rng.choice((0.1, 0.3, 0.9))) if gaps else always() for _ in range(CONFIG.pes)]
            offered = [False] * CONFIG.pes
            transfers, results, leaving, done = [], [], [], []
            cycle = 0
            ctx.set(lane.start, 1)
            await ctx.tick()
            ctx.set(lane.start, 0)
            while not done or cycle < done[0] + 40:
                for pe, queue in enumerate(queues):
                    # An offer stays until it is taken.
                    offered[pe] = bool(queue) and (offered[pe] or next(go[pe]))
                    ctx.set(dut.i[pe].valid, offered[pe])
                    if offered[pe]:
                        ctx.set(dut.i[pe].payload, queue[-1])
                _, _, *sampled = await ctx.tick().sample(
                    lane.o.valid,
                    lane.o.payload,
                    lane.logit.valid,
                    lane.logit.payload,
                    lane.done,
                    *(source.ready for source in dut.i),
                )
                valid, value, logit_valid, logit, finished, *ready = sampled
                assert not (logit_valid if kind != "raw" else valid)
                if valid or logit_valid:
                    results.append(logit if logit_valid else value)
                    leaving.append(cycle)
                if finished:
                    done.append(cycle)
                taken = [pe for pe in range(CONFIG.pes) if ready[pe] and offered[pe]]
                assert len(taken) <= 1
                for pe in taken:
                    queues[pe].pop()
                    offered[pe] = False
                    transfers.append(cycle)
                cycle += 1
            assert results == list(layer.results(accumulators, operands))
            assert leaving == [transfer + latency for transfer in transfers]
            assert done == [leaving[-1] + 1]
            # Counted from the cycle after the start, residual layers take in even cycles.
            assert not any(transfer % distance for transfer in transfers)
            if not gaps:
                assert transfers == list(range(0, distance * count, distance))

    return Bench(dut=dut, testbenches=[drive])


KINDS = [
    ("double", Lane.LATENCY, 1),
    ("single", Lane.LATENCY, 1),
    ("residual", Lane.RESIDUAL_LATENCY, 2),
    ("raw", Lane.RAW_LATENCY, 1),
]


@pytest.mark.parametrize(("kind", "latency", "distance"), KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_values_and_latency_with_random_gaps(tmp_path, kind, latency, distance, seed):
    simulate(lambda rng: bench(rng, kind, latency, distance, gaps=True), seed=seed, folder=tmp_path)


@pytest.mark.parametrize(("kind", "latency", "distance"), KINDS)
@pytest.mark.parametrize("seed", [4])
def test_full_throughput(tmp_path, kind, latency, distance, seed):
    simulate(lambda rng: bench(rng, kind, latency, distance, gaps=False), seed=seed, folder=tmp_path)
