import numpy as np
import pytest

from models.compression.quantize import encode
from models.integer import golden
from offramp.measure.inputs import ATTACKS, EPS, attack, attacked, default_eps
from sim import simulate

EPSILON = 0.1


@pytest.mark.parametrize("name", ATTACKS)
def test_images_stay_in_range_and_near(small, name):
    split = small.source.test.take(40)
    images = attacked(attack(name), small.program.network, split, eps=EPSILON, seed=1)
    assert images.shape == split.images.shape
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    change = np.abs(images - split.images).max()
    assert change <= EPSILON + 1e-6
    assert (change == 0) == (name == "clean")


def test_attacks_do_what_they_are_for(small):
    """PGD lowers the accuracy on the integer network; the slowdown makes images pass the exit."""
    network, split = small.program.network, small.source.test.take(120)

    def outcome(name):
        images = attacked(attack(name), network, split, eps=EPSILON, seed=1)
        return golden.run(network, encode(images, network), keep=False)

    clean = outcome("clean")
    assert outcome("pgd").accuracy(split.labels) < clean.accuracy(split.labels) - 0.1
    assert outcome("adaptive").accuracy(split.labels) < clean.accuracy(split.labels) - 0.1
    assert outcome("slowdown").exit_share()[0] < clean.exit_share()[0]


def test_equal_seeds_give_equal_images(small):
    split = small.source.test.take(10)
    same, again, other = (
        attacked(attack("pgd"), small.program.network, split, eps=EPSILON, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"^attack must be one of clean, fgsm, pgd, adaptive, slowdown, not 'square'$"):
        attack("square")
    with pytest.raises(
        ValueError, match=r"^--eps must be given unless images are of digits, .*, and these are of x.npz$"
    ):
        default_eps("x.npz")
    with pytest.raises(ValueError, match=r"and these are random$"):
        default_eps("")
    assert default_eps("digits") == EPS["digits"]


def test_the_slowdown_takes_cycles_without_an_exit(small):
    split, options = small.source.test.take(60), {"eps": EPSILON, "seed": 0}
    clean, slow = (
        simulate(
            small.dense, encode(attacked(attack(name), small.dense.network, split, **options), small.dense.network)
        )
        for name in ("clean", "slowdown")
    )
    assert len(small.dense.network.exits) == 1
    assert slow.products.sum() > clean.products.sum()
    assert slow.cycles.sum() > clean.cycles.sum()
