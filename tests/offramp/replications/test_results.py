"""The committed results are what the checks make of the committed figures."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from offramp.replications.__main__ import REPLICATIONS

RESULTS = Path(__file__).parents[3] / "baselines" / "methods"
NAMES = sorted(name for name in REPLICATIONS if (RESULTS / f"{name}.json").exists())


@pytest.mark.parametrize("name", REPLICATIONS)
def test_every_replication_trains_and_checks(name):
    module = import_module(f"offramp.replications.{name}")
    assert callable(module.train)
    assert callable(module.checks)


@pytest.mark.parametrize("name", NAMES)
def test_checks_follow_from_the_figures(name):
    committed = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    found = import_module(f"offramp.replications.{name}").checks(committed["figures"], committed["accelerator"])
    assert json.loads(json.dumps(found)) == committed["checks"]
    assert committed["method"] == name
    assert committed["command"].startswith(f"python -m offramp.replications {name} ")
    assert committed["accelerator"]
    assert committed["versions"]["torch"]
    assert committed["date"]
