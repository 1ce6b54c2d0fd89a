from dataclasses import replace

import numpy as np
import pytest

from hw import container
from models import golden
from models.checkpoint import load, load_compressed, save, save_compressed
from models.quantize import encode
from models.train import predict

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
