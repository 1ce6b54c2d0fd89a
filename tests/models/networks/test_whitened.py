import pytest
import torch

from models.networks.architectures import initial
from models.networks.whitened import WhitenedArchitecture, whitening

SMALL = WhitenedArchitecture(shape=(9, 12, 3), classes=7, widths=(5, 6, 6))


def test_it_takes_every_size_it_says():
    model = initial(SMALL, 0).eval()
    (logits,) = model(torch.rand(4, 3, 9, 12))
    assert logits.shape == (4, 7)
    with pytest.raises(ValueError, match=r"shape must be .* of 9 to 255 rows and columns"):
        WhitenedArchitecture(shape=(8, 12, 3), classes=7)
    with pytest.raises(ValueError, match="widths must be 3 whole numbers from 1 to 4088"):
        WhitenedArchitecture(shape=(9, 9, 3), classes=7, widths=(0, 1, 1))


def test_convolutions_begin_by_passing_channels_on():
    first = initial(SMALL, 0).groups[2].first
    x = torch.rand(2, 6, 5, 5)
    torch.testing.assert_close(first(x), x)


def test_whitened_patches_are_uncorrelated_and_of_variance_one():
    """Of images whose neighbouring pixels are alike."""
    images = torch.rand(400, 2, 6, 6, generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3)
    filters, biases = whitening(images)
    assert filters.shape == (16, 2, 2, 2)
    found = torch.nn.functional.conv2d(images, filters, biases).transpose(0, 1).flatten(1)
    assert found.mean(dim=1).abs().max() < 1e-3
    torch.testing.assert_close(torch.cov(found[:8]), torch.eye(8), atol=0.05, rtol=0)
    torch.testing.assert_close(found[8:], -found[:8], atol=1e-4, rtol=0)
