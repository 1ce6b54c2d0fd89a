import itertools

import numpy as np
import pytest
import torch
from torch import nn

from models.compression.product_pruning import ProductPruning
from models.compression.quantize import encode, quantize, to_network
from models.compression.sparse_training import GradualPruning
from models.frontends.pytorch.graph import lower
from models.integer import golden
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.training.pieces import Piece
from models.training.train import Schedule, accuracy, fit, predict
from tests.models.separable import SeparableNet

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(8, 16), branch_width=4)


def counted(network, images):
    """Products of a nonzero weight and a nonzero activation that an image takes, and multiply-accumulates."""
    result = golden.run(network, encode(images, network))
    tensors, total, dense = network.tensors(), 0.0, 0
    for layer in network.layers:
        if not hasattr(layer, "weight"):
            continue
        source = layer.inputs[0]
        values = encode(images, network) if source == "input" else result.tensors[source]
        active = torch.from_numpy((values != tensors[source].zero_point).astype(np.float32)).permute(0, 3, 1, 2)
        weights = torch.from_numpy((layer.weight != 0).astype(np.float32)).permute(0, 3, 1, 2)
        pads = getattr(layer, "pads", (0, 0, 0, 0))
        padded = nn.functional.pad(active, (pads[2], pads[3], pads[0], pads[1]))
        total += float(nn.functional.conv2d(padded, weights, stride=getattr(layer, "stride", 1)).sum())
        dense += layer.weight.size * int(np.prod(layer.output.shape[:2]))
    return total / len(images), dense


def test_the_target_is_what_the_integers_do(digits):
    model = initial(ARCHITECTURE, 0)
    piece = ProductPruning(0.1, end=0.6, interval=8)
    metrics = fit(model, digits.train, Schedule(epochs=14, lr=0.01), seed=0, pieces=[piece])
    assert accuracy(predict(model, digits.test.images)[-1], digits.test.labels) > 0.9
    assert metrics[-1]["products_share"] <= 0.11
    network = to_network(quantize(model, digits.train, Schedule(epochs=1, lr=1e-4), seed=0), "digits")
    products, dense = counted(network, digits.test.images[:100])
    # Averages move on after the last round, and a position at the border has fewer products than one inside.
    assert 0.06 < products / dense < 0.12


@pytest.mark.slow
def test_better_than_magnitude_with_fewer_products(digits):
    """Where layers differ in what they are worth: few channels at 64 positions, then many at 16. Magnitude
    leaves every convolution the same share of its weights, and no fewer products; two starts together."""
    architecture = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 32), branch_width=2)
    right, products = {"products": 0.0, "magnitude": 0.0}, {"products": 0.0, "magnitude": 0.0}
    for seed, name in itertools.product(range(2), right):
        model = initial(architecture, seed)
        weights = {f"{n}.weight": 0.09 for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
        piece = GradualPruning(weights, end=0.6) if name == "magnitude" else ProductPruning(0.035, end=0.6, interval=8)
        fit(model, digits.train, Schedule(epochs=12, lr=0.01), seed=seed, pieces=[piece])
        right[name] += accuracy(predict(model, digits.test.images)[-1], digits.test.labels)
        network = to_network(quantize(model, digits.train, Schedule(epochs=1, lr=1e-4), seed=seed), "digits")
        products[name] += counted(network, digits.test.images[:100])[0]
    assert products["products"] <= products["magnitude"]
    assert right["products"] > right["magnitude"]


def test_pruned_weights_never_come_back_and_skipped_ones_stay(digits):
    masks = []

    class Keep(Piece):
        def after_step(self, run):
            masks.append({n: p.detach() != 0 for n, p in run.model.named_parameters() if n.endswith("conv.weight")})

    model = initial(ARCHITECTURE, 0)
    piece = ProductPruning(0.03, end=0.8, interval=4, skip=("branch",))
    fit(model, digits.train.take(400), Schedule(epochs=6, lr=0.01), seed=0, pieces=[piece, Keep()])
    for before, after in itertools.pairwise(masks):
        for name in before:
            assert not (after[name] & ~before[name]).any()
    assert masks[-1]["branch.conv.weight"].all()
    assert not masks[-1]["late.second.conv.weight"].all()


def test_a_resumed_run_is_equal(digits, tmp_path):
    class StopError(Exception):
        pass

    def run(path, stop):
        model, few = initial(ARCHITECTURE, 0), digits.train.take(400)

        def progress(done, total, text):
            if stop and done == 10:
                raise StopError

        fit(
            model, few, Schedule(epochs=4, lr=0.01), seed=0, pieces=[ProductPruning(0.3, interval=3)],
            checkpoint=path, progress=progress,
        )  # fmt: skip
        return model.late.first.conv.weight.detach().numpy()

    whole = run(None, False)
    with pytest.raises(StopError):
        run(tmp_path / "a.off", True)
    np.testing.assert_array_equal(run(tmp_path / "a.off", False), whole)


def test_costs_of_a_depthwise_layer(digits):
    """Every output channel's weights cost what its own input channel is active."""
    model = SeparableNet(digits.shape, 10, width=8, kernel=(3, 3))
    piece = ProductPruning(0.5)
    seen = {}

    class Look(Piece):
        def after_step(self, run):
            seen.update({name: cost.clone() for name, cost in piece._costs().items()})

    fit(model, digits.train.take(64), Schedule(epochs=1, lr=0.01), seed=0, pieces=[piece, Look()])
    depthwise = seen["blocks.0.depthwise.conv.weight"]
    assert depthwise.shape == (8, 1, 3, 3)
    assert len(depthwise[:, 0, 0, 0].unique()) > 1
    assert (depthwise == depthwise[:, :, :1, :1]).all()
    steps = {step.name: step for step in lower(model, digits.shape).steps}
    assert depthwise.max() <= np.prod(steps["blocks.0.depthwise.conv"].shape[:2])


@pytest.mark.slow
def test_what_few_images_reach_keeps_more(digits):
    """Layers that only half of the images reach keep a larger part of what is left; the mean is the target."""
    late, recorded = {}, {}
    for reach in (1.0, 0.5):
        model = initial(ARCHITECTURE, 0)
        piece = ProductPruning(0.15, end=0.6, interval=8, reach={"late": reach})
        metrics = fit(model, digits.train, Schedule(epochs=8, lr=0.01), seed=0, pieces=[piece])
        counts = {name: int(weight.count_nonzero()) for name, weight in piece._weights.items()}
        late[reach] = sum(count for name, count in counts.items() if name.startswith("late")) / sum(counts.values())
        recorded[reach] = metrics[-1]["products_share"]
    assert late[0.5] > late[1.0] + 0.03
    assert max(recorded.values()) < 0.165


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0.0}, "share of product pruning must be above 0 and at most 1, not 0.0"),
        ({"share": 0.5, "end": 1.5}, "end of product pruning must be above 0 and at most 1, not 1.5"),
        ({"share": 0.5, "interval": 0}, "interval of product pruning must be at least 1, not 0"),
        ({"share": 0.5, "dense": -1.0}, "dense of product pruning must be positive, not -1"),
        ({"share": 0.5, "reach": {"late": 1.5}}, "reach of 'late' must be above 0 and at most 1, not 1.5"),
        ({"share": 0.5, "reach": {"late": 0.0}}, "reach of 'late' must be above 0 and at most 1, not 0.0"),
    ],
)
def test_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        ProductPruning(**settings)


def test_nothing_to_skip(digits):
    with pytest.raises(ValueError, match="product pruning: no weight's name begins with 'exits'"):
        fit(
            initial(ARCHITECTURE, 0), digits.train.take(64), Schedule(epochs=1, lr=0.1), seed=0,
            pieces=[ProductPruning(0.5, skip=("exits",))],
        )  # fmt: skip


def test_nothing_behind_an_exit(digits):
    with pytest.raises(ValueError, match="product pruning: no weight's name begins with 'block3'"):
        fit(
            initial(ARCHITECTURE, 0), digits.train.take(64), Schedule(epochs=1, lr=0.1), seed=0,
            pieces=[ProductPruning(0.5, reach={"block3": 0.5})],
        )  # fmt: skip
