import itertools

import numpy as np
import pytest
import torch
from torch import nn

from models.compression import prune
from models.compression.quantize import encode, quantize, to_network
from models.compression.sparse_training import ActivationPenalty, GradualPruning, _Hoyer, activation_modules
from models.integer import golden
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.training.pieces import Piece
from models.training.train import Schedule, fit, predict

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)
SHARES = {"stem.conv.weight": 0.5, "late.second.conv.weight": 0.1}


@pytest.fixture(scope="module")
def few(digits):
    return digits.train.take(200)


class Watch(Piece):
    """Density of a layer in every step."""

    def __init__(self):
        self.found = []

    def after_step(self, run):
        weight = run.model.late.second.conv.weight
        self.found.append(int(weight.count_nonzero()) / weight.numel())


def test_density_falls_on_the_cubic_course_and_stays(few):
    model, watch = initial(ARCHITECTURE, 0), Watch()
    schedule = Schedule(epochs=8, lr=0.01, batch=100)
    metrics = fit(model, few, schedule, seed=0, pieces=[GradualPruning(SHARES, end=0.5), watch])
    size = model.late.second.conv.weight.numel()
    for epoch in range(8):
        part = min(1.0, (epoch + 1) / 4)
        wanted = round((1 - 0.9 * (1 - (1 - part) ** 3)) * size) / size
        assert watch.found[2 * epoch : 2 * epoch + 2] == [wanted] * 2
    assert int(model.stem.conv.weight.count_nonzero()) == round(0.5 * model.stem.conv.weight.numel())
    assert model.early.first.conv.weight.all()
    assert metrics[-1]["density"] == prune.density(model)


def test_what_is_pruned_stays_pruned(few):
    masks = []

    class Keep(Piece):
        def after_step(self, run):
            masks.append(run.model.late.second.conv.weight != 0)

    fit(initial(ARCHITECTURE, 0), few, Schedule(epochs=4, lr=0.02), seed=0, pieces=[GradualPruning(SHARES), Keep()])
    for before, after in itertools.pairwise(masks):
        assert not (after & ~before).any()


@pytest.mark.slow
def test_fewer_activations_matter_with_the_penalty(digits):
    """In the float network, and in the integers after training with the penalty."""
    active = []
    for pieces in ([], [ActivationPenalty(2.0)]):
        model = initial(ARCHITECTURE, 0)
        metrics = fit(model, digits.train, Schedule(epochs=12, lr=0.01), seed=0, pieces=pieces)
        twin = quantize(model, digits.train, Schedule(epochs=1, lr=1e-4), seed=0)
        network = to_network(twin, "sparse")
        result = golden.run(network, encode(digits.test.images[:100], network))
        relus = [name for name in twin.rectified() if name in result.tensors]
        shares = [(result.tensors[name] != network.tensors()[name].zero_point).mean() for name in relus]
        active.append(float(np.mean(shares)))
    assert active[1] < 0.7 * active[0]
    assert metrics[-1]["active"] < metrics[0]["active"]


def test_the_measure_and_the_costs(few):
    """Of a network whose activations are known, the loss is the measure."""

    class Known(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.ReLU(), nn.ReLU()
            self.flat = nn.Flatten()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            self.one(torch.ones_like(x))  # measure 1
            spike = torch.zeros_like(x)
            spike[:, 0, 0, 0] = 3.0
            self.two(spike)  # measure 1/64
            return (self.linear(self.flat(x)),)

    class Silent(Piece):
        criterion = True

        def loss(self, run, images, labels, outputs):
            return 0 * outputs[-1].sum()

    def last(costs):
        schedule = Schedule(epochs=4, lr=1e-9, batch=200)
        return fit(Known(), few, schedule, seed=0, pieces=[Silent(), ActivationPenalty(0.5, costs)])[-1]

    assert last(None)["loss"] == pytest.approx(0.5 * (1 + 1 / 64) / 2)
    found = last({"one": 3.0, "two": 1.0})
    assert found["loss"] == pytest.approx(0.5 * (3 + 1 / 64) / 4)
    assert found["active"] == pytest.approx((3 + 1 / 64) / 4)


def test_the_gradient_is_the_one_of_the_formula():
    """Against autograd, of which the activations that are zero get nothing."""
    values = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).relu()
    values[2] = 0.0
    found, expected = (values.clone().requires_grad_() for _ in range(2))
    (3 * _Hoyer.apply(found)).backward()
    sums = expected.abs().sum(1) ** 2, (expected**2).sum(1)
    measure = (sums[0] / (40 * sums[1]).clamp_min(1e-12)).mean()
    (3 * measure).backward()
    assert found.grad.count_nonzero() == (values != 0).sum()
    torch.testing.assert_close(found.grad, expected.grad)
    torch.testing.assert_close(_Hoyer.apply(values), measure.detach())


def exact(network, name, images):
    """What a layer that reads the image computes before it rounds, in codes beside the zero point, and which of these
    fractional values the integers' first rounding, to 2**-shift of a code, may carry over a tie."""
    layer = network.layer(name)
    codes = torch.from_numpy(encode(images, network).astype(float) - network.input.zero_point).permute(0, 3, 1, 2)
    top, bottom, left, right = layer.pads
    padded = nn.functional.pad(codes, (left, right, top, bottom))
    weight = torch.from_numpy(layer.weight.astype(float)).permute(0, 3, 1, 2)
    found = nn.functional.conv2d(padded, weight, torch.from_numpy(layer.bias.astype(float)), layer.stride)
    values = found.permute(0, 2, 3, 1).numpy() * (layer.multiplier * 2.0 ** (-31 - layer.shift))
    distance = np.abs(values - np.floor(values) - 0.5)
    return values, distance <= 2.0 ** (-1 - layer.shift) + 1e-4  # the twin computes in float32


def test_activations_of_a_twin_are_the_integers(digits, trained):
    """Those of the first convolution, which both compute from the same codes: but for ties, because the integers round
    twice, and then by one."""
    twin = quantize(trained.model(), digits.train, Schedule(epochs=1, lr=1e-4), seed=0)
    network = to_network(twin, "digits")
    seen = {}
    for name, module in activation_modules(twin).items():
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.__setitem__(name, output))
    predict(twin, digits.test.images[:50])
    result = golden.run(network, encode(digits.test.images[:50], network))
    assert set(seen) == {"stem.conv", "early.first.conv", "early.add", "branch.conv", "late.first.conv", "late.add"}
    tensor = network.tensors()["stem.conv"]
    codes = seen["stem.conv"].permute(0, 2, 3, 1).numpy() / tensor.scale + tensor.zero_point
    differences = np.abs(np.rint(codes) - result.tensors["stem.conv"])
    values, tie = exact(network, "stem.conv", digits.test.images[:50])
    np.testing.assert_array_equal(differences[~tie], 0)
    assert differences.max() <= 1
    assert tie.mean() < 0.2
    assert (values[~tie] > 0.5).mean() > 0.2  # of which many aren't just zero


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradualPruning({"a": 1.5}), "density of a must be in 0..1, not 1.5"),
        (lambda: GradualPruning({}, end=0), "end of pruning must be above 0 and at most 1, not 0"),
        (lambda: ActivationPenalty(0), "weight of the activation penalty must be positive, not 0"),
        (lambda: activation_modules(nn.Linear(1, 1)), "Linear: must have a ReLU"),
    ],
)
def test_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_names(few):
    for piece, message in [
        (GradualPruning({"nothing": 0.5}), "density 'nothing' has no parameter of that name"),
        (ActivationPenalty(1.0, {"nothing": 1.0}), "activation penalty: the network has no activations 'nothing'"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(initial(ARCHITECTURE, 0), few, Schedule(epochs=1, lr=0.1), seed=0, pieces=[piece])
