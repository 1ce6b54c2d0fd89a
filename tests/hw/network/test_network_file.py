import numpy as np
import pytest

from hw import container
from hw.network import network_file
from hw.network.network_file import NetworkFile, load, save
from tests.random_networks import random_network


@pytest.fixture
def made(tmp_path):
    network = random_network(2)
    activity = {network.layers[0].name: np.linspace(0, 1, network.layers[0].output.shape[2])}
    path = tmp_path / "net.off"
    save(path, NetworkFile(network=network, origin="file a.tflite", activity=activity))
    return path, network, activity


def test_what_is_written_is_read(made):
    path, network, activity = made
    found = load(path)
    assert found.origin == "file a.tflite"
    assert found.network.to_dict() == network.to_dict()
    for (name, array), (other, expected) in zip(found.network.arrays(), network.arrays(), strict=True):
        assert name == other
        np.testing.assert_array_equal(array, expected)
    (name,) = activity
    np.testing.assert_array_equal(found.activity[name], activity[name])


def test_damage_is_noticed(made):
    path, _, _ = made
    whole = path.read_bytes()
    for content, message in ((whole[:-3], "truncated"), (whole[:-3] + b"abc", "altered")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, a: m.pop("origin"), "manifest must hold network and origin"),
        (lambda m, a: m.update(more=1), "manifest must hold network and origin"),
        (lambda m, a: m.update(origin=3), "origin must be a text that can be printed, not 3"),
        (
            lambda m, a: a.update({"weights:x": np.zeros(2)}),
            r"arrays must be of network and activity, not \['weights:x'\]",
        ),
        (
            lambda m, a: a.update({"activity:gone": np.zeros(2)}),
            "activity must be of the network's tensors, not of 'gone'",
        ),
        (
            lambda m, a: a.update({"activity:input": np.zeros(99)}),
            r"activity of input must be \d+ float64 in 0..1, not",
        ),
        (
            lambda m, a: a.pop(next(name for name in a if name.startswith("network:"))),
            "network description is incomplete",
        ),
    ],
)
def test_contradictions_are_refused(made, change, message):
    path, _, _ = made
    manifest, arrays = container.read(path, network_file.MAGIC, 1)
    change(manifest, arrays)
    container.write(path, network_file.MAGIC, 1, manifest, arrays)
    with pytest.raises(ValueError, match=message):
        load(path)
