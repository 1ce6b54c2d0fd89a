"""The committed results are what the checks make of the committed figures."""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

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


def attacks_in(value: Any) -> Iterator[dict[str, Any]]:
    """What is said of several attacks at once, wherever it stands."""
    if isinstance(value, dict) and "worst" in value:
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from attacks_in(inner)


def test_attacks_that_are_compared_were_on_the_same_images():
    """All say how many: shares of them, of which none is below the worst."""
    found = [each for name in NAMES for each in attacks_in(json.loads((RESULTS / f"{name}.json").read_text("utf-8")))]
    assert len(found) > 4
    for attacks in found:
        shares = {name: value for name, value in attacks.items() if name != "attacked"}
        assert shares["worst"] == min(shares.values())
        for share in shares.values():
            assert share * attacks["attacked"] == pytest.approx(round(share * attacks["attacked"]), abs=1e-9)
