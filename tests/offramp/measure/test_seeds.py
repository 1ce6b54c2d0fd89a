"""Builds of several seeds: side by side, the fastest stays, the first failure ends all."""

from contextlib import contextmanager

import pytest

from fpga.boards import BAUD, board
from fpga.flow.build import build
from hw.config import preset
from offramp.measure import seeds
from offramp.measure.seeds import clocks_of
from tests.fpga.tools import quick_tools


class Build:
    """A build that is done when it is asked for the third time."""

    def __init__(self, arguments, running):
        self.seed = int(arguments[arguments.index("--seed") + 1])
        self.arguments, self._running, self._asked = arguments, running, 0

    def wait(self, seconds):
        self._asked += 1
        if self.seed == 13:
            raise ValueError("build in the background failed: it does not fit")
        return self._asked > 2

    def result(self):
        return {"build": {"fmax_mhz": 50.0 + self.seed}}


@pytest.fixture
def begun(monkeypatch):
    """What was begun, in its order, and how many ran at once."""
    builds, running, most = [], set(), []

    @contextmanager
    def background(arguments, log, result):
        made = Build(arguments, running)
        builds.append(made)
        running.add(made.seed)
        most.append(len(running))
        try:
            yield made
        finally:
            running.discard(made.seed)

    monkeypatch.setattr(seeds, "background", background)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    return builds, running, most


def test_as_many_at_once_as_there_are_cores(begun):
    builds, running, most = begun
    steps = []
    found = clocks_of("tiny", "ulx3s-25f", 40.0, 1_000_000, range(4, 11), lambda *step: steps.append(step))
    assert found == {seed: 50.0 + seed for seed in range(4, 11)}
    assert [build.seed for build in builds] == list(found)
    assert max(most) == 3
    assert running == set()
    asked = "build --config tiny --board ulx3s-25f --clock 40.0 --baud 1000000 --link serial --seed 4 --out"
    assert builds[0].arguments[:-1] == asked.split()
    assert steps[-1] == (7, 7, "seeds placed and routed")


def test_a_failure_ends_the_others(begun):
    builds, running, _ = begun
    with pytest.raises(ValueError, match=r"it does not fit$"):
        clocks_of("tiny", "ulx3s-25f", 40.0, 1_000_000, range(11, 16))
    assert running == set()
    assert len(builds) == 3


@pytest.mark.slow
def test_builds_are_commands_of_their_own_and_found_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    with quick_tools(tmp_path / "tools"):
        for seed in (3, 4):
            build(preset("tiny"), board("ulx3s-25f"), tmp_path / "fpga", clock_mhz=50.0, seed=seed)
    assert clocks_of("tiny", "ulx3s-25f", 50.0, BAUD, (3, 4)) == {3: 63.0, 4: 64.0}
