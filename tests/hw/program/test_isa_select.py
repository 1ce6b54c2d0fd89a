"""Fields of selections reach all that a config can hold, and what a core keeps of them."""

from hypothesis import given
from hypothesis import strategies as st

from hw.config import WORD_CHANNELS, preset
from hw.program.bits import decode, encode, words_of
from hw.program.isa import NUMBERS, LayerDescription, Source
from hw.program.isa_select import MAX_MASKS, Selection, SelectKind, SelectUse
from tests.large_machine import LARGE

FIELDS = Selection.fields
LARGEST = preset(LARGE).replace(activation_words=4096, layer_words=4096)


@given(st.fixed_dictionaries({name: st.integers(field.low, field.high) for name, field in FIELDS.items()}))
def test_any_values_come_back_from_the_words(values):
    assert decode(Selection, encode(Selection, **values)) == values


def test_a_selection_lies_in_the_space_of_a_layers_description():
    assert words_of(Selection) <= words_of(LayerDescription)


def test_a_selection_reaches_every_word_and_winner():
    bank = LARGEST.activation_words
    assert FIELDS["base"].high == bank - 1
    assert FIELDS["words"].high >= bank
    assert FIELDS["length"].high >= bank
    assert FIELDS["table"].high == LARGEST.layer_words - 1
    # All activations of a map may win, in the banks of eight cores or as many as words have numbers.
    assert FIELDS["count"].high >= NUMBERS * WORD_CHANNELS
    # From a word's number to its address: the first word at the bank's end, or the last one at its beginning.
    assert (FIELDS["shift"].low, FIELDS["shift"].high) == (-NUMBERS, NUMBERS - 1)


def test_masks_have_numbers_in_the_layer_that_follows():
    assert Source.fields["first_mask"].high + 1 == MAX_MASKS
    assert FIELDS["pitch"].high >= MAX_MASKS


def test_an_empty_memory_selects_nothing():
    assert 0 not in [kind.value for kind in SelectKind]
    assert SelectUse.ALL.value == 0
