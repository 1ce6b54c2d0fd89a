"""What the functions of ``import offramp`` refuse: each argument of another kind or out of range, in a sentence."""

import numpy as np
import pytest
import torch
from torch import nn

import offramp
from models.networks.residual_net import to_torch
from offramp.terminal.errors import sentence


class TwoHeads(nn.Module):
    """An exit behind its only convolution, and a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.early, self.last = nn.Conv2d(1, 4, 3), nn.Linear(144, 4), nn.Linear(144, 4)

    def forward(self, x):
        x = self.conv(x).relu().flatten(1)
        return self.early(x), self.last(x)


IMAGES = np.random.default_rng(0).random((32, 8, 8, 1))
LABELS = np.random.default_rng(1).integers(0, 4, 32)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return TwoHeads().eval()


@pytest.fixture(scope="module")
def network(module):
    return offramp.quantize(module, IMAGES)


@pytest.fixture(scope="module")
def program(network):
    return offramp.compile(network)


def said(act, *arguments, **options):
    """What is said of a refusal."""
    with pytest.raises(ValueError, match=" must ") as refusal:
        act(*arguments, **options)
    text = sentence(refusal.value)
    assert text
    return text


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS + 100, "labels must be in 0..3, not 100..103"),
        (LABELS - 1, "labels must be in 0..3, not -1..2"),
        (LABELS.astype(np.uint64) + 2**63, "labels must be in 0..3, not 9223372036854775808..9223372036854775811"),
        (LABELS.astype(float), "labels must be 32 integers, one an image, not float64 (32,)"),
        (LABELS > 1, "labels must be 32 integers, one an image, not bool (32,)"),
        (LABELS[:-1], "labels must be 32 integers, one an image, not int64 (31,)"),
        (LABELS[:, None], "labels must be 32 integers, one an image, not int64 (32, 1)"),
        (LABELS.astype(str), "labels must be an array of real numbers, not of <U21"),
        ([None] * 32, "labels must be an array of real numbers, not an object of type list"),
    ],
)
def test_labels_that_are_no_classes_are_refused(module, labels, message):
    assert said(offramp.quantize, module, IMAGES, labels) == message
    single = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 4))
    assert said(offramp.quantize, single, IMAGES, labels) == message


@pytest.mark.parametrize(
    "loss", [-0.1, 1.1, float("nan"), float("inf"), None, "0.1", True, 1j, pytest.param(10**400, id="huge")]
)
@pytest.mark.parametrize("labels", [None, LABELS])
def test_a_loss_is_a_share(module, loss, labels):
    assert said(offramp.quantize, module, IMAGES, labels, exit_loss=loss).startswith(
        "exit_loss must be a number in 0..1, not "
    )


@pytest.mark.parametrize("images", [[[1, 2], [3]], None, "x", IMAGES.astype(complex), IMAGES.astype(object)])
def test_what_is_no_array_is_refused(module, network, program, images):
    for act, *before in ((offramp.quantize, module), (offramp.simulate, program), (offramp.verify, program)):
        assert said(act, *before, images).startswith("images must be an array")
    if images is not None:
        assert said(offramp.compile, network, "single", images).startswith("images must be an array")


def test_an_array_that_is_none_of_numbers_is_called_by_its_type(program):
    assert said(offramp.simulate, program, IMAGES + 0j) == "images must be an array of real numbers, not of complex128"


def test_a_mask_is_not_heeded_and_refused(program):
    masked = np.ma.MaskedArray(IMAGES, mask=IMAGES > 0.5)
    assert said(offramp.simulate, program, masked) == (
        "images must be an array without a mask: fill it first (numpy.ma.MaskedArray.filled)"
    )


def test_labels_are_refused_before_a_network_is_calibrated(module, monkeypatch):
    monkeypatch.setattr("offramp.api.calibrate", lambda *_, **__: pytest.fail("calibrated"))
    assert said(offramp.quantize, module, IMAGES, LABELS[:-1]).startswith("labels must be 32 integers")


def test_images_of_another_shape_and_no_images_are_refused(network, program):
    for act, *before in ((offramp.compile, network, "single"), (offramp.simulate, program), (offramp.verify, program)):
        assert said(act, *before, np.zeros((2, 8, 7, 1), np.int8)) == (
            "codes must be of shape (N, 8, 8, 1), not (2, 8, 7, 1)"
        )
        assert said(act, *before, IMAGES[:0]) == "images must be at least 1, not 0"
        assert said(act, *before, IMAGES * np.nan) == "pixels must be numbers from 0 to 1, not nan to nan"


def test_tensors_are_images_also_while_they_are_learnt(program):
    tensor = torch.tensor(IMAGES, requires_grad=True)
    expected = offramp.simulate(program, IMAGES).cycles
    np.testing.assert_array_equal(offramp.simulate(program, tensor).cycles, expected)


def test_an_exported_program_is_quantized(module, network):
    exported = torch.export.export(module, (to_torch(IMAGES[:2].astype(np.float32)),))
    assert offramp.quantize(exported, IMAGES).arrays is not None


@pytest.mark.parametrize("value", [None, 1, b"x", ["x"], nn.Linear])
def test_what_is_of_another_kind_is_refused(value, network, program):
    assert said(offramp.load, value).startswith("path must be a file's name or zoo:NAME, not ")
    assert said(offramp.quantize, value, IMAGES).startswith("module must be a torch.nn.Module or an ExportedProgram")
    assert said(offramp.compile, value).startswith(
        "network must be an integer network (offramp.quantize, offramp.load)"
    )
    for act in (offramp.simulate, offramp.verify):
        assert said(act, value, IMAGES).startswith("program must be a program (offramp.compile, offramp.load), not ")
    for act, *before in ((offramp.compile, network), (offramp.build,)):
        assert said(act, *before, value).startswith("config must be a preset's name or an AcceleratorConfig, not ")
    assert said(offramp.build, "single", value).startswith("board must be a board's name, not ")
    assert said(offramp.build, link=value).startswith("link must be one of serial, usb, not ")
    assert said(offramp.verify, program, IMAGES, simulator=value).startswith("simulator must be ")
    assert said(offramp.quantize, TwoHeads(), IMAGES, name=value).startswith("name must be a text ")
    assert said(offramp.quantize, TwoHeads(), IMAGES, ranges=value).startswith("ranges must be one of ")


def test_networks_and_programs_are_not_mixed_up(network, program):
    assert said(offramp.compile, program).endswith("not an object of type Program")
    assert said(offramp.simulate, network, IMAGES).endswith("not an object of type Network")


@pytest.mark.parametrize("value", [None, "x", -1, 1.5, 2**31, True])
def test_a_seed_is_a_whole_number(program, value):
    expected = "seed must be a whole number in 0..2147483647, not "
    assert said(offramp.verify, program, IMAGES, seed=value).startswith(expected)
    assert said(offramp.build, seed=value).startswith(expected)


@pytest.mark.parametrize("value", [None, "50", 0, -1, 1e9, float("nan"), True])
def test_a_clock_and_a_baud_rate_are_numbers(value):
    assert said(offramp.build, clock_mhz=value).startswith("clock_mhz must be a number in 3.125..800.0, not ")
    assert said(offramp.build, baud=value).startswith("baud must be a positive integer, not ") or value == 1e9
