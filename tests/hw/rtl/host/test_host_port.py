import pytest

from hw.program.bits import encode
from hw.program.protocol import (
    PROTOCOL_VERSION,
    ErrorCode,
    HostCommand,
    Memory,
    Reply,
    RunFlags,
)
from tests.hw.host_port_bench import (
    CONFIG,
    IMAGE_WORDS,
    LAYER,
    PAIRS,
    RESULT,
    UNSERVABLE,
    bench,
    command,
    good_load,
    logit,
    pair,
    place,
    refused,
    reply,
)
from tests.hw.simulate import simulate


@pytest.mark.parametrize("seed", [1, 2])
def test_load_run_and_read(tmp_path, seed):
    def build(rng):
        loading, loads = good_load(rng)
        images = [[rng.getrandbits(32) for _ in range(IMAGE_WORDS)] for _ in range(3)]
        info = (command(HostCommand.INFO), reply(Reply.INFO, payload=[PROTOCOL_VERSION, CONFIG.word_digest]))
        exchanges = [info, *loading]
        exchanges += [
            (command(HostCommand.RUN, flags, image), answer)
            for flags, image, answer in zip((0, 1, 3), images, (RESULT, [*LAYER, *RESULT], LAYER), strict=True)
        ]
        for memory, bank in ((Memory.ACTIVATIONS_0, 0), (Memory.ACTIVATIONS_1, 1)):
            for core in (0, rng.randrange(1, CONFIG.cores)):
                count = rng.randint(0, 20)
                first = rng.choice((0, PAIRS[bank] - max(count, 1), rng.randrange(PAIRS[bank] - 20)))
                values = [pair(core, bank, n) for n in range(first, first + count)]
                words = [low & 0xFFFF | (high & 0xFFFF) << 16 for low, high in values]
                payload = [place(first, core), count]
                exchanges.append((command(HostCommand.READ, memory, payload), reply(Reply.DATA, payload=words)))
        exchanges.append((command(HostCommand.RESUME), RESULT))
        words = [logit(n) & 0xFFFF_FFFF for n in range(CONFIG.classes)]
        exchanges.append(
            (command(HostCommand.READ, Memory.LOGITS, [0, CONFIG.classes]), reply(Reply.DATA, payload=words))
        )
        events = ["prepare", ("switch", 0), "run", "run", "run", "resume"]
        return bench(rng, exchanges, loads=loads, events=events, images=images)

    simulate(build, seed=seed, folder=tmp_path)


def malformed_commands():
    """(words, reply) of commands that are refused without a program."""
    begin = (command(HostCommand.BEGIN), [])

    def each(words, code):
        return words, refused(words, code)

    yield each(command(0), ErrorCode.BAD_COMMAND)
    yield each(command(200, 3, [1, 2, 3]), ErrorCode.BAD_COMMAND)
    yield each(command(HostCommand.INFO, 0, [1]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.BEGIN, 0, [1, 2]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.READ, Memory.LOGITS, [1]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.READ, Memory.PROGRAM, [0, 1]), ErrorCode.BAD_MEMORY)
    yield each(command(HostCommand.WRITE, 0, [0, 1, 2]), ErrorCode.NOT_LOADING)
    yield each(command(HostCommand.COMMIT, 0, [0, 0]), ErrorCode.NOT_LOADING)
    yield each(command(HostCommand.RUN, 0, [0] * IMAGE_WORDS), ErrorCode.NO_PROGRAM)
    yield each(command(HostCommand.RESUME), ErrorCode.NOT_STEPPING)
    yield each(command(HostCommand.RESUME, 0, [1]), ErrorCode.NOT_STEPPING)
    yield begin
    yield each(command(HostCommand.WRITE, 0), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.COMMIT, 0, [0]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.COMMIT, 0, [0, 0, 0]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.WRITE, Memory.LOGITS, [0, 1]), ErrorCode.BAD_MEMORY)
    yield each(command(HostCommand.WRITE, Memory.LISTS.value + CONFIG.pes, [0, 1]), ErrorCode.BAD_MEMORY)
    yield each(command(HostCommand.RUN, 0, [0] * IMAGE_WORDS), ErrorCode.NO_PROGRAM)


@pytest.mark.parametrize("stalls", [True, False])
def test_malformed_commands_are_refused_and_the_next_good_program_runs(tmp_path, stalls):
    def build(rng):
        loading, loads = good_load(rng)
        image = [rng.getrandbits(32) for _ in range(IMAGE_WORDS)]
        exchanges = [*malformed_commands(), *loading, (command(HostCommand.RUN, 0, image), RESULT)]
        return bench(
            rng, exchanges, loads=loads, events=["prepare", ("switch", 0), "run"], images=[image], stalls=stalls
        )

    simulate(build, seed=1, folder=tmp_path)


def test_what_is_refused_with_a_program_and_in_a_stepped_run(tmp_path):
    def build(rng):
        loading, loads = good_load(rng)
        image = [rng.getrandbits(32) for _ in range(IMAGE_WORDS)]
        short, long = (command(HostCommand.RUN, 0, [1] * n) for n in (IMAGE_WORDS - 1, IMAGE_WORDS + 1))
        running = [
            command(HostCommand.INFO),
            command(HostCommand.BEGIN),
            command(HostCommand.RUN, 0, image),
            command(HostCommand.WRITE, 0, [0, 1]),
            command(99, 0, [4, 5]),
        ]
        extra = command(HostCommand.RESUME, 0, [1])
        again = command(HostCommand.RUN, 0, image)
        exchanges = [
            *loading,
            *((words, refused(words, ErrorCode.BAD_LENGTH)) for words in (short, long)),
            (command(HostCommand.RUN, 3, image), LAYER),
            *((words, refused(words, ErrorCode.RUNNING)) for words in running),
            (extra, refused(extra, ErrorCode.BAD_LENGTH)),
            (command(HostCommand.RESUME), RESULT),
            # The refusals changed nothing; only BEGIN forgets the program.
            (again, RESULT),
            (command(HostCommand.BEGIN), []),
            (again, refused(again, ErrorCode.NO_PROGRAM)),
        ]
        events = ["prepare", ("switch", 0), "run", "resume", "run"]
        return bench(rng, exchanges, loads=loads, events=events, images=[image, image])

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("stalls", [True, False])
def test_runs_are_of_programs_that_were_accepted_and_can_be_served(tmp_path, stalls):
    """The payload of what is refused is skipped; programs beside it run."""

    def build(rng):
        loading, loads = good_load(rng, last=2)

        def of(program, more=0):
            image = [rng.getrandbits(32) for _ in range(IMAGE_WORDS + program + more)]
            flags = encode(RunFlags, report=0, step=0, constant=0, program=program)[0]
            return image, command(HostCommand.RUN, flags, image)

        runs = [of(0), of(2), of(0), of(0)]
        bad = [of(UNSERVABLE), of(UNSERVABLE, more=3), of(UNSERVABLE, more=-IMAGE_WORDS - UNSERVABLE)]
        # What is refused at once would be answered before the result; a READ waits for that.
        behind = command(HostCommand.READ, Memory.LOGITS, [0, 0]), reply(Reply.DATA)
        good = [(words + behind[0], RESULT + behind[1]) for _, words in runs]
        refusals = [(words, refused(words, ErrorCode.BAD_HEADER)) for _, words in bad]
        unknown = [(words, refused(words, ErrorCode.NO_PROGRAM)) for _, words in (of(3), of(31))]
        exchanges = [*loading, good[0], *refusals, good[1], *unknown, good[2], refusals[0], unknown[0], good[3]]
        switches = [("switch", number) for number in (0, UNSERVABLE, 2, 0, UNSERVABLE, 0)]
        events = ["prepare", switches[0], "run", *switches[1:3], "run", switches[3], "run", *switches[4:], "run"]
        return bench(rng, exchanges, loads=loads, events=events, images=[image for image, _ in runs], stalls=stalls)

    simulate(build, seed=1, folder=tmp_path)
