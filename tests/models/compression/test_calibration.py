import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.compression.calibration import calibrate
from models.compression.quantize import encode
from models.compression.range_rules import RANGES
from models.integer import golden
from models.networks.residual_net import to_torch
from tests.models.compression.calibrated import images, made
from tests.models.settings import Spoiler


class Refused(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        x = F.hardswish(self.stem(x))
        x = x * torch.sigmoid(self.gate(x))
        return self.head(F.gelu(x).mean((2, 3)))


def test_all_that_cannot_run_is_said_before_anything_is_computed():
    class Counting(Refused):
        def forward(self, x):
            assert len(x) <= 3
            return super().forward(x)

    with pytest.raises(ValueError, match="hardswish isn't among the operators: ReLU and ReLU6 are the nearest") as said:
        calibrate(Counting(), images(6, 6, 1))
    reasons = str(said.value).split("; ")
    assert len(reasons) == 3
    assert all("test_calibration.py:" in reason for reason in reasons)
    assert "mul must be of a map and constants, not of two maps as in squeeze-and-excitation" in reasons[1]
    with pytest.raises(ValueError, match="sum isn't among the operators: a mean over the same positions"):
        calibrate(Summed(), images(6, 6, 1))
    with pytest.raises(ValueError, match=r"sigmoid must be at the end of a network: within it Hardsigmoid and"):
        calibrate(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(32, 2)), images(6, 6, 1))
    with pytest.raises(ValueError, match=r"^0: a network's output must have at most 2048 values, not 2304$"):
        calibrate(nn.Sequential(nn.Conv2d(1, 64, 1)), images(6, 6, 1))
    with pytest.raises(ValueError, match="images must be at least 1, not 0"):
        calibrate(nn.Linear(1, 1), images(6, 6, 1, count=0))


def test_a_map_of_which_nothing_is_left_is_refused():
    message = r"^clip: a layer must be more than 0 dB above its noise as int8, not 0\.0 dB"
    with pytest.raises(ValueError, match=message):
        calibrate(Clamped(), 255 * images(6, 6, 1))


def test_what_cannot_be_calibrated_is_said_without_lines_of_ours():
    with pytest.raises(ValueError, match=r"^(?!.*\.py).*the scale of input times weights"):
        calibrate(Vanished(), images(6, 6, 1))


class Clamped(nn.Module):
    """Lets nothing through but what is less than half a step of its image."""

    def forward(self, x):
        return x.clamp(0, 0.4)


class Vanished(nn.Module):
    """Doubles a map that is 0 everywhere."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(36, 3)

    def forward(self, x):
        x = x - x
        return self.head((x + x).flatten(1))


class Summed(nn.Module):
    """Adds all positions up."""

    def forward(self, x):
        return x.sum(dim=(2, 3))


class Doubled(nn.Module):
    """Biases that are absent, a sum of a map with itself, a pool: whatever lowering makes tensors of its own for."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        return self.head((x + x).mean(dim=(2, 3)))


class Difference(nn.Module):
    """Maps less others, one of them a convolution's, one the map itself, and a negative."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.other = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        y = (self.one(x) - x).relu() - self.other(-x)
        return self.head((y - torch.rsub(x, y)).mean(dim=(2, 3)))


def test_differences_of_maps():
    torch.manual_seed(2)
    pictures = np.random.default_rng(0).random((40, 6, 6, 1), dtype=np.float32)
    found = calibrate(Difference().eval(), pictures)
    assert [layer.kind for layer in found.network.layers].count("add") == 4
    assert found.ratios[0] > 25


def test_images_in_other_units_set_the_range_of_the_input():
    """Normalised by a mean and a deviation, as users have them."""
    random = torch.Generator().manual_seed(4)
    module = Doubled().eval()
    pixels = torch.rand(64, 1, 6, 6, generator=random)
    images = ((pixels - 0.45) / 0.2).permute(0, 2, 3, 1).numpy()
    network = calibrate(module, images, "net").network
    scale, zero_point = network.input.scale, network.input.zero_point
    assert scale == (float(images.max()) - float(images.min())) / 255
    assert zero_point == round(-128 - float(images.min()) / scale) > -128
    codes = encode(images, network)
    assert (codes.min(), codes.max()) == (-128, 127)
    assert np.abs((codes.astype(np.float64) - zero_point) * scale - images).max() <= 0.51 * scale
    with torch.no_grad():
        expected = module(to_torch(images)).numpy()
    logits = golden.run(network, codes).logits[-1] * network.layers[-1].output.scale
    assert np.abs(logits - expected).max() < 0.03 * np.abs(expected).max()
    # A little further than calibration saw is clamped; what has other units is refused.
    np.testing.assert_array_equal(encode(1.2 * images, network).max(), 127)
    with pytest.raises(ValueError, match=r"^values of images must be numbers about in -2\.2\d*\.\.2\.7\d*, "):
        encode(255 * images, network)


def doubled(dtype):
    """A network, and images for it."""
    torch.manual_seed(3)
    return Doubled().to(dtype), np.random.default_rng(4).random((70, 8, 8, 1))


@pytest.fixture(
    scope="module",
    params=[torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)],
    ids=["float32", "float64"],
)
def usual(request):
    """A type of weights, and what calibration makes of them in a process that has set nothing."""
    return request.param, calibrate(*doubled(request.param), "net").network


def test_calibration_is_the_same_whatever_the_process_has_set(setting, usual):
    dtype, expected = usual
    model, images = doubled(dtype)
    if isinstance(setting, Spoiler):  # what the module itself computes is another thing then, and that is noticed
        with setting, pytest.raises(ValueError, match="stem"):
            calibrate(model, images)
        return
    with setting:
        found = calibrate(model, images, "net").network
    assert found.to_dict() == expected.to_dict()
    arrays = dict(expected.arrays())
    for name, values in found.arrays():
        np.testing.assert_array_equal(values, arrays.pop(name), err_msg=name, strict=True)
    assert not arrays


class Digits(nn.Module):
    """Random features of digits with the best linear head for them, and one of no use that rarely is very active."""

    def __init__(self, split):
        super().__init__()
        torch.manual_seed(6)
        self.stem, self.head = nn.Conv2d(1, 12, 3, padding=1), nn.Linear(12 * 64, 10)
        with torch.no_grad():
            self.stem.weight[0], self.stem.bias[0] = 20.0, -165.0
            features, classes = self.features(to_torch(split.images)), F.one_hot(torch.from_numpy(split.labels), 10)
            features[:, :64] = 0
            ridge = features.T @ features + torch.eye(features.shape[1])
            self.head.weight[:] = torch.linalg.solve(ridge, features.T @ (classes - 0.1)).T
            self.head.bias.zero_()

    def features(self, x):
        return F.relu(self.stem(x)).flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


def test_each_choice_of_ranges_is_best_at_what_it_is_for(digits):
    model, images, errors, noise = Digits(digits.train).eval(), digits.train.images[:512], {}, {}
    (expected,), (right,) = (made(model, pictures) for pictures in (images, digits.test.images))
    right = (right.argmax(1) == digits.test.labels).mean()
    with torch.no_grad():
        features = model.features(to_torch(images)).unflatten(1, (12, 8, 8)).permute(0, 2, 3, 1).numpy()
    for ranges in RANGES:
        network = calibrate(model, images, ranges=ranges).network
        run, stem = golden.run(network, encode(images, network)), network.layer("stem").output
        values = (run.tensors["stem"].astype(np.float64) - stem.zero_point) * stem.scale
        errors[ranges] = np.square(values - features).mean()
        noise[ranges] = np.square(run.logits[-1] * network.layer("head").output.scale - expected).mean()
        classes = golden.run(network, encode(digits.test.images, network)).classes
        assert abs((classes == digits.test.labels).mean() - right) <= 0.01
    assert right > 0.93
    assert errors["mse"] < min(errors["minmax"], errors["percentile"])
    assert noise["percentile"] < min(noise["minmax"], noise["mse"])  # what is rare is of no use here
    with pytest.raises(ValueError, match="ranges must be one of minmax, percentile, mse, not 'entropy'"):
        calibrate(model, images, ranges="entropy")
