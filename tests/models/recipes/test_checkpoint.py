from dataclasses import replace

import numpy as np
import pytest

from hw import container
from models import zoo
from models.compression.quantize import encode
from models.integer import golden
from models.networks import architectures
from models.recipes.checkpoint import Checkpoint, load, load_compressed, save, save_compressed, stage_of
from models.training.train import predict

MAGIC, VERSION = b"OFFRCKPT", 3


def test_trained_survives(tmp_path, trained, digits):
    save(tmp_path / "a.ckpt", trained)
    again = load(tmp_path / "a.ckpt")
    assert replace(again, state={}) == replace(trained, state={})
    images = digits.test.images[:20]
    for found, expected in zip(predict(again.model(), images), predict(trained.model(), images), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_compressed_survives(tmp_path, compressed, digits):
    save_compressed(tmp_path / "a.ckpt", compressed)
    again = load_compressed(tmp_path / "a.ckpt")
    assert (again.data, again.seed, again.metrics, again.curve) == (
        compressed.data,
        compressed.seed,
        compressed.metrics,
        compressed.curve,
    )
    for found, expected in ((again.network, compressed.network), (again.dense, compressed.dense)):
        assert found.to_dict() == expected.to_dict()
        codes = encode(digits.test.images[:20], expected)
        results = [golden.run(network, codes, keep=False).logits for network in (found, expected)]
        np.testing.assert_array_equal(*results)
    for key in ("activity", "dense_activity"):
        found, expected = getattr(again, key), getattr(compressed, key)
        assert found.keys() == expected.keys()
        for name, shares in found.items():
            np.testing.assert_array_equal(shares, expected[name])


def test_a_stage_is_not_the_other(tmp_path, trained, compressed):
    save(tmp_path / "trained", trained)
    save_compressed(tmp_path / "compressed", compressed)
    with pytest.raises(ValueError, match="trained: must be a compressed network, not 'trained'"):
        load_compressed(tmp_path / "trained")
    with pytest.raises(ValueError, match="compressed: must be a trained network, not 'compressed'"):
        load(tmp_path / "compressed")


def test_damage_is_refused(tmp_path, trained):
    path = tmp_path / "a.ckpt"
    save(path, trained)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="altered: the checksum does not match"):
        load(path)
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="truncated or extended"):
        load(path)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        load(tmp_path / "absent")


@pytest.mark.parametrize("key", ["data", "seed", "architecture", "metrics"])
def test_incomplete_manifest(tmp_path, trained, key):
    path = tmp_path / "a.ckpt"
    save(path, trained)
    manifest, arrays = container.read(path, MAGIC, VERSION)
    del manifest[key]
    container.write(path, MAGIC, VERSION, manifest, arrays)
    with pytest.raises(ValueError, match=f"the manifest must hold '{key}'"):
        load(path)


def test_state_of_another_architecture(trained):
    other = replace(trained, architecture=replace(trained.architecture, widths=(4, 24)))
    with pytest.raises(ValueError, match=r"branch.conv.weight must have the shape \(4, 4, 3, 3\), not \(4, 8, 3, 3\)"):
        other.model()
    state = dict(trained.state)
    state["extra"] = state.pop("head.linear.bias")
    with pytest.raises(ValueError, match="checkpoint's extra must have the shape None, not"):
        replace(trained, state=state).model()
    del state["extra"]
    with pytest.raises(ValueError, match=r"checkpoint's head.linear.bias must have the shape \(10,\), not None"):
        replace(trained, state=state).model()


@pytest.mark.parametrize(
    ("name", "shares", "message"),
    [
        ("nothing", np.zeros(3), "activity must be of the network's tensors, not of 'nothing'"),
        ("input", np.zeros(2), r"activity of input must be \(1,\) float64 in 0..1"),
        ("input", np.full(1, 1.5), r"activity of input must be \(1,\) float64 in 0..1"),
        ("input", np.full(1, np.nan), r"activity of input must be \(1,\) float64 in 0..1"),
        ("input", np.zeros(1, dtype=np.float32), r"activity of input must be \(1,\) float64 in 0..1"),
    ],
)
def test_activity_must_be_the_networks(tmp_path, compressed, name, shares, message):
    path = tmp_path / "a.ckpt"
    save_compressed(path, replace(compressed, activity={name: shares}))
    with pytest.raises(ValueError, match=message):
        load_compressed(path)


def small() -> Checkpoint:
    """An untrained network."""
    described = {"kind": "residual", "shape": [8, 8, 1], "classes": 10, "widths": [2, 4], "branch_width": 2}
    return Checkpoint.of(
        architectures.initial(architectures.from_dict(described), 0), data="digits", seed=1, metrics={}
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", "mnist", "data must be one of digits, fashion-mnist, cifar10, not 'mnist'"),
        ("data", ["digits"], r"data must be a text, not \['digits'\]"),
        ("seed", -1, "seed must not be negative, not -1"),
        ("seed", "1", "seed must be a whole number, not '1'"),
        ("seed", 1 << 70, "seed must be a whole number of at most 63 bits"),
        ("metrics", [0.5], r"metrics must be a table of names and values, not \[0.5\]"),
        ("metrics", {"float_final": "1/2"}, "metrics must be numbers, not '1/2'"),
        ("metrics", {"float_final": "high"}, "metrics.float_final must be a number"),
        ("metrics", {"float_final": float("nan")}, "metrics.float_final must be a finite number, not nan"),
        ("metrics", {"float_final": 1.5}, r"metrics: 'float_final' must be in 0\.\.1, not 1\.5"),
        ("metrics", {"float_final": -0.1}, r"metrics: 'float_final' must be in 0\.\.1, not -0\.1"),
        ("metrics", {"threshold": 0.5}, r"metrics: threshold must be a whole number, 0 or more, not 0\.5"),
        ("metrics", {"threshold": -1}, "metrics: threshold must be a whole number, 0 or more, not -1"),
        ("more", 1, r"the manifest must hold stage, data, seed, metrics, architecture, and not \['more'\]"),
        ("architecture", 3, "architecture must be a table, not 3"),
        (
            "data",
            "cifar10",
            r"images and classes must be those of cifar10, \(\(32, 32, 3\), 10\), not \(\(8, 8, 1\), 10\)",
        ),
        ("stage", ["trained"], r"must be a trained network, not \['trained'\]"),
    ],
)
def test_impossible_manifests(tmp_path, key, value, message):
    path = tmp_path / "a.ckpt"
    save(path, small())
    manifest, arrays = container.read(path, MAGIC, VERSION)
    container.write(path, MAGIC, VERSION, manifest | {key: value}, arrays)
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        load(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("stem.conv.weight", lambda value: value.astype(np.float64), "must be float32, not float64"),
        ("stem.conv.weight", lambda value: value * np.float32(np.nan), "must be finite numbers$"),
        ("stem.norm.running_var", lambda value: -value, "must be finite numbers, 0 or more"),
        ("stem.norm.num_batches_tracked", lambda value: value.astype(np.int32), "must be int64, not int32"),
    ],
)
def test_impossible_states(tmp_path, name, change, message):
    path, whole = tmp_path / "a.ckpt", small()
    save(path, replace(whole, state=whole.state | {name: change(whole.state[name])}))
    with pytest.raises(ValueError, match=f"^{path}: checkpoint's {name} {message}"):
        load(path)


CURVE = {"thresholds": [3, 9], "accuracy": [0.5, 1], "exit_share": [1, 0]}


def of_the_zoo() -> tuple[dict, dict[str, np.ndarray]]:
    return container.read(zoo.FOLDER / "digits.off", MAGIC, VERSION)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("curve", CURVE | {"accuracy": []}, r"curve must be lists of equal lengths, 1 or more, not of \[0, 2, 2\]"),
        ("curve", {name: [] for name in CURVE}, r"curve must be lists of equal lengths, 1 or more, not of \[0, 0, 0\]"),
        ("curve", {"thresholds": [1]}, r"curve must be of accuracy, exit_share, thresholds, not \['thresholds'\]"),
        ("curve", CURVE | {"more": [1, 2]}, "curve must be of accuracy, exit_share, thresholds, not "),
        ("curve", CURVE | {"accuracy": [0.5, 1.5]}, r"curve: accuracy must be in 0\.\.1, not \[1\.5\]"),
        ("curve", CURVE | {"exit_share": [-1, 0]}, r"curve: exit_share must be in 0\.\.1, not \[-1\]"),
        ("curve", CURVE | {"thresholds": [9, 3]}, r"curve: thresholds must be whole numbers, 0 .*, not \[9, 3\]"),
        ("curve", CURVE | {"thresholds": [-1, 3]}, r"curve: thresholds must be whole numbers, 0 .*, not \[-1, 3\]"),
        ("curve", CURVE | {"thresholds": [0.5, 3]}, r"curve: thresholds must be whole .*, not \[0\.5, 3\]"),
        ("curve", CURVE | {"accuracy": [0.5, float("nan")]}, "curve.accuracy must be a finite number, not nan"),
        ("more", {}, r"the manifest must hold stage, data, .*, and not \['more'\]"),
        ("curve", {"thresholds": ["x"]}, "curve.thresholds must be a number"),
        ("network", [], "network description is incomplete or has unknown keys"),
        ("dense", {"layers": 3}, "network description is incomplete or has unknown keys"),
    ],
)
def test_impossible_compressed_networks(tmp_path, key, value, message):
    path, (manifest, arrays) = tmp_path / "a.ckpt", of_the_zoo()
    container.write(path, MAGIC, VERSION, manifest | {key: value}, arrays)
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        load_compressed(path)


@pytest.mark.parametrize("key", ["activity", "dense_activity"])
def test_activity_that_is_missing(tmp_path, key):
    path, (manifest, arrays) = tmp_path / "a.ckpt", of_the_zoo()
    kept = {name: array for name, array in arrays.items() if not name.startswith(f"{key}:")}
    assert len(kept) < len(arrays)
    container.write(path, MAGIC, VERSION, manifest, kept)
    with pytest.raises(
        ValueError, match=f"^{path}: {key} must be of all of the network's maps, and lacks \\['input', "
    ):
        load_compressed(path)


@pytest.mark.parametrize("name", ["network:extra/weight", "other:weight", "weight"])
def test_arrays_of_nothing(tmp_path, name):
    path, (manifest, arrays) = tmp_path / "a.ckpt", of_the_zoo()
    container.write(path, MAGIC, VERSION, manifest, arrays | {name: np.zeros(3)})
    with pytest.raises(ValueError, match=f"^{path}: .*arrays must be of .*, not "):
        load_compressed(path)


def test_stages(tmp_path):
    save(tmp_path / "trained", small())
    assert stage_of(tmp_path / "trained") == "trained"
    assert stage_of(zoo.FOLDER / "digits.off") == "compressed"
    container.write(tmp_path / "neither", MAGIC, VERSION, {"stage": "half"}, {})
    with pytest.raises(ValueError, match="neither: stage must be trained or compressed, not 'half'"):
        stage_of(tmp_path / "neither")
