"""What is there of every map, while maps are written and others take their places."""

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.network.network import INPUT, Network
from hw.program.check.maps import Maps
from hw.program.instructions import WindowFields
from tests.hw.networks import runnable
from tests.random_networks import NetworkMaker

#: Rows of 4 positions of a word: ``stem``, ``inner`` and ``sum`` have three; ``mean`` and ``hidden`` are one position.
NETWORK = runnable()
CONFIG = AcceleratorConfig(cores=2, accumulator_bits=32)
WHOLE = (0, 1)


def windows(base: int, *, bank: int = 0, low: int = 0, count: int = 12) -> tuple[WindowFields, ...]:
    """The same in both cores."""
    return (WindowFields(bank=bank, base=base, low=low, count=count),) * 2


def wide() -> Network:
    """A map of three words a position, and its mean."""
    maker = NetworkMaker(np.random.default_rng(0), (3, 4, 2))
    maker.head(maker.pool(maker.conv(INPUT, 20, (1, 1))), 3)
    return maker.network("wide")


NOTHING = WindowFields(bank=0, base=0, low=0, count=0)


@pytest.fixture
def maps() -> Maps:
    return Maps(NETWORK, windows(100, bank=1, count=24), CONFIG)


def there(maps: Maps, name: str, core: int, rows: list[int], words: tuple[int, int] = WHOLE) -> bool:
    try:
        maps.read("layer 3", name, core, np.array(rows), words)
    except ValueError:
        return False
    return True


def test_words_are_numbered_row_by_row_and_channels_together():
    maps = Maps(wide(), windows(0), CONFIG)
    assert (maps.shape(INPUT), maps.shape("layer0"), maps.shape("layer1")) == ((3, 4, 1), (3, 4, 3), (1, 1, 3))
    assert (maps.number("layer0", 2, 1), maps.number("layer1", 0, 2)) == (2 * 4 * 3 + 1, 2)


def test_the_image_is_there_and_nothing_else(maps):
    assert maps.window(INPUT, 1) == windows(100, bank=1, count=24)[1]
    assert there(maps, INPUT, 1, [0, 5])
    assert not there(maps, "stem", 0, [0])
    with pytest.raises(ValueError, match=r"^layer 3: rows 1 to 2 of stem must be there when they are read$"):
        maps.read("layer 3", "stem", 0, np.array([2, 1]), WHOLE)
    with pytest.raises(ValueError, match=r"^stem must be written before it is read$"):
        maps.window("stem", 0)


def test_rows_are_there_from_when_they_are_made(maps):
    maps.open("stem", windows(0))
    maps.make("stem", ((0, 1), (2, 3)), WHOLE)
    assert there(maps, "stem", 0, [0, 2])
    assert not there(maps, "stem", 0, [0, 1])
    # The next command makes the rest, with the same windows.
    maps.open("stem", windows(0))
    maps.make("stem", ((1, 2),), WHOLE)
    assert there(maps, "stem", 1, [0, 1, 2])


def test_a_map_whose_windows_move_is_forgotten(maps):
    maps.open("stem", windows(0))
    maps.make("stem", ((0, 3),), WHOLE)
    maps.open("stem", windows(0, count=8))
    assert not there(maps, "stem", 0, [0])
    maps.make("stem", ((0, 1),), WHOLE)
    assert there(maps, "stem", 0, [0])
    assert maps.window("stem", 1).count == 8


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        (windows(32), True),
        (windows(31), False),
        (windows(8), True),
        (windows(9), False),
        (windows(20, bank=1), True),
        (windows(25, count=0), True),
        (windows(25, count=1), False),
    ],
)
def test_a_map_that_another_one_is_written_over_is_lost(maps, other, kept):
    maps.open("stem", windows(20))
    maps.make("stem", ((0, 3),), WHOLE)
    maps.open("mean", other)
    assert there(maps, "stem", 0, [0, 2]) == kept


def test_a_map_is_lost_only_in_the_cores_that_write_there(maps):
    maps.open("stem", windows(0))
    maps.make("stem", ((0, 3),), WHOLE)
    maps.open("mean", (NOTHING, windows(4, count=1)[0]))
    assert there(maps, "stem", 0, [0, 2])
    assert not there(maps, "stem", 1, [0, 2])


def test_a_map_that_was_lost_is_made_anew_in_the_same_place(maps):
    maps.open("stem", windows(0))
    maps.make("stem", ((0, 3),), WHOLE)
    maps.open("mean", windows(4, count=1))
    maps.open("stem", windows(0))
    assert not there(maps, "stem", 0, [0])
    maps.make("stem", ((0, 3),), WHOLE)
    assert there(maps, "stem", 0, [0, 1, 2])


def test_a_map_of_the_same_words_takes_a_place_row_by_row(maps):
    """A sum is written over its operand, whose rows behind are still to be added."""
    maps.open("stem", windows(0))
    maps.make("stem", ((0, 3),), WHOLE)
    maps.open("sum", windows(0))
    assert there(maps, "stem", 0, [0, 1, 2])
    maps.make("sum", ((0, 2),), WHOLE)
    assert there(maps, "sum", 0, [0, 1])
    assert not there(maps, "stem", 0, [1])
    assert there(maps, "stem", 0, [2])
    # Opened again it takes the place of nothing.
    maps.open("stem", windows(50))
    maps.make("stem", ((0, 3),), WHOLE)
    maps.make("sum", ((2, 3),), WHOLE)
    assert there(maps, "stem", 0, [0, 1, 2])


def test_words_of_a_position_are_there_one_by_one():
    maps = Maps(wide(), windows(0), CONFIG)
    maps.open("layer0", windows(0, count=36))
    maps.make("layer0", ((0, 3),), (0, 2))
    assert there(maps, "layer0", 0, [1], (0, 2))
    assert not there(maps, "layer0", 0, [1], (1, 3))
    maps.make("layer0", ((0, 2),), (2, 3))
    assert there(maps, "layer0", 0, [0, 1], (0, 3))
    assert not there(maps, "layer0", 0, [2], (0, 3))
