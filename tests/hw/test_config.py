import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.config import LIST_WORD_BITS, PRESETS, WORD_CHANNELS, AcceleratorConfig, preset

#: Another legal value of every size.
OTHER = {
    "cores": 4,
    "pes": 4,
    "lanes": 2,
    "list_words": 1024,
    "accumulators": 256,
    "accumulator_bits": 24,
    "activation_words": 512,
    "second_bank_words": 512,
    "channel_words": 256,
    "layer_words": 512,
    "program_words": 512,
    "job_queue": 4,
    "output_queue": 8,
    "loader": 1,
    "selector": 2,
    "classes": 1024,
    "fast_sums": 1,
}
RANGES = {
    "cores": (1, 8),
    "pes": (2, 8),
    "lanes": (1, 2),
    "list_words": (64, 8192),
    "accumulators": (16, 1024),
    "activation_words": (32, 4096),
    "channel_words": (16, 4096),
    "layer_words": (128, 4096),
    "program_words": (32, 4096),
    "job_queue": (2, 64),
    "output_queue": (2, 64),
}


@pytest.mark.parametrize(
    ("name", "cores", "pes", "lanes"),
    [("tiny", 1, 4, 1), ("single", 1, 8, 1), ("small", 2, 8, 1), ("base-85f", 8, 8, 1)],
)
def test_presets(name, cores, pes, lanes):
    config = preset(name)
    assert (config.cores, config.pes, config.lanes, config.multipliers) == (cores, pes, lanes, cores * pes)
    assert config == PRESETS[name]


@pytest.mark.parametrize("selector", [-1, 3, 5, 8])
def test_other_selectors_are_refused(selector):
    with pytest.raises(ValueError, match=f"^selector must be 0, 1, 2 or 4, not {selector}$"):
        AcceleratorConfig(selector=selector)


def test_unknown_preset_is_refused():
    known = "tiny, single, small, small-85f, medium-85f, base-85f"
    with pytest.raises(ValueError, match=rf"^config must be one of {known}, not 'huge'$"):
        preset("huge")


@pytest.mark.parametrize("name", ["base", "base,list_words=4096"])
def test_a_preset_that_is_gone_is_refused_with_what_replaces_it(name):
    sentence = (
        "config base is gone: no device holds its memories; base-85f has as many multipliers and fits an ECP5-85F"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        preset(name)


def test_sizes_of_a_preset_can_be_changed_by_name():
    assert preset("base-85f,lanes=2,loader=4") == PRESETS["base-85f"].replace(lanes=2, loader=4)


@pytest.mark.parametrize(
    "size",
    ["", "lanes", "lanes=", "lanes=-1", "lanes=two", "lanes=²", "lanes=1000000000", "wings=2", "=2", " lanes=2"],
)
def test_what_is_no_size_and_number_is_refused(size):
    with pytest.raises(ValueError, match=rf"^config small: .* SIZE=NUMBER, .* cores, pes, .* at most, not '{size}'$"):
        preset(f"small,{size}")


def test_a_size_named_twice_or_impossible_is_refused():
    with pytest.raises(ValueError, match=r"^config small: .* SIZE=NUMBER, .* once at most, not 'lanes=1'$"):
        preset("small,lanes=2,lanes=1")
    with pytest.raises(ValueError, match=r"^lanes must be a power of two from 1 to 2, not 3$"):
        preset("small,lanes=3")


def test_a_size_of_thousands_of_digits_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"once at most, not 'lanes=99*\.\.\.$"):
        preset(f"small,lanes={'9' * 5000}")


@pytest.mark.parametrize(("name", "ends"), RANGES.items())
def test_sizes_outside_their_range_or_no_power_of_two_are_refused(name, ends):
    low, high = ends
    for value in (low, high):
        assert getattr(AcceleratorConfig(**{name: value}), name) == value
    for value in (-low, 0, low - 1, low // 2, low + 1, 3 * low // 2, high - 1, high + 1, 2 * high):
        if low <= value <= high and value & (value - 1) == 0:
            continue
        with pytest.raises(ValueError, match=rf"^{name} must be a power of two from {low} to {high}, not {value}$"):
            AcceleratorConfig(**{name: value})


@pytest.mark.parametrize("value", [-1, 0, 19, 33, 64])
def test_accumulator_width_is_refused(value):
    with pytest.raises(ValueError, match=f"^accumulator_bits must be from 20 to 32, not {value}$"):
        AcceleratorConfig(accumulator_bits=value)


@pytest.mark.parametrize("value", [-32, 16, 31, 48, 512, 1024])
def test_a_second_bank_is_smaller_than_the_first(value):
    with pytest.raises(
        ValueError,
        match=r"^second_bank_words must be 0 or a power of two from 32 to less than activation_words \(512\), "
        f"not {value}$",
    ):
        AcceleratorConfig(activation_words=512, second_bank_words=value)


def test_banks_have_their_own_words():
    config = AcceleratorConfig(activation_words=512)
    assert config.bank_words == (512, 512)
    assert config.replace(second_bank_words=32).bank_words == (512, 32)
    assert config.replace(second_bank_words=256).bank_words == (512, 256)


def test_banks_of_one_size_keep_their_digest():
    """That of bitstreams and programs which are out there."""
    assert preset("single").digest().startswith("c16ec5196e1a574b")


@pytest.mark.parametrize("value", [-1, 3, 8])
def test_a_loader_is_as_wide_as_it_can_be(value):
    with pytest.raises(ValueError, match=f"^loader must be 0, 1, 2 or 4, not {value}$"):
        AcceleratorConfig(loader=value)


@pytest.mark.parametrize("value", [-1, 2])
def test_sums_are_fast_or_not(value):
    with pytest.raises(ValueError, match=f"^fast_sums must be 0 or 1, not {value}$"):
        AcceleratorConfig(fast_sums=value)


@pytest.mark.parametrize("value", [8.0, "8", None, True])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(AcceleratorConfig)])
def test_sizes_of_other_types_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be an integer, not {re.escape(repr(value))}$"):
        AcceleratorConfig(**{name: value})


def test_sizes_are_keywords_and_frozen():
    with pytest.raises(TypeError):
        AcceleratorConfig(1, 8)
    with pytest.raises(TypeError, match="rows"):
        AcceleratorConfig(rows=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        AcceleratorConfig().pes = 4


def test_digest_changes_with_every_size_and_only_then():
    assert AcceleratorConfig().digest() == AcceleratorConfig(pes=8).digest() == preset("single").digest()
    changed = [AcceleratorConfig().replace(**{name: value}) for name, value in OTHER.items()]
    assert OTHER.keys() == {field.name for field in dataclasses.fields(AcceleratorConfig)}
    digests = {config.digest() for config in changed} | {AcceleratorConfig().digest()}
    assert len(digests) == len(OTHER) + 1
    assert len({config.word_digest for config in changed}) == len(OTHER)
    for config in changed:
        assert re.fullmatch("[0-9a-f]{64}", config.digest())
        assert config.word_digest == int(config.digest(), 16) >> 224


def test_replace_checks_again():
    with pytest.raises(ValueError, match=r"^pes must be a power of two"):
        AcceleratorConfig().replace(pes=5)


@given(st.sampled_from([64, 128, 256, 512, 1024, 2048, 4096, 8192]))
def test_a_pointer_word_holds_any_start_and_the_longest_list(list_words):
    config = AcceleratorConfig(list_words=list_words)
    assert config.start_bits + config.count_bits == LIST_WORD_BITS
    assert 1 << config.start_bits == list_words
    assert config.max_list == (1 << config.count_bits) - 1 > 0


@given(st.integers(1, 4096), st.sampled_from([2, 4, 8]))
def test_stored_channels_are_whole_words(channels, pes):
    padded = AcceleratorConfig(pes=pes).padded_channels(channels)
    assert padded % WORD_CHANNELS == padded % pes == 0
    assert channels <= padded < channels + WORD_CHANNELS


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize("lanes", [1, 2])
def test_the_exchange_is_slow_where_its_turns_come_later_than_words(cores, lanes):
    """A core makes a word every 8 / lanes cycles; its turn to send one to all comes every ``cores`` cycles."""
    config = AcceleratorConfig(cores=cores, lanes=lanes)
    assert config.slow_exchange is (cores > WORD_CHANNELS / lanes)


@pytest.mark.parametrize(("accumulators", "bits"), [(64, 6), (256, 8), (1024, 10)])
def test_accumulator_address_bits(accumulators, bits):
    assert AcceleratorConfig(accumulators=accumulators).accumulator_address_bits == bits
