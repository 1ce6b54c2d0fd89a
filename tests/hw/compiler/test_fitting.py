"""A config that a network fits is found by what it lacks of one that it doesn't."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from hw.compiler.compile import balanced_compilation, compile_network
from hw.compiler.fitting import changes, fitting
from hw.config import MAX_CLASSES, PRESETS, AcceleratorConfig, preset
from hw.network.network import INPUT
from tests.hw.equality import assert_equals_golden
from tests.random_networks import NetworkMaker, heavy_network, random_codes, two_blocks, with_selects


def fits(network, config):
    return balanced_compilation(network, config, {}).refusal is None


@pytest.mark.parametrize(
    "size",
    [
        *("list_words", "activation_words"),
        *(pytest.param(size, marks=pytest.mark.slow) for size in ("channel_words", "layer_words")),
    ],
)
def test_only_the_memory_that_lacks_words_grows_and_no_more_than_it_must(size):
    network, roomy = two_blocks(6, 16), AcceleratorConfig()
    config = roomy
    while fits(network, config):
        config = config.replace(**{size: getattr(config, size) // 2})
    found = fitting(network, config, {})
    assert changes(config, found) == [f"{size}={2 * getattr(config, size)}"]
    assert_equals_golden(compile_network(network, found), random_codes(network, 1, 0))


@pytest.mark.parametrize("second", [64, 32])
def test_a_second_bank_grows_to_the_size_of_the_first(second):
    network, config = two_blocks(6, 16), AcceleratorConfig()
    while fits(network, config.replace(activation_words=config.activation_words // 2)):
        config = config.replace(activation_words=config.activation_words // 2)
    tight = config.replace(second_bank_words=second)
    assert not fits(network, tight)
    assert changes(tight, fitting(network, tight, {})) == ["second_bank_words=0"]


def test_several_memories_may_lack_words():
    network = two_blocks(6, 16)
    config = preset("tiny,list_words=64,activation_words=32,channel_words=16,layer_words=128,program_words=32")
    found = fitting(network, config, {})
    assert fits(network, found)
    grown = [each.partition("=")[0] for each in changes(config, found)]
    assert set(grown) >= {"list_words", "activation_words", "channel_words", "layer_words"}
    for name in grown:
        assert not fits(network, found.replace(**{name: asdict(found)[name] // 2})), name


def test_accumulators_become_wider_where_sums_are_too_large():
    network, config = two_blocks(4, 32), AcceleratorConfig(list_words=8192, accumulator_bits=20)
    assert not fits(network, config)
    assert changes(config, fitting(network, config, {})) == ["accumulator_bits=21"]


@pytest.mark.parametrize(("count", "kept"), [(129, 256), (300, 512)])
def test_many_classes_need_logits(count, kept):
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, count)
    network, config = maker.network("net"), preset("single")
    found = fitting(network, config, {})
    assert changes(config, found) == [f"classes={kept}"]
    assert_equals_golden(compile_network(network, found), random_codes(network, 1, 0))


def test_selections_need_their_hardware():
    network = with_selects(two_blocks(4, 8), np.random.default_rng(0), share=1.0)
    assert not fits(network, AcceleratorConfig())
    assert changes(AcceleratorConfig(), fitting(network, AcceleratorConfig(), {})) == ["selector=4"]


def test_what_no_list_memories_hold_is_read_by_a_loader():
    network, config = heavy_network(), AcceleratorConfig(pes=2, list_words=256)
    assert not fits(network, config.replace(list_words=8192))
    found = fitting(network, config, {})
    assert [each for each in changes(config, found) if not each.startswith("list_words")] == ["loader=4"]
    assert_equals_golden(compile_network(network, found), random_codes(network, 1, 0))


def test_lists_beyond_those_of_a_device_are_read_by_a_loader(monkeypatch):
    network, config = two_blocks(6, 16), AcceleratorConfig()
    while fits(network, config.replace(list_words=config.list_words // 2)):
        config = config.replace(list_words=config.list_words // 2)
    small = config.replace(list_words=config.list_words // 2)
    assert changes(small, fitting(network, small, {})) == [f"list_words={config.list_words}"]
    monkeypatch.setattr("hw.compiler.fitting._DEVICE_WORDS", small.list_words * small.multipliers)
    assert changes(small, fitting(network, small, {})) == ["loader=4"]


def test_lists_longer_than_large_memories_can_count_are_read_by_a_loader():
    """Pointers of a list memory of 8,192 words count 31 entries; what is read needs no such memory."""
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 300))
    maker.head(INPUT, 128)
    network, config = maker.network("net"), preset("tiny")
    weight = np.random.default_rng(1).integers(1, 9, network.layers[0].weight.shape, np.int8)
    network = replace(network, layers=(replace(network.layers[0], weight=weight),))
    found = fitting(network, config, {})
    assert changes(config, found) == ["loader=4"]
    assert_equals_golden(compile_network(network, found), random_codes(network, 1, 0))


def test_every_change_is_needed_where_numbers_and_memories_are_too_small():
    network = two_blocks(6, 32)
    config = AcceleratorConfig(list_words=1024, accumulators=256, accumulator_bits=20, channel_words=64)
    found = fitting(network, config, {})
    made = dict(each.split("=") for each in changes(config, found))
    assert made.keys() >= {"accumulator_bits", "channel_words"}
    for name in made:
        assert not fits(network, found.replace(**{name: asdict(config)[name]})), name
    assert not fits(network, found.replace(accumulator_bits=found.accumulator_bits - 1))


def test_nothing_is_found_where_no_size_helps():
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, MAX_CLASSES + 1)
    assert fitting(maker.network("net"), PRESETS["base-85f"], {}) is None
