from dataclasses import dataclass

import pytest
from amaranth import Module, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, connect, flipped

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.numerics import Rounding, Scale, add, add_scales, clamp, quantize_scale, requantize
from hw.rtl.core.lanes import Lanes
from hw.rtl.records import WORD
from tests.hw.maps import pack
from tests.hw.simulate import Bench, always, reused, seldom, simulate

WORDS, CHANNELS = 128, 64


def sizes(pes, lanes, kind="single"):
    """Of a config that has what such a layer needs."""
    fast = int(kind == "fast residual")
    return AcceleratorConfig(pes=pes, lanes=lanes, channel_words=CHANNELS, activation_words=WORDS, fast_sums=fast)


BOUND = 1 << (sizes(8, 1).accumulator_bits - 1)


@dataclass(frozen=True)
class Layer:
    """A layer's last part: parameters of its channels, fields of the instruction, zero point of what it writes."""

    channels: int
    positions: int
    biases: list[int]
    scales: list[Scale]
    double: bool
    raw: bool
    slow: bool
    channel_base: int
    offset: int
    clamp: tuple[int, int]
    target: dict
    zero_point: int
    residual: dict | None
    add_scales: object = None

    @property
    def fields(self):
        return {
            "outputs": self.channels * self.positions,
            "channel_base": self.channel_base // WORD_CHANNELS,
            "channels": self.channels,
            "raw": self.raw,
            "classes": 0,
            "slow": self.slow,
            "double": self.double,
            "offset": self.offset,
            "clamp_low": self.clamp[0],
            "clamp_high": self.clamp[1],
        }

    @property
    def residual_fields(self):
        if self.residual is None:
            return {"enable": 0}
        fields = dict(self.residual)
        for name, scale in zip(("first", "second", "output"), self.add_scales, strict=True):
            fields[name] = {"multiplier": scale.multiplier, "shift": scale.shift}
        return fields

    def results(self, accumulators, operands):
        """What leaves, in order; ``operands`` are the words of the other bank."""
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
                word, place = divmod(channel, WORD_CHANNELS)
                row, column = divmod(position, self.target["columns"])
                first = residual["base"] + row * self.target["row_pitch"] + column * self.target["column_pitch"]
                other = operands[first + word][place]
                total = add(code - residual["zero_point"], other, self.add_scales)
                code = clamp(total + residual["offset"], residual["clamp_low"], residual["clamp_high"])
            yield code - self.zero_point


def random_clamp(rng):
    return rng.choice(((-128, 127), (rng.randint(-128, 0), rng.randint(0, 127))))


def random_layer(rng, kind, slow):
    words, positions = rng.randint(1, 4), rng.randint(2, 6)
    channels = words * WORD_CHANNELS
    residual = scales = None
    zero_point = rng.randint(-128, 127)
    if kind.endswith("residual"):
        low, high = random_clamp(rng)
        residual = {
            "enable": 1,
            "bank": 1,
            "base": rng.randrange(50),
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
        slow=slow,
        channel_base=rng.randrange(0, CHANNELS - channels + 1, WORD_CHANNELS),
        offset=rng.randint(-128, 127),
        clamp=random_clamp(rng),
        target={
            "row_pitch": rng.randrange(9),
            "column_pitch": words + rng.randrange(5),
            "columns": rng.randint(1, positions),
            "zero_point": zero_point,
        },
        zero_point=zero_point,
        residual=residual,
        add_scales=scales,
    )


class Surroundings(wiring.Component):
    """Lanes with the memories they read."""

    def __init__(self, config):
        self.lanes = Lanes(config)
        rows = CHANNELS // config.lanes
        self.biases, self.multipliers, self.shifts = (
            [memory.MemoryData(shape=shape, depth=rows, init=[]) for _ in range(config.lanes)]
            for shape in (signed(32), 31, 5)
        )
        self.operands = memory.MemoryData(shape=WORD.size, depth=WORDS, init=[])
        super().__init__({"i": In(stream.Signature(signed(config.accumulator_bits))).array(config.pes)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.lanes = lanes = self.lanes

        def port(name, contents, address):
            m.submodules[name] = ram = memory.Memory(contents)
            read = ram.read_port()
            m.d.comb += [read.addr.eq(address), read.en.eq(1)]
            return read.data

        for name, contents in (("bias", self.biases), ("multiplier", self.multipliers), ("shift", self.shifts)):
            for lane, ram in enumerate(contents):
                parameters = lanes.parameters[lane]
                field = parameters.bias if name == "bias" else parameters.scale[name]
                m.d.comb += field.eq(port(f"{name}_{lane}", ram, lanes.channel_address))
        operand = Signal(WORD.size)
        m.d.sync += operand.eq(port("operands", self.operands, lanes.residual_address))
        m.d.comb += lanes.operand.eq(operand)
        for outside, inside in zip(self.i, lanes.i, strict=True):
            connect(m, flipped(outside), inside)
        return m

    def contents(self, layer, operands):
        """What the memories hold for a layer: every lane has its part of the channels."""
        before, after = layer.channel_base, CHANNELS - layer.channel_base - layer.channels
        multipliers, shifts = zip(*layer.scales, strict=True)
        found = {self.operands: [pack(word) for word in operands]}
        for rams, values in ((self.biases, layer.biases), (self.multipliers, multipliers), (self.shifts, shifts)):
            everything = [1] * before + list(values) + [1] * after
            found |= {ram: everything[lane :: len(rams)] for lane, ram in enumerate(rams)}
        return found


def bench(rng, config, kind, latency, *, slow, gaps):
    """The layer twice, with or without gaps before the PEs' accumulators."""
    layer = random_layer(rng, kind, slow)
    operands = [tuple(rng.randrange(-255, 256) for _ in range(WORD_CHANNELS)) for _ in range(WORDS)]
    dut = reused(Surroundings, config)
    lanes, width = dut.lanes, config.lanes
    count = layer.channels * layer.positions
    distance = 2 if slow else 1
    # Values around what the scales bring into the range of a code, and some far outside.
    reach = [1 << 8, 1 << 15, 1 << 21, BOUND - 20_000]
    data = [[rng.randrange(-bound, bound) for bound in rng.choices(reach, k=count)] for _ in range(2)]

    async def drive(ctx):
        ctx.set(lanes.layer.fields, layer.fields)
        ctx.set(lanes.layer.residual, layer.residual_fields)
        ctx.set(lanes.layer.target, layer.target)
        for accumulators in data:
            # PE p holds every pes-th accumulator.
            queues = [accumulators[pe :: config.pes][::-1] for pe in range(config.pes)]
            go = [seldom(rng, rng.choice((0.1, 0.3, 0.9))) if gaps else always() for _ in range(config.pes)]
            offered = [False] * config.pes
            steps, results, leaving, done = [], [], [], []
            turn, cycle = 0, 0
            ctx.set(lanes.layer.start, 1)
            await ctx.tick()
            ctx.set(lanes.layer.start, 0)
            while not done or cycle < done[0] + 40:
                for pe, queue in enumerate(queues):
                    # An offer stays until it is taken.
                    offered[pe] = bool(queue) and (offered[pe] or next(go[pe]))
                    ctx.set(dut.i[pe].valid, offered[pe])
                    if offered[pe]:
                        ctx.set(dut.i[pe].payload, queue[-1])
                _, _, *sampled = await ctx.tick().sample(
                    lanes.o.valid,
                    lanes.o.payload,
                    lanes.logit.valid,
                    lanes.logit.payload,
                    lanes.layer.done,
                    *(source.ready for source in dut.i),
                )
                valid, values, logit_valid, logit, finished, *ready = sampled
                assert not (logit_valid if kind != "raw" else valid)
                if valid or logit_valid:
                    results += [logit] if logit_valid else [values[lane] for lane in range(width)]
                    leaving.append(cycle)
                if finished:
                    done.append(cycle)
                taken = [pe for pe in range(config.pes) if ready[pe] and offered[pe]]
                group = list(range(turn, turn + width))
                # A step as soon as there may be one: the next PEs', all together or none.
                complete = all(offered[pe] for pe in group) and cycle % distance == 0
                assert taken == (group if complete else [])
                if complete:
                    steps.append(cycle)
                    turn = (turn + width) % config.pes
                for pe in taken:
                    queues[pe].pop()
                    offered[pe] = False
                cycle += 1
            assert results == list(layer.results(accumulators, operands))
            if kind == "raw":
                assert leaving == [step + latency + lane for step in steps for lane in range(width)]
            else:
                assert leaving == [step + latency for step in steps]
            assert done == [leaving[-1] + 1]
            if not gaps:
                assert steps == list(range(0, distance * count // width, distance))

    return Bench(dut=dut, testbenches=[drive], memories=dut.contents(layer, operands))


KINDS = [
    ("double", Lanes.LATENCY, 1, False),
    ("double", Lanes.LATENCY, 2, False),
    ("double", Lanes.LATENCY, 2, True),
    ("single", Lanes.LATENCY, 1, False),
    ("single", Lanes.LATENCY, 2, False),
    ("residual", Lanes.RESIDUAL_LATENCY, 1, True),
    ("residual", Lanes.RESIDUAL_LATENCY, 2, True),
    ("fast residual", Lanes.RESIDUAL_LATENCY, 1, False),
    ("fast residual", Lanes.RESIDUAL_LATENCY, 1, True),
    ("fast residual", Lanes.RESIDUAL_LATENCY, 2, False),
    ("raw", Lanes.RAW_LATENCY, 1, False),
    ("raw", Lanes.RAW_LATENCY, 1, True),
    ("raw", Lanes.RAW_LATENCY, 2, True),
]


@pytest.mark.parametrize(("kind", "latency", "lanes", "slow"), KINDS)
@pytest.mark.parametrize(("pes", "seed"), [(4, 1), (8, 2)])
def test_values_and_latency_with_random_gaps(tmp_path, kind, latency, lanes, slow, pes, seed):
    config = sizes(pes, lanes, kind)
    simulate(lambda rng: bench(rng, config, kind, latency, slow=slow, gaps=True), seed=seed, folder=tmp_path)


@pytest.mark.parametrize(("kind", "latency", "lanes", "slow"), KINDS)
@pytest.mark.parametrize(("pes", "seed"), [(2, 3), (8, 4)])
def test_full_throughput(tmp_path, kind, latency, lanes, slow, pes, seed):
    config = sizes(pes, lanes, kind)
    simulate(lambda rng: bench(rng, config, kind, latency, slow=slow, gaps=False), seed=seed, folder=tmp_path)
