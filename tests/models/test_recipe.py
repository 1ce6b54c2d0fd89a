from dataclasses import replace

import numpy as np
import pytest
import torch

from hw.compile import compile_network
from hw.config import preset
from models import golden
from models.architectures import initial
from models.data import NAMES, Split, load
from models.nets import Architecture
from models.quantize import encode, quantize, to_network
from models.recipe import RECIPES, compress, recipe, train
from models.train import Schedule


def weights(network):
    return [array for name, array in network.arrays() if name.endswith("/weight")]


def test_every_data_set_has_one():
    assert tuple(RECIPES) == NAMES
    assert all(chosen.data == name for name, chosen in RECIPES.items())
    with pytest.raises(ValueError, match="recipe must be one of digits, fashion-mnist, cifar10, not 'mnist'"):
        recipe("mnist")


def test_promises(compressed):
    metrics = compressed.metrics
    assert metrics["float_final"] >= 0.97
    assert metrics["int8_final"] >= metrics["float_final"] - 0.01
    assert metrics["density"] <= 0.3
    assert metrics["validation_exits"] >= metrics["validation_final"] - 0.005
    assert metrics["validation_exit_share"] > 0.5
    assert metrics["int8_exits"] >= metrics["int8_final"] - 0.02  # on data that chose nothing


def test_metrics_are_the_networks(digits, compressed):
    result = golden.run(compressed.network, encode(digits.test.images, compressed.network), keep=False)
    metrics = compressed.metrics
    assert metrics["int8_exits"] == result.accuracy(digits.test.labels)
    assert metrics["exit_share"] == result.exit_share()[0]
    assert metrics["threshold"] == compressed.network.exits[0].threshold
    kept = sum(int((array != 0).sum()) for array in weights(compressed.network))
    assert metrics["density"] == kept / sum(array.size for array in weights(compressed.network))
    validation = golden.run(compressed.network, encode(digits.validation.images, compressed.network), keep=False)
    assert metrics["validation_exits"] == pytest.approx(validation.accuracy(digits.validation.labels))
    assert metrics["validation_exit_share"] == pytest.approx(validation.exit_share()[0])
    assert len(compressed.curve["thresholds"]) == len(compressed.curve["accuracy"]) <= 200


def test_the_dense_network_is_dense(compressed):
    kept, every = (
        sum(int(count(array)) for array in weights(compressed.dense)) for count in (np.count_nonzero, np.size)
    )
    assert kept > 0.95 * every
    assert len(compressed.dense.exits) == 1


@pytest.mark.parametrize("name", NAMES)
def test_pruned_and_dense_fit_the_accelerator(name):
    """Sizes don't depend on what was learnt: networks with random weights, compiled for ``single``."""
    chosen = recipe(name)
    shape = {"digits": (8, 8, 1), "fashion-mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[name]
    rng = np.random.default_rng(0)
    noise = Split(images=rng.random((64, *shape), dtype=np.float32), labels=np.arange(64) % 10)
    model = initial(
        Architecture(
            shape=shape, classes=10, widths=chosen.widths, branch_width=chosen.branch_width,
            stem_stride=chosen.stem_stride,
        ),
        0,
    )  # fmt: skip
    for exits in (True, False):
        twin = quantize(model, noise, Schedule(epochs=1, lr=1e-4), seed=0, exits=exits)
        compile_network(to_network(twin, name), preset("single"))


def test_other_data_is_refused(trained, digits):
    other = replace(digits, name="letters")
    with pytest.raises(ValueError, match="the recipe is for digits, the data set is letters"):
        train(recipe("digits"), other)
    with pytest.raises(ValueError, match="the recipe is for digits, the data set is letters"):
        compress(recipe("digits"), trained, other)


def test_a_broken_checkpoint_is_named(trained, digits):
    state = dict(trained.state)
    state["late.first.conv.weight"] = np.full_like(state["late.first.conv.weight"], np.nan)
    with pytest.raises(ValueError, match=r"late.first.conv: weights must be finite, not NaN or infinite"):
        compress(recipe("digits"), replace(trained, state=state), digits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"density": 0.0}, "density must be above 0 and at most 1, not 0"),
        ({"head_density": 1.5}, r"head_density must be in 0..1, not 1.5"),
        ({"exit_loss": -0.1}, r"exit_loss must be in 0..1, not -0.1"),
    ],
)
def test_recipe_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        replace(recipe("digits"), **change)


def test_larger_images(data_root):
    """A glimpse of training on a few images: everything fits together."""
    dataset = load("fashion-mnist", data_root)
    few = replace(
        dataset,
        train=dataset.train.take(640),
        validation=dataset.validation.take(200),
        test=dataset.test.take(200),
    )
    short = Schedule(epochs=1, lr=0.005, shift=1, flip=True)
    chosen = replace(recipe("fashion-mnist"), training=replace(short, epochs=2), tuning=short, quantizing=short)
    found = compress(chosen, train(chosen, few, 1), few, 1)
    assert found.seed == 1
    assert found.metrics["int8_final"] > 0.15
    assert found.network.layers[0].output.shape[0] == dataset.shape[0] // 2
    assert torch.isfinite(torch.tensor(list(found.metrics.values()))).all()
