"""The recorded study: a slice of it evaluated again, and the page that shows it."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from hw.compiler.load_balance import balance
from models.integer import golden
from offramp.files.result_file import BASELINES
from offramp.measure.workloads import make

RESULT = json.loads((BASELINES / "strips.json").read_text())
PAGE = (BASELINES.parent / "docs" / "strips.md").read_text()
W20 = RESULT["networks"]["resnet8-w20"]


@pytest.fixture(scope="module")
def placed(plain):
    """The strips of ``resnet8-w20`` on a machine, of one image, and their recorded placement."""
    cut, work, placement, study = (plain(name) for name in ("cut", "work", "placement", "study"))
    workload = make("resnet8-w20", 1, 0)
    network = balance(workload.network, study.CONFIG, workload.activity)
    values = golden.run(network, workload.codes)

    def on(name):
        found, machine = W20["machines"][name], study.MACHINES[name]
        cuts = [cut.Cut(*found["cuts"][step.layer.name]) for step in cut.lower(network).steps]
        layers = cut.cut_network(network, cuts, study.CONFIG, workload.activity, dealt_channels=study.DEALT, fuse=True)
        strips = work.Work(
            layers, network, values.tensors, values.exit_index, study.CONFIG, lanes=machine.lanes, turn=machine.turn
        )
        bench = placement.Bench(strips, machine)
        return bench, placement.StripPlacement(np.array(found["cores"]), np.array(found["spare"])), found

    return on


def test_the_page_shows_what_is_recorded(plain):
    module = plain("table")
    begin, end = module.MARKS
    assert PAGE.split(begin)[1].split(end)[0].strip() == module.tables(RESULT)


def test_machines_are_those_that_were_studied(plain):
    for name, machine in plain("study").MACHINES.items():
        sizes = json.loads(json.dumps(asdict(machine))) | {"block_rams": machine.block_rams}
        assert RESULT["machines"][name] == sizes
        assert machine.block_rams <= plain("machine").BLOCK_RAMS


def test_with_barriers_the_cycles_were_those_of_the_simulator():
    for network in RESULT["networks"].values():
        found = network["check"]
        assert found["model"] == found["simulator"]
        assert found["model_products"] == found["products"]


@pytest.mark.parametrize("name", [*W20["machines"]])
def test_memories_hold_what_is_recorded(placed, name):
    bench, placement, found = placed(name)
    words = bench.memory(placement)
    assert words[:, 0].tolist() == found["list_words"]
    assert words[:, 1].tolist() == found["activation_words"]
    assert words[:, 2].sum() == found["words_lacking"]


@pytest.mark.parametrize("name", [*W20["machines"]])
def test_images_end_when_it_is_recorded(placed, name):
    """Two images with their recorded spans: the order of the strips, and what they wait for."""
    bench, placement, found = placed(name)
    times = bench.time(placement, [0, 0], spans=np.array(found["slice"]["spans"]))
    assert times.done.max(axis=1).tolist() == found["slice"]["ends"]
