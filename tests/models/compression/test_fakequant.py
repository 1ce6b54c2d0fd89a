import pytest
import torch
from torch import nn

from models.compression.fakequant import FakeQuantNet
from models.frontends.pytorch.graph import lower
from models.integer.rounding import round_through
from models.networks.architectures import initial
from models.networks.residual_net import Architecture, to_torch


@pytest.fixture
def twin(digits):
    architecture = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 6), branch_width=3)
    model = initial(architecture, 0).eval()
    twin = FakeQuantNet(lower(model, (8, 8, 1)))
    twin.train()(to_torch(digits.train.images[:64]))
    return twin.eval()


def test_round_through():
    values = torch.tensor([-1.5, -0.5, 0.2, 0.5, 1.5], requires_grad=True)
    rounded = round_through(values)
    assert rounded.tolist() == [-2.0, 0.0, 0.0, 0.0, 2.0]
    rounded.sum().backward()
    assert values.grad.tolist() == [1.0] * 5


def test_values_lie_on_the_grid_and_gradients_flow(twin, digits):
    images = to_torch(digits.train.images[:16]).requires_grad_()
    branch, final = twin(images)
    (branch.sum() + final.sum()).backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in twin.parameters())
    for logits, name in ((branch, "branch_head.linear"), (final, "head.linear")):
        steps = logits.detach().double() / twin.quantization()[name][0]
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=2e-2)


def test_scales(twin):
    found = twin.quantization()
    assert found["input"] == (1 / 255, -128)
    for step in twin.graph.steps:
        scale, zero = found[step.name]
        assert scale > 0
        if step.relu:
            assert zero == -128
        elif step.kind == "pool":
            assert (scale, zero) == found[step.inputs[0]]
        elif step.name in twin.graph.exits:
            assert zero == 0
        else:
            assert -128 < zero < 127  # signed maps


def test_the_largest_weight_of_a_channel_is_the_largest_code(twin):
    for node in twin.nodes:
        if node.weight is not None and not node.logits:
            codes = node.weight.detach() / node.weight_scale(1.0)[:, None, None, None]
            torch.testing.assert_close(codes.abs().amax(dim=(1, 2, 3)), torch.full((len(codes),), 127.0))


def test_ranges_follow_batches_only_while_observing(twin):
    before = twin.quantization()
    bright = torch.ones(4, 1, 8, 8)
    twin.observing = False
    twin.train()(bright)
    assert twin.quantization() == before
    twin.observing = True
    twin.eval()(bright)
    assert twin.quantization() == before
    twin.train()(bright)
    assert twin.quantization() != before


def test_a_dead_channel_and_a_dead_layer_are_harmless(digits):
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.ReLU(),
        nn.Conv2d(2, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    )
    with torch.no_grad():
        model[0].weight[1] = 0
        model[2].weight.zero_()
        model[2].bias.zero_()
    twin = FakeQuantNet(lower(model, (8, 8, 1)))
    (logits,) = twin.train()(to_torch(digits.train.images[:8]))
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in twin.parameters())


def test_masks_are_where_weights_are(twin):
    with torch.no_grad():
        twin.nodes[1].weight[0] = 0
    mask = twin.masks()["nodes.1.weight"]
    assert mask[0].sum() == 0
    assert mask[1:].all()
    assert len(twin.masks()) == sum(step.weight is not None for step in twin.graph.steps)
