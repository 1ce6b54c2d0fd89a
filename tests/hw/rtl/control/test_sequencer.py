import pytest
from amaranth import ResetInserter, Signal

from hw.program.bits import decode, encode, words_of
from hw.program.isa import Header
from hw.program.protocol import ErrorCode, LayerRecord, Reply, RunOptions, RunResult
from hw.rtl.control.sequencer import Sequencer
from tests.hw.rtl.control.test_image_packer import words_of_image
from tests.hw.sequencer_bench import (
    CONFIG,
    NO_FLAGS,
    REPORT,
    STEP,
    Cores,
    Records,
    Surroundings,
    idle,
    prepare,
    random_program,
    run,
    select,
    send_run,
    spent,
    unpack,
)
from tests.hw.simulate import Bench, reused, simulate


@pytest.mark.parametrize(
    ("cores", "share"),
    [
        *((1, 1.0), (2, 0.2)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 0.2), (2, 1.0), (8, 1.0), (8, 0.2))),
    ],
)
def test_runs_leave_where_the_margin_says_and_count_their_cycles(tmp_path, cores, share):
    """Margins around the threshold; neither reports, pauses nor a slow host change the count of cycles."""

    def build(rng):
        program = random_program(rng)
        dut = reused(Surroundings, cores)
        sequencer = dut.sequencer
        core, records = Cores(rng, sequencer, cores), Records(rng, sequencer, share)

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            threshold = program.exits[0].threshold
            margins = (threshold - 1, threshold, 0, (1 << 32) - 1)
            for flags in (NO_FLAGS, REPORT, STEP):
                for margin in margins:
                    label = rng.randrange(256)
                    ctx.set(sequencer.head.margin, margin)
                    ctx.set(sequencer.head.label, label)
                    for record in (records.found, core.layers, core.counters, core.codes):
                        record.clear()
                    tag = rng.randrange(1 << 16)
                    codes = await run(ctx, rng, sequencer, program, flags, tag=tag)
                    assert core.window == program.image_window
                    exits = margin >= threshold
                    head = program.exits[0 if exits else 1]
                    layers = 1 if exits else 3
                    words = words_of_image(codes, program.image_channels, program.zero_point)
                    assert core.codes == [[values for _, values in words]]
                    assert core.layers == program.layers[:layers]
                    *reports, result = records.found
                    assert [record[:3] for record in reports] == (
                        [(Reply.LAYER, ErrorCode.NONE, words_of(LayerRecord))] * layers if flags["report"] else []
                    )
                    for number, (record, counted) in enumerate(zip(reports, core.counters, strict=False)):
                        assert unpack(record[3], 5) == [number | tag << 16, *counted, 0]
                    cycles = spent(core, layers)
                    assert result[:3] == (Reply.RESULT, ErrorCode.NONE, words_of(RunResult))
                    expected = encode(
                        RunResult,
                        label=label,
                        exit=0 if exits else 1,
                        margin=margin,
                        cycles=cycles,
                        tag=tag,
                        out_of_range=not head.low <= margin <= head.high,
                        **dict.fromkeys(("early_label", "early_exit", "forced", "passed", "differs", "overrun"), 0),
                    )
                    assert unpack(result[3], words_of(RunResult)) == expected

        return Bench(
            dut=dut, testbenches=[drive], background=[core.act, records.act], memories={dut.program: program.words}
        )

    simulate(build, seed=cores, folder=tmp_path)


#: Fields of a Header, and whether a RUN can bring its image.
HEADERS = (
    ({"image_bytes": 12, "image_words": 3}, True),
    ({"image_bytes": 9, "image_words": 3}, True),
    ({"image_bytes": 1, "image_words": 1}, True),
    ({"image_bytes": 13, "image_words": 3}, False),
    ({"image_bytes": 8, "image_words": 3}, False),
    ({"image_bytes": 0, "image_words": 0}, False),
    ({"image_bytes": 0, "image_words": 1}, False),
    ({"image_bytes": 12, "image_words": 3, "image_channels": 0}, False),
    ({"image_bytes": 12, "image_words": 3, "image_channels": 2048}, True),
    # A payload of 65,535 words holds the options and 65,532 words of an image.
    ({"image_bytes": 262_128, "image_words": 65_532}, True),
    ({"image_bytes": 262_129, "image_words": 65_533}, False),
    ({"image_bytes": 262_140, "image_words": 65_535}, False),
    ({"image_bytes": 262_143, "image_words": 0}, False),
)


@pytest.mark.parametrize(("fields", "servable"), HEADERS)
def test_a_header_is_servable_if_a_run_can_bring_its_image(tmp_path, fields, servable):
    """Known when the sequencer is idle again; the next program is judged by its own Header."""

    def build(rng):
        first, second = random_program(rng), random_program(rng, number=1)
        header = encode(Header, **(decode(Header, first.words[: words_of(Header)]) | fields))
        dut = reused(Surroundings, 2)
        words = header + second.words[words_of(Header) :]
        core = Cores(rng, dut.sequencer, 2)

        async def drive(ctx):
            sequencer = dut.sequencer
            for number in (0, 1, 0):
                await select(ctx, sequencer, number)
                assert ctx.get(sequencer.host.servable) == (servable if number == 0 else 1)
                if number == 0 and servable:
                    assert ctx.get(sequencer.host.run_words) == fields["image_words"] + words_of(RunOptions)

        return Bench(dut=dut, testbenches=[drive], background=[core.act], memories={dut.program: words})

    simulate(build, seed=1, folder=tmp_path)


def test_a_run_waits_for_lists_of_the_one_before_but_no_longer_than_its_timeout(tmp_path):
    def build(rng):
        timeout = 400
        program = random_program(rng, timeout=timeout)
        dut = reused(Surroundings, 2)
        sequencer = dut.sequencer
        core, records = Cores(rng, sequencer, 2), Records(rng, sequencer, 0.5)
        waits = []

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            ctx.set(sequencer.head.margin, program.exits[0].threshold)
            for late in (1, 2, 7, timeout - 3, None, None, 5, None, 1):
                for found in (core.counters, core.layers, records.found, waits):
                    found.clear()
                ctx.set(sequencer.lists.busy, 1)
                tag = rng.randrange(1 << 16)
                await send_run(ctx, rng, sequencer, program, NO_FLAGS, tag=tag)
                while not waits:
                    await ctx.tick()
                if late is not None:
                    await ctx.tick().repeat(late)
                    assert not records.found
                    assert not core.layers
                    ctx.set(sequencer.lists.busy, 0)
                await idle(ctx, sequencer)
                await ctx.tick()
                ((reply, code, _, payload),) = records.found
                if late is None:
                    assert (reply, code, payload) == (Reply.ERROR, ErrorCode.TIMEOUT, tag << 16)
                    assert core.layers == []
                    # The image's last codes and the record take some, too.
                    assert timeout < sum(waits) < timeout + program.image_bytes + 20
                else:
                    assert reply is Reply.RESULT
                    assert decode(RunResult, unpack(payload, words_of(RunResult)))["cycles"] == spent(core, 1)

        async def watch(ctx):
            """Cycles in which a run could begin but for the lists, and the one in which one does."""
            while True:
                _, _, waiting, active = await ctx.tick().sample(
                    ~sequencer.host.free & ~sequencer.word.ready & ~sequencer.lists.active, sequencer.lists.active
                )
                if waiting or active:
                    waits.append(int(waiting))

        return Bench(
            dut=dut,
            testbenches=[drive],
            background=[core.act, records.act, watch],
            memories={dut.program: program.words},
        )

    simulate(build, seed=1, folder=tmp_path, max_cycles=60_000)


def test_a_reset_of_the_sequencer_resets_the_cores(tmp_path):
    """Cores are modules of their own, which a reset inserted around the accelerator does not reach."""

    def build(rng):
        reset = Signal()
        sequencer = Sequencer(CONFIG)

        async def drive(ctx):
            for core in sequencer.cores:
                ctx.set(core.clearing, 1)
            for _ in range(3):
                assert ctx.get(sequencer.control.reset)
                for _ in range(10):
                    await ctx.tick()
                    assert not ctx.get(sequencer.control.reset)
                    assert not ctx.get(sequencer.host.idle)
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)

        return Bench(dut=ResetInserter(reset)(sequencer), testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)
