import pytest

from hw.numerics import ADD_LEFT_SHIFT, Rounding, requantize
from hw.rtl.core.requantizer import Requantizer
from tests.hw.simulate import Bench, reused, simulate

ROUNDINGS = (Rounding.DOUBLE, Rounding.SINGLE)
LEAST, MOST = 1 << 30, (1 << 31) - 1


def pipeline(rng, width, lift, cases, bits=None):
    """One case enters per cycle; every result is due ``latency`` cycles later."""
    dut = reused(Requantizer, width=width, lift=lift, bits=bits)
    latency = Requantizer.latency(width)
    bits = bits or width + lift
    least, most = -1 << (bits - 1), (1 << (bits - 1)) - 1
    results = []

    async def drive(ctx):
        for cycle in range(len(cases) + latency):
            if cycle < len(cases):
                value, multiplier, shift, rounding = cases[cycle]
                factor = {"multiplier": multiplier, "shift": shift}
                fields = {"factor": factor, "double": rounding is Rounding.DOUBLE}
                ctx.set(dut.value, value)
                ctx.set(dut.scale, fields)
            _, _, o, up = await ctx.tick().sample(dut.o, dut.up)
            if cycle >= latency:
                results.append((o, up))

    def check():
        wrong = []
        for case, (o, up) in zip(cases, results, strict=True):
            expected = requantize(case[0] << lift, *case[1:])
            # At and beyond the ends of the range ``o`` is the number there, whatever ``up``.
            ends = {o == most} if expected > most else {o == least} if expected <= least else set()
            if False in ends or (not ends and o + up != expected):
                wrong.append((case, o, up))
        assert wrong == []

    return Bench(dut=dut, testbenches=[drive], check=check)


def near_ties(rng, shift):
    """Accumulators whose scaled value lies on a tie of either rounding step, and the integers around them."""
    for multiplier in (LEAST, MOST, rng.randint(LEAST, MOST)):
        for odd in (-3, -1, 1, 3, 2 * rng.randrange(-40, 40) + 1):
            centre = (odd << (30 + shift)) // multiplier
            for value in range(centre - 1, centre + 3):
                if -(1 << 31) <= value < 1 << 31:
                    yield value, multiplier


@pytest.mark.parametrize("shifts", [range(first, first + 8) for first in range(0, 32, 8)], ids=str)
def test_equal_around_ties_at_every_shift(tmp_path, shifts):
    def build(rng):
        cases = [
            (value, multiplier, shift, rounding)
            for shift in shifts
            for value, multiplier in near_ties(rng, shift)
            for rounding in ROUNDINGS
        ]
        rng.shuffle(cases)
        return pipeline(rng, 32, 0, cases)

    simulate(build, seed=1, folder=tmp_path)


def test_every_residue_of_small_shifts(tmp_path):
    """With the multiplier 2**30 a value's last bits decide alone: all of them, of both signs."""

    def build(rng):
        cases = [
            (value, LEAST, shift, rounding)
            for shift in range(6)
            for value in range(-(2 << shift), (2 << shift) + 1)
            for rounding in ROUNDINGS
        ]
        rng.shuffle(cases)
        return pipeline(rng, 32, 0, cases)

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("seed", [1, 2])
def test_edges_of_the_range_and_random_values(tmp_path, seed):
    def build(rng):
        edges = [sign * (1 << 31) + step for sign in (-1, 0, 1) for step in range(-2, 3)]
        values = [value for value in edges if -(1 << 31) <= value < 1 << 31]
        cases = [
            (value, multiplier, shift, rounding)
            for value in values
            for multiplier in (0, LEAST, LEAST + 1, MOST)
            for shift in (0, 1, rng.randrange(2, 30), 31)
            for rounding in ROUNDINGS
        ]
        cases += [
            (
                rng.randrange(-1 << 31, 1 << 31) >> rng.randrange(32),
                rng.randint(LEAST, MOST),
                rng.randrange(32),
                rounding,
            )
            for _ in range(300)
            for rounding in ROUNDINGS
        ]
        rng.shuffle(cases)
        return pipeline(rng, 32, 0, cases)

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_lifted_operand_of_every_value(tmp_path, rounding):
    """The ADD kernel's operands: all 9-bit values, each with several scales."""

    def build(rng):
        cases = []
        for value in range(-256, 256):
            cases += [(value, LEAST, rng.randrange(32), rounding), (value, MOST, rng.randrange(3), rounding)]
            cases += [(value, rng.randint(LEAST, MOST), rng.choice((0, 1, 19, 20, 21, 31)), rounding)]
        rng.shuffle(cases)
        return pipeline(rng, 9, ADD_LEFT_SHIFT, cases)

    simulate(build, seed=3, folder=tmp_path)


@pytest.mark.parametrize("width", [16, 17])
def test_widths_beside_the_multiplier_slice(tmp_path, width):
    def build(rng):
        half = 1 << (width - 1)
        values = [-half, 1 - half, -1, 0, 1, half - 1] + [rng.randrange(-half, half) for _ in range(100)]
        cases = [
            (value, rng.randint(LEAST, MOST), rng.randrange(32), rounding) for value in values for rounding in ROUNDINGS
        ]
        return pipeline(rng, width, 0, cases)

    simulate(build, seed=4, folder=tmp_path)


@pytest.mark.parametrize("bits", [2, 9, 10, 24, 31])
def test_results_that_need_more_bits(tmp_path, bits):
    """Around the ends of the range, on the inside and the outside, at every shift."""

    def build(rng):
        ends = (-1 << (bits - 1), (1 << (bits - 1)) - 1)
        cases = []
        for shift in range(32):
            for multiplier in (LEAST, MOST, rng.randint(LEAST, MOST)):
                for end in (*ends, rng.choice(ends) << rng.randrange(8)):
                    centre = (end << (31 + shift)) // multiplier
                    around = (max(-1 << 31, min((1 << 31) - 1, centre + step)) for step in (-2, -1, 0, 1, 2))
                    cases += [(value, multiplier, shift, rounding) for value in around for rounding in ROUNDINGS]
        rng.shuffle(cases)
        return pipeline(rng, 32, 0, cases, bits)

    simulate(build, seed=5, folder=tmp_path)


@pytest.mark.parametrize("bits", [1, 30])
def test_impossible_bits_are_refused(bits):
    with pytest.raises(ValueError, match=rf"bits must be from 2 to width \+ lift, 29, not {bits}"):
        Requantizer(width=9, lift=ADD_LEFT_SHIFT, bits=bits)


@pytest.mark.parametrize(("width", "lift"), [(33, 0), (0, 0), (13, ADD_LEFT_SHIFT)])
def test_impossible_widths_are_refused(width, lift):
    with pytest.raises(ValueError, match=rf"width \+ lift must be from 1 to 32, not {width} \+ {lift}"):
        Requantizer(width=width, lift=lift)
