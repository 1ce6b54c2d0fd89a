import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.compiler.memory.sparse import ListStore, pack_all
from hw.config import preset
from hw.program.bits import decode, encode
from hw.program.isa import Entry, pointer_layout
from hw.program.list_memory import unpack_entries, unpack_pointers
from hw.rules import ShortageError

TINY = preset("tiny")
NOTHING = np.zeros((0, 2), dtype=np.int64)


def part(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def stored(*lists: list[np.ndarray], config=TINY) -> np.ndarray:
    store = ListStore(config)
    for parts in lists:
        store.append(parts, "conv")
    return pack_all([store], config)


def lists_of(image: np.ndarray, lists: int, config=TINY) -> list[list[np.ndarray]]:
    """The entries (weight, offset) of every list of every PE."""
    found = []
    for words in image:
        starts, counts = unpack_pointers(words[:lists], config)
        assert (starts[counts > 0] >= lists).all()
        entries = [unpack_entries(words[s : s + n]) for s, n in zip(starts, counts, strict=True)]
        found.append([np.stack(pair, axis=1) for pair in entries])
    return found


weights = st.integers(-128, 127).filter(bool)
parts = st.lists(st.tuples(weights, st.integers(0, 1023)), max_size=8).map(lambda pairs: part(*pairs))


@settings(max_examples=50)
@given(st.lists(st.lists(parts, min_size=4, max_size=4), max_size=12))
def test_lists_are_those_that_were_added(lists):
    image = stored(*lists)
    assert image.dtype == np.uint32
    assert image.shape[0] == 4
    assert image.shape[1] <= len(lists) + max((sum(len(p[pe]) for p in lists) for pe in range(4)), default=0)
    found = lists_of(image, len(lists))
    for number, entries in enumerate(lists):
        for pe in range(4):
            np.testing.assert_array_equal(found[pe][number], entries[pe])


def test_words_are_those_of_the_layouts():
    image = stored([part((-3, 7), (5, 1023)), NOTHING, part((-128, 0)), NOTHING])
    assert decode(pointer_layout(TINY), [int(image[0, 0])]) == {"start": 1, "count": 2}
    assert image[0, 1:].tolist() == encode(Entry, weight=-3, offset=7) + encode(Entry, weight=5, offset=1023)
    assert image[1].tolist() == [0, 0, 0]
    assert image[2].tolist() == [1 | 1 << TINY.start_bits, 0x80, 0]


def test_entries_that_stand_somewhere_already_are_stored_once():
    whole = part((3, 0), (-5, 2), (7, 4))
    image = stored([whole[1:]] * 4, [whole] * 4, [whole[:2]] * 4, [whole[1:2]] * 4, [NOTHING] * 4)
    assert image.shape == (4, 5 + 3)
    for found in lists_of(image, 5):
        for entries, expected in zip(found, (whole[1:], whole, whole[:2], whole[1:2], NOTHING), strict=True):
            np.testing.assert_array_equal(entries, expected)


def test_a_list_longer_than_a_pointer_counts_is_refused():
    longest = part(*[(1, 0)] * TINY.max_list)
    stored([longest, NOTHING, NOTHING, NOTHING])
    message = r"^stem: a weight list has 128 entries, 1 more than the 127 that a pointer of this config can count$"
    with pytest.raises(ValueError, match=message):
        ListStore(TINY).append([NOTHING, np.concatenate([longest, part((1, 0))]), NOTHING, NOTHING], "stem")


def test_lists_that_fill_the_memory_fit_and_one_entry_more_does_not():
    config = TINY.replace(list_words=64)
    full = [[part(*[(sign * n, n) for n in range(1, 32)]), NOTHING, NOTHING, NOTHING] for sign in (1, -1)]
    assert stored(*full, config=config).shape == (4, 64)
    message = r"^list memory holds 64 words a PE; this network needs 67 \(3 pointers, 64 weights\), 3 too many$"
    with pytest.raises(ShortageError, match=message) as caught:
        stored(*full, [part((1, 0), (1, 1)), NOTHING, NOTHING, NOTHING], config=config)
    assert caught.value.words == 3


def test_all_cores_have_images_as_long_as_the_longest():
    config = TINY.replace(cores=2)
    stores = [ListStore(config), ListStore(config)]
    stores[0].append([part((1, 0)), NOTHING, NOTHING, NOTHING], "conv")
    for weight in (2, 3):
        stores[1].append([NOTHING, NOTHING, part((weight, 1), (4, 2)), NOTHING], "conv")
    image = pack_all(stores, config)
    assert image.shape == (8, 2 + 4)
    np.testing.assert_array_equal(lists_of(image[:4], 1, config)[0][0], part((1, 0)))
    found = lists_of(image[4:], 2, config)
    assert [[len(entries) for entries in lists] for lists in found] == [[0, 0], [0, 0], [2, 2], [0, 0]]
    np.testing.assert_array_equal(found[2][1], part((3, 1), (4, 2)))
