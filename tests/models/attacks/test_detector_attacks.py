import numpy as np
import pytest
import torch

from models.attacks import pgd
from models.attacks.detector_attacks import confusion, consistent, orthogonal
from models.compression.quantize import encode
from models.integer import golden
from models.methods import detector


@pytest.fixture(scope="module")
def flag(compressed, digits):
    """Of images: which fool the final head, and which of those the detector lets pass at 5 % false positives."""
    network = compressed.network
    scales = [network.tensors()[head.logits].scale for head in network.exits]

    def heads(images):
        logits = golden.run(network, encode(images, network), keep=False).logits
        return [values * scale for values, scale in zip(logits, scales, strict=True)]

    threshold = detector.flag_threshold(detector.confusion(*heads(digits.validation.images)))

    def judge(images, labels):
        branch, final = heads(images)
        fools = final.argmax(axis=1) != labels
        return fools, fools & (detector.confusion(branch, final) <= threshold)

    return judge


def test_the_score_is_the_detectors():
    rng = np.random.default_rng(0)
    branch, final = rng.normal(size=(2, 50, 10)) * 3
    found = confusion((torch.from_numpy(branch), torch.from_numpy(final)))
    np.testing.assert_allclose(found.numpy(), detector.confusion(branch, final))


def test_images_stay_in_the_ball_and_seeds_repeat(target, some):
    few = some.take(20)
    for attack, options in ((consistent, {"steps": 5, "restarts": 1}), (orthogonal, {"steps": 8, "step": 0.05})):
        images = attack(target, few.images, few.labels, eps=0.1, **options)
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert np.abs(images - few.images).max() <= 0.1 + 1e-6
        np.testing.assert_array_equal(images, attack(target, few.images, few.labels, eps=0.1, **options))
        assert (images != attack(target, few.images, few.labels, eps=0.1, seed=1, **options)).any()
        assert attack(target, few.images[:0], few.labels[:0], eps=0.1, **options).shape == (0, 8, 8, 1)


@pytest.mark.slow
def test_attackers_who_know_the_detector_pass_it_more_often(target, some, flag):
    def passing(images):
        fools, unflagged = flag(images, some.labels)
        assert fools.mean() > 0.3
        return unflagged.sum() / fools.sum()

    unaware = passing(pgd(target, some.images, some.labels, eps=0.1, steps=40))
    assert passing(consistent(target, some.images, some.labels, eps=0.1, steps=40, restarts=2)) > unaware + 0.05
    assert passing(orthogonal(target, some.images, some.labels, eps=0.1, steps=60)) > unaware + 0.05


def test_more_restarts_only_lower_the_score(target, some):
    def scores(restarts):
        images = consistent(target, some.images[:40], some.labels[:40], eps=0.1, steps=10, restarts=restarts)
        with torch.no_grad():
            logits = target(torch.from_numpy(images).permute(0, 3, 1, 2))
        fools = logits[-1].argmax(dim=1).numpy() != some.labels[:40]
        return fools, np.where(fools, confusion(logits).numpy(), np.inf)

    (few, lowest_of_few), (more, lowest_of_more) = scores(1), scores(3)
    assert (more >= few).all()
    assert (lowest_of_more <= lowest_of_few + 1e-5).all()


def test_progress_and_wrong_requests(target, some):
    reports, few = [], some.take(5)
    consistent(
        target, few.images, few.labels, eps=0.1, steps=1, restarts=1, rounds=2,
        progress=lambda *report: reports.append(report),
    )  # fmt: skip
    assert reports == [(1, 2, "consistent"), (2, 2, "consistent")]
    for name in ("steps", "restarts", "rounds"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            consistent(target, few.images, few.labels, eps=0.1, **{name: 0})
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        orthogonal(target, few.images, few.labels, eps=0.1, steps=0)
