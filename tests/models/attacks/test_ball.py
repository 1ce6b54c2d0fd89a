"""The images around an image, what is refused, and the attack on batch after batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.attacks.ball import Ball, attacked, balls, check

LABELS = np.arange(2)


def maps(count: int = 2, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 4, 2)).astype(np.float32)


@given(eps=st.floats(0, 1), seed=st.integers(0, 99))
def test_the_nearest_allowed_image_is_limited_pixel_by_pixel(eps, seed):
    images, far = maps(seed=seed), 3 * maps(seed=seed + 100) - 1
    found = Ball(images, LABELS, eps).project(torch.from_numpy(far).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    for place in np.ndindex(images.shape):
        pixel, change = images[place], np.float32(eps)
        assert found[place] == min(max(far[place], pixel - change, 0), pixel + change, 1)


def test_what_is_drawn_fills_the_ball_evenly():
    images = np.full((1, 100, 100, 1), 0.05, np.float32)
    drawn = Ball(images, LABELS[:1], 0.2).start(torch.Generator().manual_seed(3)).numpy()
    assert drawn.min() == 0  # 0.05 - 0.2 is no pixel
    assert 0.249 < drawn.max() <= 0.25
    shares = [(drawn == 0).mean(), (drawn < 0.15).mean(), (drawn < 0.2).mean()]
    np.testing.assert_allclose(shares, [0.375, 0.75, 0.875], atol=0.02)


def test_a_ball_keeps_its_images_and_labels_for_pytorch():
    images = maps().astype(np.float64)[:, :, ::-1]
    ball = Ball(images, np.arange(4, dtype=np.int8)[::2], 0.1)
    assert len(ball) == 2
    assert (ball.clean.dtype, ball.labels.dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(ball.clean.numpy(), images.transpose(0, 3, 1, 2).astype(np.float32))
    assert ball.labels.tolist() == [0, 2]


def test_the_last_batch_has_what_is_left():
    images = maps(7)
    parts = list(balls(images, np.arange(7), 0.1, size=3))
    assert [ball.labels.tolist() for ball in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    np.testing.assert_array_equal(
        torch.cat([ball.clean for ball in parts]).numpy(), images.transpose(0, 3, 1, 2)
    )  # fmt: skip
    assert [len(ball) for ball in balls(maps(257), np.zeros(257), 0.1)] == [256, 1]


def run(attack, count: int, **options):
    model = nn.BatchNorm2d(2).train()
    return attacked(model, maps(count), np.zeros(count), eps=0.5, attack=attack, text="test", **options), model


def test_all_batches_share_a_generator_and_the_ticks():
    reports = []

    def attack(ball, generator, tick):
        tick(), tick()
        return ball.start(generator)

    found, model = run(attack, 300, ticks=2, seed=4, progress=lambda *report: reports.append(report))
    assert reports == [(n, 4, "test") for n in (1, 2, 3, 4)]
    assert not model.training
    assert (found.dtype, found.flags["C_CONTIGUOUS"]) == (np.float32, True)
    generator = torch.Generator().manual_seed(4)
    expected = [Ball(part, np.zeros(len(part)), 0.5).start(generator) for part in np.split(maps(300), [256])]
    np.testing.assert_array_equal(found, torch.cat(expected).numpy().transpose(0, 2, 3, 1))
    assert (run(attack, 300, seed=4)[0] == found).all()
    assert (run(attack, 300, seed=5)[0] != found).any()


def test_no_images_stay_no_images():
    found, _ = run(None, 0)
    assert (found.shape, found.dtype) == ((0, 3, 4, 2), np.float32)


@pytest.mark.parametrize(
    ("images", "labels", "eps", "counts", "message"),
    [
        (maps()[0], LABELS, 0.1, {}, r"images must be a floating-point array .*, not float32 \(3, 4, 2\) with \(2,\)"),
        (maps().astype(int), LABELS, 0.1, {}, r"floating-point array .*, not int64 \(2, 3, 4, 2\)"),
        (maps(), LABELS[:1], 0.1, {}, r"one label each, not float32 \(2, 3, 4, 2\) with \(1,\)"),
        (maps(), LABELS[:, None], 0.1, {}, r"one label each, .* with \(2, 1\)"),
        (maps(), LABELS, 1.01, {}, r"eps must be in 0\.\.1, not 1.01"),
        (maps(), LABELS, -0.1, {}, r"eps must be in 0\.\.1, not -0.1"),
        (maps(), LABELS, float("nan"), {}, r"eps must be in 0\.\.1, not nan"),
        (maps(), LABELS, 0.1, {"steps": 1, "restarts": 0}, "restarts must be at least 1, not 0"),
    ],
)
def test_what_is_no_request_is_refused(images, labels, eps, counts, message):
    with pytest.raises(ValueError, match=message):
        check(images, labels, eps, **counts)


def test_radii_and_counts_at_their_ends_pass():
    for eps in (0.0, 1.0):
        check(maps().astype(np.float16), LABELS, eps, steps=1)
