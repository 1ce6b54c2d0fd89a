from dataclasses import replace

import numpy as np
import pytest
import torch

from hw.compiler.compile import compile_network
from hw.config import preset
from models.attacks import branch_loss, fgsm, final_loss, joint_loss, max_average, pgd, slowdown
from models.attacks.gradient import slope
from models.attacks.objectives import margin_loss
from models.compression.quantize import encode
from models.integer import golden
from models.integer.surrogate import Surrogate
from sim import simulate
from tests.models.attacks.plain import Noisy, Plain


def outcome(compressed, images, labels):
    """Accuracy of the integers and the share of images that leave early."""
    result = golden.run(compressed.network, encode(images, compressed.network), keep=False)
    return result.accuracy(labels), result.exit_share()[0]


def attacks(target, some, eps):
    return {
        "fgsm": fgsm(target, some.images, some.labels, eps=eps),
        "pgd": pgd(target, some.images, some.labels, eps=eps, steps=10),
        "max_average": max_average(target, some.images, some.labels, eps=eps, steps=10),
        "slowdown": slowdown(target, some.images, eps=eps, steps=10),
    }


@pytest.mark.parametrize("eps", [0.0, 0.03, 0.2])
def test_images_stay_in_the_ball(target, some, eps):
    for name, images in attacks(target, some, eps).items():
        assert images.dtype == np.float32, name
        assert images.shape == some.images.shape, name
        assert images.min() >= 0, name
        assert images.max() <= 1, name
        assert np.abs(images - some.images).max() == pytest.approx(eps, abs=1e-6), name


def test_stronger_attacks_do_more(compressed, target, some):
    clean, _ = outcome(compressed, some.images, some.labels)
    once, _ = outcome(compressed, fgsm(target, some.images, some.labels, eps=0.1), some.labels)
    weak, small, large, huge = (
        outcome(compressed, pgd(target, some.images, some.labels, eps=eps, steps=steps), some.labels)[0]
        for eps, steps in ((0.03, 10), (0.1, 3), (0.1, 20), (1.0, 20))
    )
    assert clean > 0.9
    assert once < clean - 0.1
    assert large < once
    assert large <= small + 0.02
    assert huge < large < weak < clean
    assert huge < 0.1


def test_knowing_the_exits_reaches_the_branch(compressed, target, some):
    def branch(objective):
        images = pgd(target, some.images, some.labels, eps=0.05, objective=objective)
        logits = golden.run(compressed.network, encode(images, compressed.network), keep=False).logits[0]
        return (logits.argmax(axis=1) == some.labels).mean()

    assert branch(joint_loss) < branch(final_loss) - 0.05


def test_slowdown_makes_products_where_there_is_no_exit(compressed, some):
    network = compressed.network
    layers = [layer for layer in network.layers if not layer.name.startswith("branch")]
    whole = replace(network, layers=tuple(layers), exits=network.exits[-1:])
    program = compile_network(whole, preset("tiny"))
    sums = []
    for eps in (0.0, 0.05, 0.1):
        images = slowdown(Surrogate(whole), some.images, eps=eps, steps=10)
        assert np.abs(images - some.images).max() <= eps + 1e-6
        found = simulate(program, encode(images, whole))
        sums.append((found.products.sum(), found.cycles.sum()))
    assert sums[0][0] < sums[1][0] < sums[2][0]
    assert sums[0][1] < sums[1][1] < sums[2][1]


def test_slowdown_keeps_images_from_leaving(compressed, target, some):
    _, clean = outcome(compressed, some.images, some.labels)
    shares = [
        outcome(compressed, slowdown(target, some.images, eps=eps, steps=20), some.labels)[1] for eps in (0.05, 0.1)
    ]
    assert clean > shares[0] > shares[1]
    assert shares[1] < clean / 2


def test_noise_of_the_same_size_does_little(compressed, some):
    rng = np.random.default_rng(0)
    noise = np.clip(some.images + rng.choice([-0.1, 0.1], some.images.shape), 0, 1).astype(np.float32)
    assert outcome(compressed, noise, some.labels)[0] > 0.8


def test_seeds_and_restarts(target, some):
    def run(**options):
        return pgd(target, some.images[:40], some.labels[:40], eps=0.1, steps=3, **options)

    np.testing.assert_array_equal(run(seed=1), run(seed=1))
    assert (run(seed=1) != run(seed=2)).any()
    np.testing.assert_array_equal(run(seed=1, random_start=False), run(seed=2, random_start=False))

    def loss(images):
        with torch.no_grad():
            logits = target(torch.from_numpy(images).permute(0, 3, 1, 2))
        return final_loss(logits, torch.from_numpy(some.labels[:40])).numpy()

    assert (loss(run(seed=1, restarts=3)) >= loss(run(seed=1)) - 1e-5).all()


def test_a_linear_model_is_attacked_exactly():
    images = np.full((2, 2, 2, 1), 0.5, np.float32)
    labels = np.array([0, 1])
    expected = images + np.array([-0.25, 0.25], np.float32)[:, None, None, None]
    np.testing.assert_allclose(fgsm(Plain(), images, labels, eps=0.25), expected)
    np.testing.assert_allclose(pgd(Plain(), images, labels, eps=0.25), expected)
    np.testing.assert_allclose(
        pgd(Plain(), images, labels, eps=0.25, steps=2, step=0.05, random_start=False),
        images + np.array([-0.1, 0.1], np.float32)[:, None, None, None],
        rtol=1e-6,
    )


def test_the_largest_summed_loss_counts(target, some):
    def summed(images):
        with torch.no_grad():
            logits = target(torch.from_numpy(images).permute(0, 3, 1, 2))
        labels = torch.from_numpy(some.labels)
        return sum(torch.nn.functional.cross_entropy(head, labels, reduction="none") for head in logits).numpy()

    options = {"eps": 0.1, "steps": 5}
    found = summed(max_average(target, some.images, some.labels, **options))
    assert (found >= summed(pgd(target, some.images, some.labels, **options)) - 1e-4).all()
    assert (found >= summed(pgd(target, some.images, some.labels, objective=branch_loss, **options)) - 1e-4).all()
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        max_average(target, some.images, some.labels, eps=0.1, steps=0)
    assert max_average(target, some.images[:0], some.labels[:0], eps=0.1).shape == (0, 8, 8, 1)


def test_gradients_of_noisy_models_are_averaged():
    """The noise's gradient is 20 times that of the sum; 4000 draws make it a third of it."""

    def right(draws):
        torch.manual_seed(0)
        found = slope(Noisy(), torch.full((8, 1, 3, 3), 0.5), torch.ones(8, dtype=torch.int64), margin_loss, draws)
        return (found.gradient.sign() == 1).float().mean().item()

    assert right(4000) > 0.95
    assert right(1) < 0.7
    images, labels = np.full((8, 3, 3, 1), 0.5, np.float32), np.ones(8, np.int64)
    moved = pgd(Noisy(), images, labels, eps=0.25, steps=2, draws=2)
    assert np.abs(moved - images).max() == 0.25
    with pytest.raises(ValueError, match="draws must be at least 1, not 0"):
        pgd(Noisy(), images, labels, eps=0.25, draws=0)


def test_progress(target, some):
    reports = []
    pgd(target, some.images, some.labels, eps=0.1, steps=2, restarts=2, progress=lambda *report: reports.append(report))
    assert reports == [(n, 6, "PGD") for n in range(1, 7)]
    reports.clear()
    fgsm(target, some.images, some.labels, eps=0.1, progress=lambda *report: reports.append(report))
    assert reports == [(1, 1, "FGSM")]


def test_no_images(target, some):
    nothing = some.take(0)
    assert pgd(target, nothing.images, nothing.labels, eps=0.1).shape == (0, 8, 8, 1)
    assert slowdown(target, nothing.images, eps=0.1).shape == (0, 8, 8, 1)


def test_wrong_requests(target, some):
    with pytest.raises(ValueError, match=r"eps must be in 0..1, not 8"):
        fgsm(target, some.images, some.labels, eps=8)
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        pgd(target, some.images, some.labels, eps=0.1, steps=0)
    with pytest.raises(ValueError, match="restarts must be at least 1, not 0"):
        pgd(target, some.images, some.labels, eps=0.1, restarts=0)
    with pytest.raises(ValueError, match=r"step must not be negative, not -0.1"):
        pgd(target, some.images, some.labels, eps=0.1, step=-0.1)
    with pytest.raises(ValueError, match=r"images must be a floating-point array .* with one label each"):
        fgsm(target, some.images, some.labels[:3], eps=0.1)
    with pytest.raises(ValueError, match="a slowdown attack needs a model with an early exit, or the Surrogate of"):
        slowdown(Plain(), some.images, eps=0.1)
