import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.pooling import AveragePool2D, GlobalAveragePool
from models import zoo
from models.compression.quantize import encode
from models.datasets import splits
from models.integer import golden
from models.integer.branch import with_branch
from models.integer.exit_calibration import with_exit_thresholds
from sim import simulate
from tests.random_networks import random_codes, random_network


@pytest.fixture(scope="module")
def digits():
    """A finished network without exits, and images as codes with labels."""
    network = zoo.load(zoo.entry("digits-dense")).dense
    source = splits.load("digits")
    parts = {name: getattr(source, name) for name in ("train", "validation", "test")}
    return network, {name: (encode(part.images, network), part.labels) for name, part in parts.items()}


@pytest.fixture(scope="module")
def extended(digits):
    network, data = digits
    after = network.layers[1].name
    return after, with_branch(network, after, data["train"], data["validation"], exit_loss=0.01)


def test_only_the_branch_is_new(digits, extended):
    network, _ = digits
    after, found = extended
    new = [layer for layer in found.layers if layer.name not in {old.name for old in network.layers}]
    assert [layer.kind for layer in new] == ["average_pool2d", "linear"]
    assert [layer for layer in found.layers if layer not in new] == list(network.layers)
    names = [layer.name for layer in found.layers]
    assert names.index(new[0].name) == names.index(after) + 1
    assert [head.logits for head in found.exits] == [f"{after}.exit", network.exits[-1].logits]


def test_many_leave_and_little_is_lost(digits, extended):
    network, data = digits
    _, found = extended
    codes, labels = data["test"]
    before, now = golden.run(network, codes, keep=False), golden.run(found, codes, keep=False)
    assert now.exit_share()[0] > 0.3
    assert now.accuracy(labels) > before.accuracy(labels) - 0.03
    stay = now.exit_index == 1
    np.testing.assert_array_equal(now.classes[stay], before.classes[stay])


def test_images_that_leave_are_faster(digits, extended):
    _, data = digits
    _, found = extended
    never, codes = with_exit_thresholds(found, (1 << 32) - 1), data["test"][0][:60]
    leaving, staying = (simulate(compile_network(each, preset("single")), codes) for each in (found, never))
    left = leaving.exit_index == 0
    assert left.any()
    assert (leaving.cycles[left] < staying.cycles[left]).all()
    np.testing.assert_array_equal(leaving.cycles[~left], staying.cycles[~left])


def test_an_exit_before_another_one(digits, extended):
    network, data = digits
    after, found = extended
    earlier = network.layers[0].name
    both = with_branch(found, earlier, data["train"], data["validation"], exit_loss=0.02)
    assert [head.logits for head in both.exits] == [f"{earlier}.exit", f"{after}.exit", network.exits[-1].logits]
    assert golden.run(both, data["test"][0], keep=False).exit_share()[:2].sum() > 0.3


@pytest.mark.parametrize("grid", [1, 2, 4, None])
def test_the_grid(digits, grid):
    network, data = digits
    few = tuple(part[:300] for part in data["train"])
    layer = network.layers[1]
    found = with_branch(network, layer.name, few, few, grid=grid)
    pool = found.layer(f"{layer.name}.average")
    size = grid or 4
    assert isinstance(pool, GlobalAveragePool if size == 1 else AveragePool2D)
    assert pool.output.shape == (size, size, layer.output.shape[2])


def test_classes_without_images_are_never_named():
    network = random_network(3)
    codes = random_codes(network, 40, 3)
    labels = np.arange(40) % 2
    found = with_branch(network, network.layers[0].name, (codes, labels), (codes, labels), exit_loss=1.0)
    always = with_exit_thresholds(found, *([0] * (len(found.exits) - 1)))
    assert set(golden.run(always, codes, keep=False).classes) <= {0, 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after": "gone"}, "an exit must be after one of .*, not after 'gone'"),
        ({"grid": 3}, r"a grid of 3 must divide its map of \d+x\d+"),
        ({"label": 99}, r"labels must be classes of the network, 0\.\.9, at least one"),
    ],
)
def test_what_cannot_be_is_refused(digits, change, message):
    network, data = digits
    codes, labels = (part[:50] for part in data["train"])
    if "label" in change:
        labels = np.full_like(labels, change["label"])
    arguments = {"after": network.layers[1].name} | {key: value for key, value in change.items() if key != "label"}
    after = arguments.pop("after")
    with pytest.raises(ValueError, match=message):
        with_branch(network, after, (codes, labels), (codes, labels), **arguments)


def test_a_second_exit_at_one_place_is_refused(digits, extended):
    after, found = extended
    _, data = digits
    with pytest.raises(ValueError, match="there is an exit after it already"):
        with_branch(found, after, data["train"], data["validation"])
