"""What the passes decided stands in the program's words."""

import re
from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.emit import emit
from hw.config import preset
from hw.network.layers import Conv2D, Linear
from hw.network.network import INPUT, Network
from hw.program.isa import NEVER, Opcode
from hw.program.program import Program
from hw.rules import MisfitError
from hw.weight_source import WeightSource
from sim import worst_case
from tests.hw.compiler.passes import scheduled
from tests.hw.compiler.test_compile import ROOMY, conv_network
from tests.hw.compiler.test_use import STREAMED
from tests.hw.networks import runnable
from tests.random_networks import NetworkMaker, random_network, two_blocks, wide_network

TINY = preset("tiny")


def instructions(program: Program) -> list[tuple[str, str]]:
    """Opcode, and layer or exit, of every instruction."""
    found = []
    for each in program.decoded.instructions:
        if each.op is Opcode.LAYER:
            found.append((each.op.name, program.commands[each.index].tensor))
        else:
            found.append((each.op.name, program.network.exits[each.index].logits))
    return found


def test_a_decision_stands_behind_the_last_command_of_its_head():
    """A head with so many inputs takes two commands."""
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 2048))
    maker.head(INPUT, 2, threshold=77)
    maker.head(maker.conv(INPUT, 8, (1, 1), density=0.1), 2)
    program = emit(scheduled(maker.network("net"), ROOMY.replace(list_words=8192)))
    assert instructions(program) == [
        ("LAYER", "layer0"),
        ("LAYER", "layer0"),
        ("BRANCH", "layer0"),
        ("LAYER", "layer1"),
        ("LAYER", "layer1"),
        ("LAYER", "layer2"),
        ("STOP", "layer2"),
    ]


def test_decisions_are_those_of_the_exits():
    network = two_exits()
    exits = (replace(network.exits[0], low=5, high=900), replace(network.exits[1], low=3))
    program = emit(scheduled(replace(network, exits=exits), ROOMY))
    found = [each.decision.values() for each in program.decoded.instructions if each.decision is not None]
    assert found == [
        {"threshold": exit.threshold or 0, "low": exit.low, "high": exit.high} for exit in (exits[0], exits[1])
    ]
    assert found[0]["threshold"] == 77


def two_exits() -> Network:
    maker = NetworkMaker(np.random.default_rng(0), (6, 6, 3))
    here = maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1))
    maker.head(here, 3, threshold=77)
    maker.head(maker.conv(here, 8, (3, 3)), 3)
    return maker.network("net")


def test_a_pass_that_goes_on_makes_no_word_of_a_map():
    """It takes out one position that nothing was added to; bias, residual and logits are a matter of the last pass."""
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 4088))
    maker.head(INPUT, 2)
    program = emit(scheduled(maker.network("net"), ROOMY.replace(list_words=8192)))
    *before, last = [layer.cores[0] for layer in program.decoded.layers]
    assert len(before) == 2
    for core in before:
        words = core.target.words
        assert (core.source.partial, core.lane.raw, core.lane.outputs) == (1, 0, core.lane.channels)
        assert core.target.first + words == 1 << 16
        assert core.target.columns == 1
        assert core.source.first_dump == last.source.dump_length
    assert (last.source.partial, last.lane.raw, last.source.first_dump) == (0, 1, 0)


@pytest.mark.parametrize(
    ("network", "config", "rates"),
    [
        (two_blocks(8, 8), ROOMY.replace(cores=4), {0, 1}),
        (two_blocks(8, 8), ROOMY.replace(cores=4, fast_sums=1), {0}),
        (two_blocks(8, 8), ROOMY.replace(cores=8, lanes=2), {0, 1}),
        (two_blocks(8, 8), ROOMY.replace(cores=2, lanes=2, fast_sums=1), {0, 1}),
        (runnable(), ROOMY, {0, 1}),
        (runnable(), ROOMY.replace(fast_sums=1), {0}),
    ],
)
def test_lanes_are_slow_where_something_behind_them_cannot_follow_and_only_there(network, config, rates):
    """Each costs a layer half of its lanes' rate."""
    slow = set()
    program = emit(scheduled(network, config))
    for command, layer in zip(program.commands, program.decoded.layers, strict=True):
        shared = command.kind.endswith("+add") and not config.fast_sums
        for core in layer.working.values():
            logits, everywhere = core.lane.raw and config.lanes == 2, core.target.everywhere and config.slow_exchange
            assert core.lane.slow == bool(shared or logits or everywhere)
            slow.add(core.lane.slow)
    assert slow == rates
    assert any(command.kind.endswith("+add") for command in program.commands)


@pytest.mark.parametrize("cores", [2, 8])
def test_a_core_without_work_keeps_its_window_and_hears_where_words_go(cores):
    program = emit(scheduled(runnable(), ROOMY.replace(cores=cores, lanes=2)))
    idle = 0
    for layer in program.decoded.layers:
        everywhere = {core.target.everywhere for core in layer.cores}
        assert len(everywhere) == 1
        for number, core in enumerate(layer.cores):
            if number in layer.working:
                continue
            idle += 1
            assert (core.rows, core.columns, core.lane.outputs, core.residual.enable) == ((), (), 0, 0)
            assert (core.window.bank, core.window.base) == (layer.cores[0].window.bank, layer.cores[0].window.base)
    assert idle


def test_strips_of_a_layer_share_their_channel_parameters():
    program = compile_network(wide_network(105), TINY)
    places: dict[str, set[tuple[int, int]]] = {}
    for command, layer in zip(program.commands, program.decoded.layers, strict=True):
        lane = layer.cores[0].lane
        first = 8 * lane.channel_base
        places.setdefault(command.layer, set()).add((first, first + lane.channels))
    assert len(places) < len(program.commands)
    assert {len(each) for each in places.values()} == {1}
    # One layer's behind the other's, without a gap.
    edges = sorted(edge for each in places.values() for edge in each)
    assert [first for first, _ in edges] == [0, *(last for _, last in edges[:-1])]
    assert edges[-1][1] == program.images["bias"].shape[1]


def test_channel_parameters_are_those_of_the_channels_that_a_core_makes():
    """Eight cores, of which some make the first words of a position and some the others."""
    maker = NetworkMaker(np.random.default_rng(0), (3, 3, 4))
    here = maker.conv(INPUT, 44, (3, 3), pads=(1, 1, 1, 1))
    maker.head(here, 10)
    network = maker.network("net")
    program = emit(scheduled(network, ROOMY.replace(cores=8, pes=2)))
    groups = 0
    for command, layer in zip(program.commands, program.decoded.layers, strict=True):
        weighted = network.layer(command.layer)
        assert isinstance(weighted, Conv2D | Linear)
        for number, core in layer.working.items():
            pitch = -(-weighted.output.shape[2] // 8)
            made = core.target.first % pitch * 8 + np.arange(core.lane.channels)
            real = made < weighted.output.shape[2]
            place = slice(8 * core.lane.channel_base, 8 * core.lane.channel_base + core.lane.channels)
            for name in ("bias", "multiplier", "shift"):
                found = program.images[name][number, place].view(np.int32)
                np.testing.assert_array_equal(found[real], getattr(weighted, name)[made[real]], err_msg=name)
            groups += made[0] > 0
    assert groups


def layers_that_need_the_images_place(program: Program) -> int:
    """LAYERs up to the last that reads the image, or writes or reads what lies there later."""
    window, there, last = program.decoded.windows[0], {INPUT}, 0
    held = range(window.base, window.base + window.count)
    for number, (command, layer) in enumerate(zip(program.commands, program.decoded.layers, strict=True)):
        kept = layer.cores[0].window
        if kept.bank == window.bank and kept.base < held.stop and kept.base + kept.count > held.start and kept.count:
            there.add(command.tensor)
        names = {command.tensor, *(name for made in (command.layer, command.tensor) for name in of(program, made))}
        if there & names:
            last = number + 1
    return last


def of(program: Program, layer: str) -> tuple[str, ...]:
    return program.network.layer(layer).inputs


@pytest.mark.parametrize(("words", "several"), [(512, False), (256, False), (512, True)])
def test_the_next_image_may_come_behind_the_last_layer_that_needs_its_place(words, several):
    """Also where a layer takes several commands."""
    config = ROOMY.replace(activation_words=words, accumulators=64 if several else 1024, list_words=8192)
    program = emit(scheduled(two_blocks(6, 24), config))
    free = program.decoded.header.image_free
    assert 0 < free < len(program.commands)
    assert free == layers_that_need_the_images_place(program)
    assert (len(program.commands) > len({command.layer for command in program.commands})) == several


def test_the_next_image_waits_for_the_end_where_its_place_is_needed_until_then():
    maker = NetworkMaker(np.random.default_rng(0), (4, 4, 8))
    maker.head(INPUT, 3)
    program = emit(scheduled(maker.network("net"), ROOMY))
    assert program.decoded.header.image_free == NEVER


@pytest.mark.parametrize(
    ("network", "config", "streamed"),
    [
        (conv_network(32, (8, 8), depth=24, density=1.0), ROOMY.replace(list_words=8192), False),
        (two_blocks(8, 16), ROOMY.replace(cores=4, lanes=2), False),
        (random_network(4), STREAMED, True),
    ],
    ids=["large", "cores", "streamed"],
)
def test_a_run_is_given_up_after_more_cycles_than_any_image_takes(network, config, streamed):
    program = emit(scheduled(network, config, streamed=streamed))
    timeout, worst = program.decoded.header.timeout, worst_case(program)
    assert worst <= timeout
    assert worst_case(program, source=WeightSource(latency=500, cycles_per_beat=50)) <= timeout
    # Not much later, either: a host waits for it.
    chunks = program.decoded.chunks
    granted = 64 * program.images["weights"].size + 10_000 * len(chunks)
    assert timeout <= 8 * worst + 1000 * len(program.commands) + granted
    assert bool(chunks) == streamed


def test_a_program_whose_runs_could_outlast_the_counter_of_cycles_is_refused(monkeypatch):
    network = random_network(11)
    done = scheduled(network, TINY)
    timeout = emit(done).decoded.header.timeout
    monkeypatch.setattr("hw.compiler.emit._LONGEST_TIMEOUT", timeout)
    emit(done)
    monkeypatch.setattr("hw.compiler.emit._LONGEST_TIMEOUT", timeout - 1)
    message = f"^{network.name}: a run must take at most {timeout - 1} cycles, not up to {timeout}$"
    with pytest.raises(ValueError, match=message):
        emit(done)


def test_too_many_channels_are_refused():
    done = scheduled(conv_network(30, (4, 4)), ROOMY)
    small = replace(done.placed.chosen.expanded.proven, config=ROOMY.replace(channel_words=32))
    expanded = replace(done.placed.chosen.expanded, proven=small)
    placed = replace(done.placed, chosen=replace(done.placed.chosen, expanded=expanded))
    message = "channel memory holds 32 words; this network needs 40, 8 too many"
    with pytest.raises(MisfitError, match=f"^{re.escape(message)}$"):
        emit(replace(done, placed=placed))
