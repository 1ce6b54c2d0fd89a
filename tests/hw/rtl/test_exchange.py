import pytest

from hw.config import PRESETS, WORD_CHANNELS, AcceleratorConfig
from hw.rtl.exchange import Exchange
from sim.timing import takes_images
from tests.hw.simulate import Bench, reused, simulate

ROUND = 4


def everywhere_modes(cores):
    return (0, 1) if cores >= ROUND else (1,)


def random_word(rng):
    return {"index": rng.randrange(1 << 16), "values": [rng.randrange(-255, 256) for _ in range(WORD_CHANNELS)]}


def plain(word):
    """A word as the simulator shows it, in a form that compares."""
    return word.index, tuple(word.values[channel] for channel in range(WORD_CHANNELS))


def next_turn(cycle, turn, period):
    """First cycle after this one that is ``turn`` in its period."""
    return cycle + 1 + (turn - cycle - 1) % period


def deliveries(made, everywhere, cores):
    """Per core, what it must get and when: [(cycle, word)]. ``made`` is [(cycle, core, word)] of one layer."""
    wanted = [[] for _ in range(cores)]
    for cycle, core, word in made:
        entry = (word["index"], tuple(word["values"]))
        if everywhere:
            for target in wanted:
                target.append((next_turn(cycle, core, cores) + 2, entry))
        else:
            for turn, reader in enumerate((core, core + 1, core - 1)):
                if 0 <= reader < cores:
                    wanted[reader].append((next_turn(cycle, turn, ROUND) + 1, entry))
    return [sorted(target) for target in wanted]


def bench(rng, config, *, gaps, layers):
    """Several layers: every core makes words, as often as it may or more seldom. Cycles count from ``start``."""
    dut = reused(Exchange, config)
    cores = config.cores
    latest = []

    async def drive(ctx):
        ctx.set(dut.image.layer, 1)
        for everywhere in layers:
            distance = cores if everywhere else ROUND
            ctx.set(dut.everywhere, everywhere)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            due = [rng.randint(1, 20) for _ in range(cores)]
            made, found = [], [[] for _ in range(cores)]
            for cycle in range(1, 180):
                for core, source in enumerate(dut.i):
                    now = cycle == due[core] and cycle < 160
                    # What lies on a stream without a word must not matter.
                    word = random_word(rng)
                    ctx.set(source.valid, now)
                    ctx.set(source.payload, word)
                    if now:
                        made.append((cycle, core, word))
                        due[core] += distance + (rng.choice((0, rng.randrange(12))) if gaps else 0)
                for target, record in zip(dut.o, found, strict=True):
                    if ctx.get(target.valid):
                        record.append((cycle, plain(ctx.get(target.payload.word))))
                await ctx.tick()
            wanted = deliveries(made, everywhere, cores)
            assert found == wanted
            # One word a cycle at most, none twice, none lost.
            for record in wanted:
                assert len({cycle for cycle, _ in record}) == len(record)
            sent = {(word["index"], tuple(word["values"])): cycle for cycle, _, word in made}
            assert len(sent) == len(made)
            latest.append(max(cycle - sent[word] for record in found for cycle, word in record))
            for _ in range(rng.randrange(5)):
                await ctx.tick()

    def check():
        assert max(latest) <= max(Exchange.longest(config, bool(everywhere)) for everywhere in layers)

    return Bench(dut=dut, testbenches=[drive], check=check), latest


OTHERS = ((1, False), (2, False), (2, True))


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize(("seed", "gaps"), [(1, True), *(pytest.param(*c, marks=pytest.mark.slow) for c in OTHERS)])
def test_every_core_gets_what_it_may_need_once_and_in_time(tmp_path, seed, gaps, cores):
    modes = everywhere_modes(cores)
    layers = [modes[number % len(modes)] for number in range(4)]
    simulate(
        lambda rng: bench(rng, AcceleratorConfig(cores=cores), gaps=gaps, layers=layers)[0], seed=seed, folder=tmp_path
    )


@pytest.mark.parametrize(
    ("cores", "everywhere"),
    [(2, 1), (4, 1), (4, 0), (8, 0), *(pytest.param(n, 1, marks=pytest.mark.slow) for n in (1, 8))],
)
def test_the_longest_way_is_as_long_as_stated(tmp_path, cores, everywhere):
    config = AcceleratorConfig(cores=cores)

    def build(rng):
        result, latest = bench(rng, config, gaps=True, layers=[everywhere] * 2)

        def check():
            assert max(latest) == Exchange.longest(config, bool(everywhere))

        return Bench(dut=result.dut, testbenches=result.testbenches, check=check)

    simulate(build, seed=3, folder=tmp_path)


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_an_image_goes_to_all_cores_a_word_a_cycle(tmp_path, cores):
    def build(rng):
        dut = reused(Exchange, AcceleratorConfig(cores=cores))
        words = [random_word(rng) if rng.random() < 0.8 else None for _ in range(100)]

        async def drive(ctx):
            ctx.set(dut.everywhere, rng.randrange(2))
            found, marks = [[] for _ in range(cores)], []
            for word in [*words, *[None] * 10]:
                ctx.set(dut.image.words.valid, word is not None)
                ctx.set(dut.image.words.payload, word or random_word(rng))
                _, _, *outputs = await ctx.tick().sample(
                    *(signal for target in dut.o for signal in (target.valid, target.payload))
                )
                marks.append(outputs[1].of_image)
                for core in range(cores):
                    valid, payload = outputs[2 * core : 2 * core + 2]
                    found[core].append(plain(payload.word) if valid else None)
            wanted = [word and (word["index"], tuple(word["values"])) for word in words]
            wanted = [None] * Exchange.IMAGE_LATENCY + wanted + [None] * (10 - Exchange.IMAGE_LATENCY)
            assert found == [wanted] * cores
            assert marks == [word is not None for word in wanted]

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize(("cores", "everywhere"), [(1, 1), (2, 1), (4, 0), pytest.param(8, 0, marks=pytest.mark.slow)])
def test_an_image_goes_through_a_layer_and_changes_nothing_for_it(tmp_path, cores, everywhere):
    """Cores make words as fast as two lanes can, or more seldom; the image comes as fast as it may, or more seldom."""
    config = AcceleratorConfig(cores=cores, lanes=2)

    def build(rng):
        dut = reused(Exchange, config)
        distance = WORD_CHANNELS // config.lanes

        async def drive(ctx):
            ctx.set(dut.everywhere, everywhere)
            for often in (True, False):
                ctx.set(dut.image.layer, 1)
                ctx.set(dut.start, 1)
                await ctx.tick()
                ctx.set(dut.start, 0)
                due, next_image = [rng.randint(1, 20) for _ in range(cores)], rng.randint(0, 5)
                made, image, found, marked = [], [], [[] for _ in range(cores)], []
                for cycle in range(1, 300):
                    for core, source in enumerate(dut.i):
                        now, word = cycle == due[core] and cycle < 260, random_word(rng)
                        ctx.set(source.valid, now)
                        ctx.set(source.payload, word)
                        if now:
                            made.append((cycle, core, word))
                            due[core] += distance + (0 if often else rng.randrange(9))
                    now, word = cycle >= next_image and cycle < 260, random_word(rng)
                    ctx.set(dut.image.words.valid, now)
                    ctx.set(dut.image.words.payload, word)
                    if now:
                        image.append((cycle, (word["index"], tuple(word["values"]))))
                        next_image = cycle + Exchange.IMAGE_DISTANCE + (0 if often else rng.randrange(9))
                    for target, record in zip(dut.o, found, strict=True):
                        if ctx.get(target.valid):
                            came = ctx.get(target.payload)
                            (marked if came.of_image else record).append((cycle, plain(came.word)))
                    await ctx.tick()
                assert found == deliveries(made, everywhere, cores)
                # Every core gets the image's words, in order, each in time.
                assert [word for _, word in marked] == [word for _, word in image for _ in range(cores)]
                latest = Exchange.IMAGE_LATENCY + Exchange.IMAGE_DISTANCE
                for (sent, _), (came, _) in zip(image, marked[::cores], strict=True):
                    assert Exchange.IMAGE_LATENCY <= came - sent <= latest

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=cores, folder=tmp_path)


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
def test_where_images_find_room(cores, tmp_path):
    """None in layers of four cores or more that send their words everywhere; the simulator counts on the same."""
    config = AcceleratorConfig(cores=cores)

    def build(rng):
        dut = reused(Exchange, config)

        async def drive(ctx):
            for everywhere in (False, True):
                ctx.set(dut.everywhere, everywhere)
                ctx.set(dut.image.layer, 1)
                await ctx.tick()
                assert ctx.get(dut.image.room) == takes_images(config, everywhere) == (cores < ROUND or not everywhere)
                ctx.set(dut.image.layer, 0)
                await ctx.tick()
                assert ctx.get(dut.image.room)

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=cores, folder=tmp_path)


@pytest.mark.parametrize("config", [*PRESETS.values(), AcceleratorConfig(cores=4, lanes=2)])
def test_lanes_never_make_words_faster_than_they_go(config):
    """The distance of a core's words is that of the contract, for fast and for slow layers."""
    fast, slow = WORD_CHANNELS // config.lanes, 2 * WORD_CHANNELS // config.lanes
    assert (slow if config.slow_exchange else fast) >= config.cores
    if config.cores >= ROUND:
        assert fast >= ROUND
