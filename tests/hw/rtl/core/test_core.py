"""A core that the test tells what to do makes of every layer its words and logits, as the machine in Python does."""

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT, Network
from hw.program.instructions import CoreLayer
from hw.program.isa import Opcode
from hw.program.program import Program
from hw.rtl.core.core import Core
from hw.rtl.exchange import Exchange
from sim import simulate as simulated
from tests.hw.machine import Machine, map_words
from tests.hw.simulate import Bench, reused, simulate
from tests.random_networks import NetworkMaker

CONFIG = preset("tiny").replace(
    selector=0, pes=2, list_words=512, layer_words=256, activation_words=64, accumulators=64
)


def small() -> Network:
    """A block, a pool of channels of their own, and a head; of random codes, maps hold many values."""
    maker = NetworkMaker(np.random.default_rng(28), (3, 2, 2))
    here = maker.block(maker.conv(INPUT, 3, (2, 2), pads=(1, 0, 0, 1), density=0.8), density=0.3)
    maker.head(maker.average_pool(here, (2, 1), (1, 1)), 3)
    return maker.network("small")


class Bus:
    """What one core hears and says: everything goes through here, and words of others come when they like."""

    def __init__(self, rng, core, number):
        self._rng, self._core, self._number = rng, core, number
        self.words, self.logits = [], []
        self.products = self.busy = 0
        self._coming = []

    async def tick(self, ctx):
        """One cycle; own words come back as late as an exchange may bring them."""
        core = self._core
        arriving = next((word for word in self._coming if word[0] <= 0), None)
        if arriving:
            self._coming.remove(arriving)
            ctx.set(core.i.payload, arriving[1])
        ctx.set(core.i.valid, bool(arriving))
        _, _, made, word, logit, value, products, done = await ctx.tick().sample(
            core.o.valid,
            core.o.payload,
            core.head.logits.valid,
            core.head.logits.payload,
            core.state.products,
            core.state.done,
        )
        self._coming = [(left - 1, payload) for left, payload in self._coming]
        if made:
            values = list(word.values)
            self.words.append((word.index, values))
            self.send(word.index, values, of_image=0, wait=Exchange.longest(CONFIG, True) - 2)
        self.logits += [value] * logit
        self.products += products
        self.busy += not done

    def send(self, index, values, *, of_image, wait=0):
        self._coming.append((wait, {"of_image": of_image, "word": {"index": index, "values": values}}))

    async def empty(self, ctx):
        while self._coming:
            await self.tick(ctx)
        for _ in range(4):
            await self.tick(ctx)

    async def load(self, ctx, program):
        """Its words; then other ones of another core, which it must not take."""
        for memory, core, words in sorted(program.writes(), key=lambda write: write[1] != self._number):
            mine = core == self._number
            for address, word in enumerate((words if mine else ~words[:2]).tolist()):
                payload = {"core": core, "memory": memory, "address": address, "data": word}
                ctx.set(self._core.load.payload, payload)
                ctx.set(self._core.load.valid, 1)
                await ctx.tick()
        ctx.set(self._core.load.valid, 0)
        await ctx.tick().repeat(3)

    async def fetch(self, ctx, address, *, window=0):
        control = self._core.control
        ctx.set(control.fetch_address, address)
        ctx.set(control.fetch_window, window)
        ctx.set(control.fetch, 1)
        await self.tick(ctx)
        ctx.set(control.fetch, 0)
        while not ctx.get(self._core.state.fetched):
            await self.tick(ctx)
        await self.tick(ctx)

    async def pulse(self, ctx, signal):
        ctx.set(signal, 1)
        await self.tick(ctx)
        ctx.set(signal, 0)


def own(core: CoreLayer, before: int) -> slice:
    """Words that a core makes in a layer, among those of all cores."""
    return slice(before, before + core.lane.outputs // 8 * core.enable)


async def run(ctx, bus, core, program: Program, number: int, codes: np.ndarray) -> list[tuple[int, int]]:
    """One image through all layers; returns the busy cycles and products of each."""
    decoded, network = program.decoded, program.network
    await bus.fetch(ctx, decoded.header.image_window, window=1)
    for index, word in enumerate(map_words(codes.astype(int) - decoded.header.image_zero_point)):
        bus.send(index, word.tolist(), of_image=1)
    await bus.empty(ctx)
    counts = []
    ran = iter(Machine(program.images, program.config).run(codes).layers)
    for turn, instruction in enumerate(decoded.instructions):
        if instruction.op is not Opcode.LAYER:
            continue
        outcome, described = next(ran), instruction.cores
        await bus.fetch(ctx, instruction.target)
        bus.words, bus.logits, bus.products, bus.busy = [], [], 0, 0
        if turn % 2:  # the start waits for lists
            await bus.pulse(ctx, core.control.take)
            await ctx.tick().repeat(turn)
        else:
            ctx.set(core.control.take, 1)
        await bus.pulse(ctx, core.control.start)
        ctx.set(core.control.take, 0)
        before = sum(each.lane.outputs // 8 * each.enable for each in described[:number])
        mine = own(described[number], before)
        raw = described[number].enable and described[number].lane.raw
        # Words of the other core come meanwhile, and behind.
        for place, (index, word) in enumerate(zip(outcome.numbers.tolist(), outcome.values.tolist(), strict=True)):
            if not mine.start <= place < mine.stop and not any(each.lane.raw for each in described):
                bus.send(index, word, of_image=0, wait=place)
        await bus.tick(ctx)
        while not ctx.get(core.state.done):
            await bus.tick(ctx)
        counts.append((bus.busy, bus.products))
        await bus.empty(ctx)
        made = list(zip(outcome.numbers[mine].tolist(), outcome.values[mine].tolist(), strict=True))
        if raw:
            assert bus.logits[: network.classes] == outcome.values.reshape(-1)[: network.classes].tolist()
        else:
            assert bus.words == made, instruction.index
        assert ctx.get(core.head.raw) == raw or not described[number].enable
    return counts


@pytest.mark.parametrize(("cores", "number"), [(1, 0), (2, 1)])
def test_a_core_makes_its_part_of_every_layer(tmp_path, cores, number):
    config: AcceleratorConfig = CONFIG.replace(cores=cores)
    network = small()
    program = compile_network(network, config)
    codes = np.random.default_rng(1).integers(-128, 128, network.input.shape).astype(np.int8)

    def build(rng):
        core = reused(Core, config)
        bus = Bus(rng, core, number)

        async def drive(ctx):
            ctx.set(core.number, number)
            await bus.pulse(ctx, core.control.reset)
            await bus.tick(ctx)
            await bus.tick(ctx)
            while ctx.get(core.state.clearing):
                await bus.tick(ctx)
            await bus.load(ctx, program)
            counts = await run(ctx, bus, core, program, number, codes)
            if cores == 1:
                found = simulated(program, codes[None])
                # The sequencer sees a cycle later that a core is done, and ends the layer in the next.
                assert [busy + 2 for busy, _ in counts] == found.layer_cycles[0].tolist()
                assert [products for _, products in counts] == found.products[0].tolist()

        return Bench(dut=core, testbenches=[drive])

    simulate(build, seed=number, folder=tmp_path)
