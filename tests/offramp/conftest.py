"""A small trained and compressed network, a demo's result, and a board that is played, for tests of the front door."""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hw.config import preset
from hw.program.bundle import bundle_of
from hw.program.program import Program, load
from models.datasets.splits import Dataset
from models.integer import golden
from models.recipes import recipe
from models.recipes.checkpoint import Compressed, load_compressed
from models.training.train import Schedule
from offramp import stages
from offramp.files import paths
from offramp.files.program_files import compiled
from offramp.intake.model import read
from offramp.intake.programs import images_of
from offramp.intake.request import ModelRequest
from offramp.measure import on_board
from sim import simulate
from tests.conftest import made_once
from tests.fpga.host.fake_board import BAUD, FakeBoard, layer_counters
from tests.offramp.results import result_of

#: What the board that is played has computed.
PLAYED_MODEL, PLAYED_IMAGES = "zoo:digits@tiny", 6
#: Settings that take seconds and still learn something.
_DIGITS = recipe.builtin("digits")
QUICK = replace(
    _DIGITS,
    train=(replace(_DIGITS.train[0], schedule=Schedule(epochs=8, lr=0.01)),),
    compress=(replace(_DIGITS.compress[0], schedule=Schedule(epochs=4, lr=0.01)),),
    quantize=replace(_DIGITS.quantize, schedule=Schedule(epochs=2, lr=0.001)),
    dense=replace(_DIGITS.dense, schedule=Schedule(epochs=2, lr=0.001)),
)


@dataclass(frozen=True)
class Small:
    """What the stages made of the quick recipe, and the folder with their files."""

    folder: Path
    source: Dataset
    network: Compressed
    program: Program
    dense: Program


@pytest.fixture
def quick_recipe(monkeypatch):
    """The recipe of digits is the quick one while a test asks for it."""
    monkeypatch.setattr(recipe, "builtin", lambda data: QUICK)
    return QUICK


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Small:
    source = stages.dataset("digits", None)
    with made_once(tmp_path_factory, "small") as (folder, first), pytest.MonkeyPatch.context() as patch:
        if first:
            patch.setattr(recipe, "builtin", lambda data: QUICK)
            network = stages.compressed(
                stages.trained(source, folder, seed=0), source, folder / paths.COMPRESSED, seed=0
            )
            compiled(network.network, preset("tiny"), folder / paths.PROGRAM, network.activity)
            stages.unpruned(network.dense, preset("tiny"), folder / paths.UNPRUNED)
    made = load_compressed(folder / paths.COMPRESSED)
    return Small(folder, source, made, load(folder / paths.PROGRAM), load(folder / paths.UNPRUNED))


@pytest.fixture(scope="session")
def finished(small) -> dict:
    """What the demo would deliver of them; not to be changed."""
    return result_of(small, QUICK)


@pytest.fixture(scope="session")
def answers():
    """Bundle, images, and what a board says of them and of their layers."""
    request = ModelRequest(model=PLAYED_MODEL)
    model = read(request)
    codes = images_of(model, request, None, PLAYED_IMAGES).codes(model.network)
    found = golden.run(model.network, codes)
    timing = simulate(model.program, codes, golden=found)
    rows = zip(found.classes, found.exit_index, found.margins, timing.cycles, strict=True)
    results = [
        {"label": int(label), "exit": int(leave), "margin": int(margins[leave]), "cycles": int(count)}
        for label, leave, margins, count in rows
    ]
    return bundle_of([model.program]), codes, results, layer_counters(timing)


@pytest.fixture
def played(answers, monkeypatch):
    """The board that commands find, at every port and simulated, in its own time."""
    bundle, codes, results, counters = answers
    board = FakeBoard(bundle, codes, list(results))
    board.counters = counters
    attached = on_board.AttachedBoard(
        name="played", connect=board.connect, clock_mhz=50.0, baud=BAUD, nominal=(50.0, BAUD), seconds=board.time.now
    )

    @contextmanager
    def simulated(config, progress=None):
        assert config == preset("tiny")
        yield attached

    monkeypatch.setattr(on_board, "simulated", simulated)
    monkeypatch.setattr(on_board, "real", lambda port, clock, baud, link: attached)
    for name in ("BoardSession", "SerialLink"):
        kind = getattr(on_board, name)
        monkeypatch.setattr(on_board, name, lambda *given, kind=kind, **more: kind(*given, **more, time=board.time))
    return board
