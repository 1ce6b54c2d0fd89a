import numpy as np
import pytest
import torch
from torch import nn

from hw.network.selection import Select
from models.compression.quantize import quantize, to_network
from models.compression.winner_rates import WinnerRates
from models.methods.dasnet import (
    ANNEAL,
    Equalised,
    channel_means,
    equalise,
    inner_layers,
    jaccard,
    static_channels,
    winner_masks,
)
from models.networks.winners import Winners, attach, attached
from models.training.train import Schedule, accuracy, fit, predict

INNER = ["early.second.conv", "late.second.conv"]


def test_winners_stand_inside_blocks(trained):
    assert inner_layers(trained.model()) == {
        "early.second.conv": "early.first.norm",
        "late.second.conv": "late.first.norm",
    }


def test_rates_fall_over_the_first_half():
    assert [ANNEAL.at(share) for share in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.5, 1.0, 1.0]


def test_equalised_channels_change_nothing_but_their_size(digits, trained):
    model = trained.model()
    images = digits.train.images[:200]
    before, means = predict(model, images), channel_means(model, images)
    assert all(found.max() > 1.5 * found.min() for found in means.values())
    equalise(model, images)
    for found, expected in zip(predict(model, images), before, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3, rtol=1e-3)
    for name, found in channel_means(model, images).items():
        alive = means[name] > 0
        torch.testing.assert_close(found[alive], means[name][alive].mean().expand(int(alive.sum())), rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match="equalising needs at least 1 image, not 0"):
        equalise(model, images[:0])


def test_channels_are_equalised_before_training(digits, trained):
    model, expected = trained.model(), trained.model()
    fit(model, digits.train.take(100), Schedule(epochs=1, lr=1e-12), seed=0, pieces=[Equalised(50)])
    equalise(expected, digits.train.images[:50])
    torch.testing.assert_close(model.late.second.conv.weight, expected.late.second.conv.weight)
    assert (model.late.second.conv.weight != trained.model().late.second.conv.weight).any()
    with pytest.raises(ValueError, match="equalising needs at least 1 image, not 0"):
        Equalised(0)


def test_equalised_winners_are_those_of_normalised_scores(digits, trained):
    model, images = trained.model(), digits.test.images[:100]
    means = channel_means(model, digits.train.images[:200])["late.second.conv"]
    seen = []
    hook = model.late.second.conv.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    predict(model, images)
    hook.remove()
    scores = torch.cat(seen).abs().mean(dim=(2, 3)) / means
    expected = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.argsort(1, descending=True)[:, :8], True)
    equalise(model, digits.train.images[:200])
    attach(model, {"late.second.conv": Winners("channels", 0.5)})
    found = winner_masks(model, images)["late.second.conv"]
    assert (found == expected.numpy()).mean() > 0.999  # rounding decides a few ties


def test_blocks_without_batch_norm_are_refused(trained, digits):
    model = trained.model()
    model.early.first.norm = nn.Identity()
    with pytest.raises(ValueError, match=r"early.second.conv: channels must come from a BatchNorm2d"):
        equalise(model, digits.train.images[:10])


def test_static_channels_are_the_largest(digits, trained):
    model, images = trained.model(), digits.train.images[:100]
    found = static_channels(model, images, {"late.second.conv": 0.25})
    means = channel_means(model, images)["late.second.conv"]
    chosen = found["late.second.conv"].channels
    assert len(chosen) == 4
    assert list(chosen) == sorted(means.argsort(descending=True)[:4].tolist())
    with pytest.raises(ValueError, match=r"'stem.conv' is no second convolution of a block"):
        static_channels(model, images, {"stem.conv": 0.5})


def test_winners_follow_the_image_static_channels_do_not(digits, trained):
    model, few = trained.model(), digits.test
    attach(model, {name: Winners("channels", 0.5) for name in INNER})
    masks = winner_masks(model, few.images)
    assert attached(model)["early.second.conv"].rate == 0.5
    for found in masks.values():
        assert (found.sum(axis=1) == found.shape[1] // 2).all()
    within, between = jaccard(masks["late.second.conv"], few.labels)
    assert 0 < between < within < 1
    fixed = np.zeros((4, 3), bool)
    fixed[:, 0] = True
    assert jaccard(fixed, np.array([0, 0, 1, 1])) == (1.0, 1.0)


def test_similarity_of_winners():
    masks = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0]], bool)
    assert jaccard(masks, np.array([0, 0, 1])) == (1.0, pytest.approx(1 / 3))
    for labels in (np.zeros(3, int), np.arange(3)):
        with pytest.raises(ValueError, match="winners are compared within and between classes"):
            jaccard(masks, labels)


def test_annealed_winners_reach_the_accelerators_network(digits, trained):
    """Fine-tuning makes good most of what dropping half of the channels costs."""
    model = trained.model()
    attach(model, {name: Winners("channels", 0.5) for name in INNER})
    dropped = accuracy(predict(model, digits.test.images)[-1], digits.test.labels)
    pieces = [WinnerRates("channels", dict.fromkeys(INNER, 0.5), ANNEAL)]
    fit(model, digits.train, Schedule(epochs=8, lr=0.003), seed=0, pieces=pieces)
    tuned = accuracy(predict(model, digits.test.images)[-1], digits.test.labels)
    assert tuned > max(dropped, 0.9)
    network = to_network(quantize(model, digits.train, Schedule(epochs=1, lr=1e-4), seed=0), "dasnet")
    assert network.layer("early.second.conv").select == Select(kind="channels", count=4)
    assert network.layer("late.second.conv").select == Select(kind="channels", count=8)
