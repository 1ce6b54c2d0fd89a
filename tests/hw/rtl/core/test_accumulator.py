import pytest
from amaranth.lib import memory

from hw.config import AcceleratorConfig
from hw.rtl.core.accumulator import AccumulatorUnit
from tests.hw.simulate import Bench, reused, simulate

CONFIG = AcceleratorConfig(pes=2, accumulators=64, accumulator_bits=28)
#: In block RAM, and in logic cells.
DEPTHS = (64, 32)
BUSY = 0.85


def model(accesses, maximum=False):
    """Values that the dumps emit, and the cycle of each dump; an access is None or a dict of step fields."""
    accumulators = [0] * max(DEPTHS)
    for cycle, access in enumerate(accesses):
        if access is None:
            continue
        address = access["address"]
        if access["dump"]:
            if access["emit"]:
                yield cycle, accumulators[address]
            accumulators[address] = 0
        else:
            added = access["value"] * access["weight"]
            accumulators[address] = max(accumulators[address], added) if maximum else accumulators[address] + added


def product(address, value, weight):
    return {"dump": 0, "emit": 0, "address": address, "value": value, "weight": weight}


def dump(address, emit=1):
    """With a product beside it, which doesn't count."""
    return {"dump": 1, "emit": emit, "address": address, "value": -77, "weight": 99}


def unit(config, colliding_read):
    """One for each way of the memories, which :func:`colliding_read` makes."""
    return AccumulatorUnit(config)


def bench(rng, accesses, config=CONFIG, maximum=False, colliding_read="old"):
    dut = reused(unit, config, colliding_read)
    emitted = []
    addresses = sorted({access["address"] for access in accesses if access})

    async def drive(ctx):
        ctx.set(dut.max_pool, maximum)
        for cycle, access in enumerate([*accesses, *[None] * (dut.LATENCY + 1)]):
            ctx.set(dut.i.valid, access is not None)
            # What travels in an empty cycle must not matter, least of all at an address in use.
            empty = rng.choice((product, lambda address, *_: dump(address)))
            ctx.set(dut.i.payload, access or empty(rng.choice(addresses), rng.randrange(256), rng.randrange(128)))
            _, _, valid, value = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                emitted.append((cycle - dut.LATENCY, value))

    def check():
        assert emitted == list(model(accesses, maximum))

    return Bench(dut=dut, testbenches=[drive], check=check)


def random_accesses(rng, addresses, dumps, depth, count=700, maximum=False):
    places = rng.sample(range(depth), addresses)
    for _ in range(count):
        if rng.random() > BUSY:
            yield None
        elif rng.random() < dumps:
            yield dump(rng.choice(places), emit=rng.random() < 0.8)
        elif maximum:
            # Few values, so that equal and neighbouring ones meet, and all of them.
            yield product(rng.choice(places), rng.choice((0, 1, 127, 128, 254, 255, rng.randrange(256))), 1)
        else:
            yield product(rng.choice(places), rng.randrange(-255, 256), rng.randrange(-128, 128))
    for place in places:
        yield dump(place)


@pytest.fixture(params=["old", "new"])
def colliding_read(request, monkeypatch):
    """What a read returns that meets a write to its address. Hardware leaves it open, so neither may matter."""
    if request.param == "new":
        writers, original_write, original_read = {}, memory.Memory.write_port, memory.Memory.read_port

        def write_port(self):
            return writers.setdefault(id(self), original_write(self))

        def read_port(self, domain="sync"):
            colliding = () if domain == "comb" else (writers[id(self)],)
            return original_read(self, domain=domain, transparent_for=colliding)

        monkeypatch.setattr(memory.Memory, "write_port", write_port)
        monkeypatch.setattr(memory.Memory, "read_port", read_port)
    return request.param


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("addresses", "dumps"), [(1, 0.3), (2, 0.3), (4, 0.1), (6, 0.5)])
def test_accesses_see_all_before_them(tmp_path, colliding_read, seed, addresses, dumps, depth):
    def build(rng):
        config = CONFIG.replace(accumulators=depth)
        accesses = list(random_accesses(rng, addresses, dumps, depth))
        return bench(rng, accesses, config, colliding_read=colliding_read)

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("addresses", "dumps"), [(1, 0.3), (2, 0.3), (4, 0.1), (6, 0.5)])
def test_maxima_see_all_before_them(tmp_path, colliding_read, seed, addresses, dumps, depth):
    def build(rng):
        config = CONFIG.replace(accumulators=depth)
        accesses = list(random_accesses(rng, addresses, dumps, depth, maximum=True))
        return bench(rng, accesses, config, maximum=True, colliding_read=colliding_read)

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_pair_of_values_has_its_maximum(tmp_path, depth):
    """In a unit of the narrowest accumulators: all pairs that differ by one bit or by one, and the ends."""
    near = [(a, b) for a in range(256) for b in {a, a + 1, 0, 255, *(a ^ 1 << bit for bit in range(8))} if b < 256]
    config = CONFIG.replace(accumulator_bits=20, accumulators=depth)

    def build(rng):
        accesses = []
        for pair in near:
            place = rng.randrange(config.accumulators)
            accesses += [*(product(place, value, 1) for value in pair), dump(place)]
        assert [value for _, value in model(accesses, maximum=True)] == [max(pair) for pair in near]
        return bench(rng, accesses, config, maximum=True)

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("maximum", [False, True])
def test_every_pair_at_every_distance(tmp_path, colliding_read, maximum, depth):
    """Product or dump, then product or dump of the same address 1 to 6 cycles later, with others or nothing between."""

    def build(rng):
        accesses = []
        for first in ("product", "dump"):
            for second in ("product", "dump"):
                for distance in range(1, 7):
                    for between in (None, product(9, 15, 1)):
                        weight = 1 if maximum else rng.randrange(1, 128)
                        kinds = {"product": product(5, rng.randrange(1, 256), weight), "dump": dump(5)}
                        accesses += [product(5, 77, 1), *[None] * 6, kinds[first], *[between] * (distance - 1)]
                        accesses += [kinds[second], *[None] * 6, dump(5), dump(9)]
        config = CONFIG.replace(accumulators=depth)
        return bench(rng, accesses, config, maximum=maximum, colliding_read=colliding_read)

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("depth", DEPTHS)
def test_extreme_sums(tmp_path, depth):
    """To both ends of the narrowest accumulator, in the largest steps there are and the rest in one."""
    config = CONFIG.replace(accumulator_bits=20, accumulators=depth)
    steps, rest = divmod(1 << (config.accumulator_bits - 1), 255 * 128)
    ends = [
        [product(3, 255, -128)] * steps + [product(3, -1, 127)] * (rest // 127) + [product(3, -1, rest % 127)],
        [product(3, -255, -128)] * steps + [product(3, 1, 127)] * (rest // 127) + [product(3, 1, rest % 127 - 1)],
    ]

    def build(rng):
        accesses = [access for end in ends for access in (*end, dump(3))]
        assert [value for _, value in model(accesses)] == [-(1 << 19), (1 << 19) - 1]
        return bench(rng, accesses, config)

    simulate(build, seed=1, folder=tmp_path)
