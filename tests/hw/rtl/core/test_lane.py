import pytest

from hw.config import AcceleratorConfig
from hw.numerics import AddScales, Rounding, Scale, add, add_scales, clamp, quantize_scale, requantize
from hw.rtl.core.lane import Lane
from tests.hw.simulate import Bench, reused, simulate

CONFIG = AcceleratorConfig()
FAST = CONFIG.replace(fast_sums=1)


def random_code(rng):
    return rng.randint(-128, 127)


def random_steps(rng, count):
    """Accumulators with what belongs to their channels, and residual operands."""
    return [
        {
            "accumulator": rng.randrange(-bound, bound),
            "bias": rng.randrange(-20_000, 20_000),
            "scale": quantize_scale(2.0 ** rng.uniform(-14, -6)),
            "operand": rng.randint(-255, 255),
        }
        for bound in rng.choices([1 << 8, 1 << 15, 1 << 21, 1 << 26], k=count)
    ]


class Parameters:
    """Random fields of a layer, and what they make of an accumulator."""

    def __init__(self, rng):
        self.rounding = rng.choice(list(Rounding))
        self.offset, self.zero_point, self.own_zero, self.sum_offset = (random_code(rng) for _ in range(4))
        self.clamp, self.sum_clamp = ((rng.randint(-128, 0), rng.randint(0, 127)) for _ in range(2))
        self.scales = add_scales(rng.uniform(0.01, 1.0), rng.uniform(0.01, 1.0), rng.uniform(0.1, 2.0))

    def set(self, ctx, lane, *, residual):
        fields, low_high = lane.fields, zip(("clamp_low", "clamp_high"), self.clamp, strict=True)
        ctx.set(fields.double, self.rounding is Rounding.DOUBLE)
        ctx.set(fields.offset, self.offset)
        for name, value in low_high:
            ctx.set(getattr(fields, name), value)
        ctx.set(lane.zero_point, self.zero_point)
        values = {"enable": residual, "zero_point": self.own_zero, "offset": self.sum_offset}
        values |= dict(zip(("clamp_low", "clamp_high"), self.sum_clamp, strict=True))
        for name, scale in zip(("first", "second", "output"), self.scales, strict=True):
            values[name] = {"multiplier": scale.multiplier, "shift": scale.shift}
        ctx.set(lane.residual, values)

    def plain(self, step):
        biased = step["accumulator"] + step["bias"]
        return clamp(requantize(biased, *step["scale"], self.rounding) + self.offset, *self.clamp)

    def summed(self, step):
        total = add(self.plain(step) - self.own_zero, step["operand"], self.scales)
        return clamp(total + self.sum_offset, *self.sum_clamp)


def bench(rng, config, *, residual, scales=None):
    """Steps as close as they may be; each value is on its input in its own cycle only."""
    lane = reused(Lane, config)
    parameters = Parameters(rng)
    parameters.scales = scales or parameters.scales
    distance = 2 if residual and not config.fast_sums else 1
    latency = Lane.RESIDUAL_LATENCY if residual else Lane.LATENCY
    steps = random_steps(rng, 120)

    def stage(cycle, number):
        """The step that is ``number`` cycles old, or None."""
        index, rest = divmod(cycle - number, distance)
        return steps[index] if not rest and 0 <= index < len(steps) else None

    async def drive(ctx):
        parameters.set(ctx, lane, residual=residual)
        found, logits = [], []
        for cycle in range(distance * len(steps) + latency):
            now, before, adding = stage(cycle, 0), stage(cycle, 1), stage(cycle, Lane.LATENCY)
            ctx.set(lane.accumulator, now["accumulator"] if now else rng.randrange(1 << 20))
            ctx.set(lane.parameters.bias, before["bias"] if before else rng.randrange(1 << 20))
            multiplier, shift = before["scale"] if before else (rng.getrandbits(31), rng.getrandbits(5))
            ctx.set(lane.parameters.scale.multiplier, multiplier)
            ctx.set(lane.parameters.scale.shift, shift)
            ctx.set(lane.operand, adding["operand"] if adding else rng.randint(-255, 255))
            if residual:
                ctx.set(lane.stages.own, stage(cycle, Lane.LATENCY + 1) is not None)
                ctx.set(lane.stages.sum, stage(cycle, Lane.SUM - 1) is not None)
            if stage(cycle, Lane.RAW_LATENCY):
                logits.append(ctx.get(lane.logit))
            if stage(cycle, latency):
                found.append(ctx.get(lane.o))
            await ctx.tick()
        assert logits == [step["accumulator"] + step["bias"] for step in steps]
        finish = parameters.summed if residual else parameters.plain
        assert found == [finish(step) - parameters.zero_point for step in steps]

    return Bench(dut=lane, testbenches=[drive])


@pytest.mark.parametrize("config", [CONFIG, FAST], ids=["shared", "fast"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("seed", range(1, 5))
def test_values_and_latency(tmp_path, seed, residual, config):
    simulate(lambda rng: bench(rng, config, residual=residual), seed=seed, folder=tmp_path)


@pytest.mark.parametrize("config", [CONFIG, FAST], ids=["shared", "fast"])
def test_each_operand_is_rounded_by_itself(tmp_path, config):
    """Scaled to a few bits each, so that a rounding is seen in the sum."""
    scales = AddScales(quantize_scale(1.37 * 2.0**-19), quantize_scale(1.21 * 2.0**-19), quantize_scale(0.29))
    simulate(lambda rng: bench(rng, config, residual=True, scales=scales), seed=1, folder=tmp_path)


@pytest.mark.parametrize("config", [CONFIG, FAST], ids=["shared", "fast"])
def test_the_largest_operands_have_room(tmp_path, config):
    """Both as far from zero as they can be, and scaled by almost one: the sum has its full width."""
    most = Scale((1 << 31) - 1, 0)

    def build(rng):
        lane = reused(Lane, config)
        parameters = Parameters(rng)
        parameters.scales = AddScales(most, most, quantize_scale(2.0**-24))
        parameters.clamp = parameters.sum_clamp = (-128, 127)
        parameters.own_zero, parameters.sum_offset = -128, 0
        parameters.offset, parameters.rounding = 0, Rounding.SINGLE
        step = {"accumulator": 1 << 20, "bias": 0, "scale": quantize_scale(0.5), "operand": 255}
        assert parameters.plain(step) - parameters.own_zero == 255

        async def drive(ctx):
            parameters.set(ctx, lane, residual=True)
            ctx.set(lane.accumulator, step["accumulator"])
            ctx.set(lane.parameters.scale.multiplier, step["scale"].multiplier)
            ctx.set(lane.parameters.scale.shift, step["scale"].shift)
            ctx.set(lane.operand, step["operand"])
            for cycle in range(Lane.RESIDUAL_LATENCY):
                ctx.set(lane.stages.own, cycle == Lane.LATENCY + 1)
                ctx.set(lane.stages.sum, cycle == Lane.SUM - 1)
                await ctx.tick()
            assert ctx.get(lane.o) == parameters.summed(step) - parameters.zero_point == 32 - parameters.zero_point

        return Bench(dut=lane, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)
