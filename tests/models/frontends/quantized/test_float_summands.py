"""A summand that a program leaves in float: its codes, how far the sum's may be off, and what becomes of networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.network import Tensor
from models.compression.quantize import encode
from models.frontends.quantized.float_summands import codes_off, summand_quantization
from models.frontends.quantized.lowering import ANY, CodeRequest, Quantization
from models.frontends.quantized.reader import import_quantized
from models.integer import golden
from tests.models.frontends.quantized.quantized_programs import (
    Quantized,
    conv,
    converted,
    difference,
    head,
    images,
    seeded,
)


def codes(values, quantization, bounds=ANY):
    """What a quantize makes of values."""
    low, high = quantization.codes(bounds)
    return (np.rint(values / quantization.scale) + quantization.zero_point).clip(low, high)


@pytest.mark.parametrize("bounds", [ANY, (0, np.inf), (-0.5, 1.5)])
@pytest.mark.parametrize("zero_points", [(0, 0), (-128, -128), (-128, 5), (127, -60)])
@pytest.mark.parametrize("scales", [(0.02, 0.02), (0.02, 0.005), (0.02, 0.055)])
def test_no_value_makes_a_sum_differ_by_more_than_is_said(bounds, zero_points, scales):
    of_sum = Quantization(scale=scales[0], zero_point=zero_points[0], low=-128, high=127)
    other, clamp = Tensor(shape=(1, 1, 1), scale=scales[1], zero_point=zero_points[1]), (-128, 120)
    request = CodeRequest(of_sum, bounds)
    given = summand_quantization(request, other, clamp)
    known = (np.arange(clamp[0], clamp[1] + 1) - other.zero_point) * other.scale
    summand = np.random.default_rng(0).uniform(-30, 30, (4000, 1))
    rounded = (codes(summand, given) - given.zero_point) * given.scale
    off = np.abs(codes(summand + known, of_sum, bounds) - codes(rounded + known, of_sum, bounds))
    assert off.max() <= codes_off(given.scale / 2, of_sum.scale) <= 2
    assert given.low <= given.zero_point <= given.high


def test_codes_off_is_how_far_rounded_values_may_be_apart():
    assert [codes_off(error, 0.5) for error in (0, 0.2, 0.49, 0.5, 0.6)] == [1, 1, 1, 2, 2]


def summed(net, x):
    """A convolution that isn't rounded plus a map that is."""
    x = net.round(x, 0.03)
    return F.relu(conv(net, x, 2) + x)


@pytest.mark.parametrize(
    ("body", "off"),
    [
        (lambda n, x: n.round(summed(n, x), 0.04, -128), {"add": 1}),
        (lambda n, x: n.round(summed(n, x), 0.02), {"add": 2}),
        (lambda n, x: n.round(F.max_pool2d(summed(n, x), 2), 0.04), {"add": 1, "max_pool": 1}),
        (
            lambda n, x: n.round(torch.cat([summed(n, x), n.round(x, 0.03)], 1), 0.04, -128),
            {"add": 1, "concat": 1},
        ),
        (lambda n, x: n.round(n.round(x, 0.03) - conv(n, n.round(x, 0.03), 2), 0.07), {"add": 1}),
        (  # a sum that isn't rounded in another one: the errors add up
            lambda n, x: n.round(summed(n, x) + F.max_pool2d(n.round(x, 0.03), 3, 1, 1), 0.06, -128),
            {"add": 1, "add_1": 2},
        ),
        (  # a pool that reads values of codes is compared on the program's own
            lambda n, x: n.round(F.avg_pool2d(F.relu(n.round(summed(n, x), 0.04, -128)), 2), 0.01),
            {"add": 1},
        ),
    ],
)  # fmt: skip
def test_sums_with_a_summand_in_float_differ_by_what_is_said(body, off):
    net = Quantized(lambda n, x: head(n, body(n, x))).eval()
    found = import_quantized(net, (4, 4, 2))
    assert found.source.codes_off == off
    said = [name for name in off if name in found.source.nodes]
    assert [note.partition(":")[0] for note in found.notes] == said
    assert all(f"codes may differ by {off[name]}" in note for name, note in zip(said, found.notes, strict=True))
    made = difference(net, found.network, images(4, 4, 2, count=64) * 4)
    assert 0 < max(made[name].largest for name in said) <= max(off.values())


def test_a_sum_that_would_differ_by_more_is_refused():
    net = Quantized(lambda n, x: head(n, n.round(summed(n, x), 0.005)))
    with pytest.raises(
        ValueError,
        match=r"^add: a sum with a summand that isn't rounded must differ by 2 codes at most, not 4: let the "
        r"quantizer round conv2d, too, as XNNPACKQuantizer does \(",
    ):
        import_quantized(net, (4, 4, 2))


def test_a_sum_of_maps_none_of_which_is_rounded_is_refused():
    def body(net, x):
        x = net.round(x)
        return head(net, net.round(conv(net, x, 2) + conv(net, x, 2, seed=1)))

    with pytest.raises(ValueError, match=r"conv2d: .* conv is read as it is: .* too, as XNNPACKQuantizer does before"):
        import_quantized(Quantized(body), (4, 4, 2))


class Modular(nn.Module):
    """Residual blocks with and without a shortcut's convolution, written with modules as Inductor's quantizers ask."""

    def __init__(self):
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.first, self.relu1, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
        self.relu2, self.third, self.short = nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(8, 16, 1, 2)
        self.relu3, self.pool, self.linear = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(16, 5)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = self.relu2(self.second(self.relu1(self.first(x))) + x)
        x = self.relu3(self.third(x) + self.short(x))
        return self.linear(torch.flatten(self.pool(x), 1))


def test_a_residual_network_of_inductors_quantizer():
    program = converted(seeded(Modular), 3, 8, 8, inductor=True)
    found = import_quantized(program)
    sums = {name: off for name, off in found.source.codes_off.items() if name in found.source.nodes}
    assert list(sums) == ["add", "add_1"]
    values = images(8, 8, 3)
    with torch.no_grad():
        expected = torch.cat([program.module()(torch.from_numpy(one[None])) for one in values.transpose(0, 3, 1, 2)])
    head = found.network.layers[-1]
    logits = golden.run(found.network, encode(values, found.network)).logits[0] * head.output.scale
    assert np.abs(logits - expected.numpy()).max() < 0.03 * np.abs(expected.numpy()).max()
    compile_network(found.network, preset("base-85f"))
