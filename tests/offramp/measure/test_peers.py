import json
import sys
from pathlib import Path

import pytest

from offramp.measure import peers
from offramp.measure.peers import PEERS, Peer, measure, shapes
from offramp.measure.workloads import make
from offramp.report.tables.bench_tables import peer_rows

FAKE = Peer(name="fake", machine="a stopwatch", packages=("fake==1",))


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Writes the fake peer's script; its environment is this one."""
    monkeypatch.setattr(peers, "_DRIVERS", tmp_path)
    monkeypatch.setattr(peers, "_environment", lambda peer, root: Path(sys.executable))
    return (tmp_path / "fake_driver.py").write_text


def test_shapes_are_those_of_ds_cnn():
    first, second, *_, last = shapes(make("ds-cnn", 1, 0).network)
    assert first == {
        "name": "c1",
        "depthwise": False,
        "inputs": 1,
        "outputs": 64,
        "kernel": [10, 4],
        "stride": [2, 2],
        "padded": [58, 12],
        "positions": [25, 5],
    }
    assert (second["depthwise"], second["inputs"], second["outputs"]) == (True, 64, 64)
    assert (last["kernel"], last["padded"], last["positions"], last["outputs"]) == ([1, 1], [1, 1], [1, 1], 12)


def test_shapes_count_the_multiply_accumulates_of_resnet8():
    macs = 0
    for layer in shapes(make("resnet8-dense", 1, 0).network):
        (height, width), (rows, columns) = layer["positions"], layer["kernel"]
        macs += height * width * rows * columns * layer["inputs"] * layer["outputs"]
    assert macs == 12_501_632  # MLPerf Tiny's image classification, without its average pool


def test_a_peer_is_asked_and_its_speed_computed(driver, tmp_path):
    driver(
        "import json, sys\n"
        "layers = json.load(sys.stdin)\n"
        "open(sys.argv[1], 'w').write(json.dumps({'cycles': 100 * len(layers), 'seconds': 0.5}))\n"
    )
    network = make("resnet8-dense", 1, 0).network
    found = measure(FAKE, network, tmp_path)
    assert found["cycles"] == 100 * len(shapes(network))
    assert found["cycles_per_second"] == found["cycles"] / 0.5
    _, (line,) = peer_rows(
        [{"workload": "w", "simulated_cycles_per_second": 20 * found["cycles_per_second"]}],
        [{"workload": "w", **found}],
    )
    assert line[1:3] == ["fake==1", "a stopwatch"]
    assert line[-1] == "20"


def test_what_a_failing_peer_said_is_passed_on(driver, tmp_path):
    driver("import sys; sys.exit('no such array')")
    with pytest.raises(RuntimeError, match="fake failed with exit code 1: no such array"):
        measure(FAKE, make("resnet8-dense", 1, 0).network, tmp_path)


def test_every_peer_has_a_script_and_a_fixed_version():
    for name, peer in PEERS.items():
        assert (Path(peers.__file__).parent / "peer_drivers" / f"{name}_driver.py").exists()
        assert "==" in peer.packages[0]
        assert json.loads(json.dumps(peer.packages)) == list(peer.packages)
