from dataclasses import replace

import numpy as np
import pytest
import torch

from hw.compiler.compile import compile_network
from hw.config import preset
from models.compression.quantize import encode, quantize, to_network
from models.datasets.splits import NAMES, Split, load
from models.integer import golden
from models.methods.detector import decided
from models.networks.architectures import initial
from models.recipes import checkpoint
from models.recipes.pipeline import Log, compress, train
from models.recipes.recipe import Stage, builtin
from models.training.train import Schedule, predict


def weights(network):
    return [array for name, array in network.arrays() if name.endswith("/weight")]


def check_promises(metrics):
    assert metrics["float_final"] >= 0.97
    assert metrics["int8_final"] >= metrics["pruned_final"] - 0.01
    assert metrics["density"] <= 0.3
    assert metrics["validation_exits"] >= metrics["validation_final"] - 0.005
    assert metrics["validation_exit_share"] > 0.5
    assert metrics["int8_exits"] >= metrics["int8_final"] - 0.02  # on data that chose nothing


def test_promises(compressed):
    check_promises(compressed.metrics)


@pytest.mark.slow
def test_three_tenths_of_the_weights_cost_at_most_two_points(digits):
    """By the whole recipe, on the test images and those of validation, of which neither network has learnt anything."""
    trained = train(builtin("digits"), digits)
    compressed = compress(builtin("digits"), trained, digits)
    check_promises(compressed.metrics)
    right = []
    for part in (digits.test, digits.validation):
        dense = predict(trained.model(), part.images)[-1]
        found = golden.run(compressed.network, encode(part.images, compressed.network), keep=False).logits[-1]
        right.append([(logits.argmax(axis=1) == part.labels).sum() for logits in (dense, found)])
    dense, found = np.sum(right, axis=0) / (len(digits.test) + len(digits.validation))
    assert found >= dense - 0.02


@pytest.fixture(scope="module")
def few(digits):
    """Where only equality counts."""
    return digits.take(train=256, validation=100, test=100)


@pytest.fixture(scope="module")
def made(digits):
    """What the pipeline makes in a few seconds."""
    chosen = tiny_recipe()
    return compress(chosen, train(chosen, digits), digits)


def test_metrics_are_the_networks(digits, made):
    result = golden.run(made.network, encode(digits.test.images, made.network), keep=False)
    assert not decided(made.network, result).out_of_range.any()  # its recipe asks for no ranges
    metrics = made.metrics
    assert metrics["int8_exits"] == result.accuracy(digits.test.labels)
    assert metrics["exit_share"] == result.exit_share()[0]
    assert metrics["threshold"] == made.network.exits[0].threshold
    kept = sum(int((array != 0).sum()) for array in weights(made.network))
    assert metrics["density"] == kept / sum(array.size for array in weights(made.network))
    validation = golden.run(made.network, encode(digits.validation.images, made.network), keep=False)
    assert metrics["validation_exits"] == pytest.approx(validation.accuracy(digits.validation.labels))
    assert metrics["validation_exit_share"] == pytest.approx(validation.exit_share()[0])
    assert len(made.curve["thresholds"]) == len(made.curve["accuracy"]) <= 200


def test_the_dense_network_is_dense(made):
    kept, every = (sum(int(count(array)) for array in weights(made.dense)) for count in (np.count_nonzero, np.size))
    assert kept > 0.95 * every
    assert len(made.dense.exits) == 1


@pytest.mark.parametrize("name", NAMES)
def test_pruned_and_dense_fit_the_accelerator(name):
    """Sizes don't depend on what was learnt: networks with random weights, compiled for ``single``."""
    architecture = builtin(name).network_architecture
    rng = np.random.default_rng(0)
    noise = Split(images=rng.random((64, *architecture.shape), dtype=np.float32), labels=np.arange(64) % 10)
    model = initial(architecture, 0)
    for exits in (True, False):
        twin = quantize(model, noise, Schedule(epochs=1, lr=1e-4), seed=0, exits=exits)
        compile_network(to_network(twin, name), preset("single"))


def test_other_data_is_refused(trained, digits):
    other = replace(digits, name="letters")
    with pytest.raises(ValueError, match="the recipe is for digits, the data set is letters"):
        train(builtin("digits"), other)
    with pytest.raises(ValueError, match="the recipe is for digits, the data set is letters"):
        compress(builtin("digits"), trained, other)


def test_a_broken_checkpoint_is_named(trained, digits):
    state = dict(trained.state)
    state["late.first.conv.weight"] = np.full_like(state["late.first.conv.weight"], np.nan)
    with pytest.raises(ValueError, match=r"late.first.conv.weight must be finite numbers"):
        compress(builtin("digits"), replace(trained, state=state), digits)


def test_larger_images(data_root):
    """A glimpse of training on a few images: everything fits together."""
    few = load("fashion-mnist", data_root).take(train=640, validation=200, test=200)
    short = Schedule(epochs=1, lr=0.005, shift=1, flip=True)
    chosen = builtin("fashion-mnist")
    chosen = replace(
        chosen,
        train=(Stage(name="train", schedule=replace(short, epochs=2)),),
        compress=(replace(chosen.compress[0], schedule=short),),
        quantize=Stage(name="quantize", schedule=short),
        dense=Stage(name="dense", schedule=short),
    )
    found = compress(chosen, train(chosen, few, 1), few, 1)
    assert found.seed == 1
    assert found.metrics["int8_final"] > 0.15
    assert found.network.layers[0].output.shape[0] == few.shape[0] // 2
    assert torch.isfinite(torch.tensor(list(found.metrics.values()))).all()


def tiny_recipe(**changes):
    """A few seconds on digits, through every kind of stage."""
    short = Schedule(epochs=2, lr=0.01, batch=128)
    chosen = builtin("digits")
    made = replace(
        chosen,
        train=(Stage(name="train", schedule=short),),
        compress=(replace(chosen.compress[0], schedule=short),),
        quantize=Stage(name="quantize", schedule=short, pieces=({"kind": "validation"},)),
        dense=Stage(name="dense", schedule=replace(short, epochs=1)),
    )
    return replace(made, **changes)


def test_a_stopped_run_goes_on(few, tmp_path):
    """Stopped in the middle of quantization, done again: equal networks, and what was done isn't done again."""

    class StopError(Exception):
        pass

    def stop(done, total, text):
        if text.startswith("quantize: epoch 2"):
            raise StopError

    chosen, log = tiny_recipe(), Log(folder=tmp_path)
    whole = compress(chosen, train(chosen, few), few)
    with pytest.raises(StopError):
        compress(chosen, train(chosen, few, log=log), few, progress=stop, log=log)
    kept = {path.name.rpartition("-")[0] for path in tmp_path.iterdir()}
    assert kept == {"train", "prune", "quantize"}
    texts = []
    log = Log(folder=tmp_path)
    again = compress(
        chosen, train(chosen, few, log=log), few, log=log,
        progress=lambda done, total, text: texts.append(text.partition(",")[0]),
    )  # fmt: skip
    assert list(dict.fromkeys(texts)) == ["quantize: epoch 2/2", "dense: epoch 1/1"]
    for (name, array), (_, expected) in zip(again.network.arrays(), whole.network.arrays(), strict=True):
        np.testing.assert_array_equal(array, expected, err_msg=name)
    assert again.metrics == whole.metrics
    assert {stage: len(epochs) for stage, epochs in log.metrics.items()} == {
        "train": 2, "prune": 2, "quantize": 2, "dense": 1,
    }  # fmt: skip
    assert log.metrics["quantize"][-1]["validation_1"] == again.metrics["validation_final"]


def test_a_recipe_with_a_teacher(few, trained, tmp_path):
    """It teaches every stage, and its logits of the fixed views are kept; stages of another teacher are others."""
    piece, folder = ({"kind": "distillation", "temperature": 2.0},), tmp_path / "progress"
    checkpoint.save(tmp_path / "large.off", trained)
    short = tiny_recipe(teacher=str(tmp_path / "large.off"))
    taught = [
        replace(stage, schedule=replace(stage.schedule, views=2), pieces=piece)
        for stage in (*short.train, short.quantize)
    ]
    chosen = replace(short, train=(taught[0],), quantize=taught[1])
    made, log = train(chosen, few, log=Log(folder=folder)), Log(folder=folder)
    alone = train(replace(chosen, teacher=""), few)
    assert not np.array_equal(made.state["stem.conv.weight"], alone.state["stem.conv.weight"])
    assert len(list(folder.glob("taught-*-0.off"))) == len(list(folder.glob("taught-*-1.off"))) == 1
    compress(chosen, made, few, log=log)
    assert len(list(folder.glob("taught-*"))) == 2
    other = trained.state | {"head.linear.bias": trained.state["head.linear.bias"] / 2}
    checkpoint.save(tmp_path / "large.off", replace(trained, state=other))
    train(chosen, few, log=Log(folder=folder))
    assert len(list(folder.glob("train-*"))) == 2


def test_a_float_network_only(digits):
    chosen = replace(tiny_recipe(), compress=(), quantize=None, dense=None)
    made = train(chosen, digits)
    with pytest.raises(ValueError, match=r"the recipe digits must have a \[quantize\] stage to make a"):
        compress(chosen, made, digits)


def test_a_recipe_that_changes_later_goes_on_from_the_earlier_stages(few, tmp_path):
    """Another quantization: the float stages are taken from before, and the network is that of a run from the start."""
    first = tiny_recipe()
    compress(first, train(first, few, log=Log(folder=tmp_path)), few, log=Log(folder=tmp_path))
    changed = replace(first, exit_loss=0.02, quantize=replace(first.quantize, pieces=({"kind": "cross-entropy"},)))
    texts = []
    again = compress(
        changed, train(changed, few, log=Log(folder=tmp_path)), few, log=Log(folder=tmp_path),
        progress=lambda done, total, text: texts.append(text.partition(":")[0]),
    )  # fmt: skip
    assert set(texts) == {"quantize"}
    whole = compress(changed, train(changed, few), few)
    assert again.metrics == whole.metrics
    # Pruned otherwise, the first stage is all that is left of it.
    pruned = replace(first, compress=(replace(first.compress[0], pieces=()),))
    texts.clear()
    compress(
        pruned, train(pruned, few, log=Log(folder=tmp_path)), few, log=Log(folder=tmp_path),
        progress=lambda done, total, text: texts.append(text.partition(":")[0]),
    )  # fmt: skip
    assert set(texts) == {"prune", "quantize"}


@pytest.mark.parametrize(
    ("exits", "widths", "names"), [((), (), set()), ((1, 2), (0, 3), {"int8_branch1", "int8_branch2", "threshold"})]
)
def test_no_exit_and_two(digits, exits, widths, names):
    architecture = {"kind": "resnet8", "widths": [4, 8, 8], "exits": list(exits), "exit_widths": list(widths)}
    chosen = tiny_recipe(
        architecture=architecture,
        compress=(),
        integer=({"kind": "thresholds", "densities": {"block1.first.conv": 0.3}},),
        train_images=300,
        flagged=0.2,
    )
    found = compress(chosen, train(chosen, digits), digits)
    assert len(found.network.exits) == len(exits) + 1
    assert found.network.layer("block1.first.conv").threshold > 1
    assert names == {name for name in found.metrics if name.startswith("int8_branch") or name == "threshold"}
    validation = golden.run(found.network, encode(digits.validation.images, found.network), keep=False)
    assert 0.1 < decided(found.network, validation).out_of_range.mean() <= 0.2
    if exits:
        assert validation.accuracy(digits.validation.labels) >= found.metrics["validation_final"] - chosen.exit_loss
        assert found.metrics["exit_share"] == validation_share(found, digits)


def validation_share(found, digits):
    result = golden.run(found.network, encode(digits.test.images, found.network), keep=False)
    return float((result.exit_index < len(found.network.exits) - 1).mean())
