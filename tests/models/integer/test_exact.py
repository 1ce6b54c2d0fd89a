"""Integers must not depend on what a process has told PyTorch: each setting, and that it is as it was afterwards."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from hw.network.network import INPUT, Conv2D, Exit, Network
from hw.numerics import Rounding
from models.compression.fakequant import FakeQuantNet
from models.compression.quantize import encode, to_network
from models.frontends.pytorch.graph import lower
from models.integer import exact, golden
from models.integer.activity import activity
from models.networks.residual_net import Architecture, ResidualNet
from tests.hw.networks import tensor, weighted
from tests.models.definition import head, images
from tests.models.settings import precision


def network() -> Network:
    """A convolution whose sums need 23 bits, a plain one, and heads behind a map and the image."""
    stem = Conv2D(
        name="stem",
        inputs=(INPUT,),
        output=tensor(6, 6, 16, zero_point=-5),
        rounding=Rounding.DOUBLE,
        **weighted(16, 3, 3, 16, seed=3),
    )
    weight = np.random.default_rng(0).integers(-127, 128, (2, 6, 6, 16)).astype(np.int8)
    early = head(INPUT, (8, 8, 16), np.full((2, 8, 8, 16), 101, np.int8), name="early")
    last = head("stem", (6, 6, 16), weight)
    exits = (Exit(logits="early", threshold=7), Exit(logits="head"))
    return Network(name="net", input=tensor(8, 8, 16, zero_point=3), layers=(stem, early, last), exits=exits, classes=2)


def test_golden_makes_the_same_integers(setting):
    net, codes = network(), images(9, 8, 8, 16)
    codes[3] = 126
    expected = golden.run(net, codes, batch=4)
    np.testing.assert_array_equal(expected.logits[0][3], [123 * 1024 * 101] * 2)
    with setting:
        found = golden.run(net, codes, batch=4)
        again = golden.run(net, torch.from_numpy(codes), keep=False)
    for name, values in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], values, err_msg=name, strict=True)
    for result in (found, again):
        np.testing.assert_array_equal(result.logits, expected.logits, strict=True)
        np.testing.assert_array_equal(result.margins, expected.margins, strict=True)
        np.testing.assert_array_equal(result.classes, expected.classes, strict=True)


def test_encoding_and_statistics_are_the_same(setting):
    net = network()
    pixels = np.random.default_rng(1).random((5, 8, 8, 16)).astype(np.float32)
    expected = encode(pixels, net)
    shares = activity(net, expected)
    with setting:
        found = encode(pixels, net)
        np.testing.assert_array_equal(found, expected, strict=True)
        for name, share in activity(net, found).items():
            np.testing.assert_array_equal(share, shares[name], strict=True)


def test_the_integer_network_is_the_same(setting):
    torch.manual_seed(0)
    model = ResidualNet(Architecture(shape=(8, 8, 1), classes=3, widths=(4, 6), branch_width=3)).eval()
    twin = FakeQuantNet(lower(model, (8, 8, 1)))
    with torch.no_grad():
        twin.train()(torch.rand(8, 1, 8, 8))
    expected = to_network(twin, "net")
    with setting:
        found = to_network(twin, "net")
    assert found.to_dict() == expected.to_dict()
    arrays = dict(expected.arrays())
    for name, values in found.arrays():
        np.testing.assert_array_equal(values, arrays.pop(name), err_msg=name, strict=True)
    assert not arrays


def test_convolutions_inside_are_exact_and_make_plain_tensors(setting):
    ones = np.ones((1, 3, 5, 5), np.float32)
    with setting, exact.exact():
        found = F.conv2d(torch.from_numpy(ones), torch.from_numpy(1001 * ones)).numpy()
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(found, np.full((1, 1, 1, 1), 75075, np.float32), strict=True)


TRANSFORMS = {
    "grad": lambda call: torch.func.grad(lambda x: (call(), x.sum())[1])(torch.zeros(2)),
    "jvp": lambda call: torch.func.jvp(lambda x: (call(), x)[1], (torch.zeros(2),), (torch.zeros(2),)),
    "functionalize": lambda call: torch.func.functionalize(lambda x: (call(), x)[1])(torch.zeros(2)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch itself calls it
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_that_replace_tensors_are_refused(transform):
    expected = r"^integers can't be computed here: PyTorch made .* of a sum of -4663185; leave torch.func's transforms"
    with pytest.raises(ValueError, match=expected):
        transform(lambda: golden.run(network(), images(1, 8, 8, 16)))


def test_fake_tensors_are_refused():
    with (
        FakeTensorMode(),
        pytest.raises(ValueError, match=r"^integers can't be computed here: PyTorch made RuntimeErr"),
    ):
        golden.run(network(), images(1, 8, 8, 16))


def test_a_convolution_that_rounds_is_refused(monkeypatch):
    """As a processor would whose oneDNN multiplies in bfloat16 although that is forbidden."""
    original = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *args, **options: original(*args, **options).bfloat16().float())
    with pytest.raises(ValueError, match=r"PyTorch made -4\.653056e\+06 of a sum of -4663185; leave"):
        golden.run(network(), images(1, 8, 8, 16))


def test_the_first_thread_that_is_done_changes_nothing_for_others():
    """Precision is the process's."""
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with exact.exact():
            inside.set()
            assert leave.wait(60)

    with precision(torch.backends.mkldnn.conv, "bf16"), torch.backends.nnpack.flags(enabled=True):
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(60)
        with exact.exact():
            leave.set()
            thread.join()
            assert torch.backends.mkldnn.conv.fp32_precision == "ieee"
            assert not torch._C._get_nnpack_enabled()
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
        assert torch._C._get_nnpack_enabled()
