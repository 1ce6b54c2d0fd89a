import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.numerics import top2
from hw.rtl.control.exit_unit import ExitUnit
from tests.hw.simulate import Bench, reused, simulate

CONFIG = AcceleratorConfig(pes=2)
WIDEST = CONFIG.replace(accumulator_bits=32, classes=1024)


def extremes(config):
    bound = 1 << (config.accumulator_bits - 1)
    return -bound, bound - 1


def random_logits(rng, config, classes):
    low, high = extremes(config)
    kind = rng.choice(("wide", "ties", "negative", "equal", "rising", "falling"))
    if kind == "wide":
        return [rng.choice((low, high, rng.randint(low, high))) for _ in range(classes)]
    if kind == "equal":
        return [rng.randint(low, high)] * classes
    if kind == "negative":
        return [rng.randint(low, -1) for _ in range(classes)]
    few = [rng.randint(-3, 2) for _ in range(classes)]
    return {"ties": few, "rising": sorted(few), "falling": sorted(few, reverse=True)}[kind]


def bench(rng, config, heads):
    """(logits, values that follow them) head after head, with other layers between."""
    dut = reused(ExitUnit, config)
    low, high = extremes(config)

    async def start(ctx, raw, classes):
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.head.raw, raw)
        ctx.set(dut.head.classes, classes)
        await ctx.tick()

    async def drive(ctx):
        for logits, ignored in heads:
            best, margin = (int(value) for value in top2(np.array(logits)))
            await start(ctx, 1, len(logits))
            for number, logit in enumerate([*logits, *[rng.randint(low, high) for _ in range(ignored)]]):
                while rng.random() < 0.3:
                    ctx.set(dut.head.logits.valid, 0)
                    ctx.set(dut.head.logits.payload, rng.randint(low, high))
                    await ctx.tick()
                ctx.set(dut.head.logits.valid, 1)
                ctx.set(dut.head.logits.payload, logit)
                await ctx.tick()
                if number == len(logits) - 1:
                    ctx.set(dut.head.logits.valid, 0)
                    await ctx.tick().repeat(2)
                    assert (ctx.get(dut.result.label), ctx.get(dut.result.margin)) == (best, margin)
            ctx.set(dut.head.logits.valid, 0)
            # A layer that is no head changes nothing.
            await start(ctx, 0, 0)
            for address, logit in enumerate(logits):
                ctx.set(dut.read.address, address)
                await ctx.tick()
                assert ctx.get(dut.read.logit) == logit
            assert (ctx.get(dut.result.label), ctx.get(dut.result.margin)) == (best, margin)

    return Bench(dut=dut, testbenches=[drive])


@pytest.mark.parametrize("config", [CONFIG, WIDEST], ids=["28 bits", "32 bits"])
@pytest.mark.parametrize("seed", [1, 2])
def test_class_and_margin_equal_top2(tmp_path, seed, config):
    def build(rng):
        counts = [2, 3, 10, config.classes, *(rng.randint(2, config.classes) for _ in range(12))]
        return bench(rng, config, [(random_logits(rng, config, classes), rng.randrange(3)) for classes in counts])

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("config", [CONFIG, WIDEST], ids=["28 bits", "32 bits"])
def test_ties_and_extreme_margins(tmp_path, config):
    low, high = extremes(config)
    heads = [
        ([low, high], 0),
        ([high, low], 3),
        ([low, low], 1),
        ([high, high, high], 1),
        ([5, 7, 7, 5], 2),
        ([7, 5, 7], 0),
        ([-1, -1, -2], 0),
        ([low, low, high], 0),
    ]
    simulate(lambda rng: bench(rng, config, heads), seed=1, folder=tmp_path)
