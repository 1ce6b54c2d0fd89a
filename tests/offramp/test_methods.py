import json

import pytest
from rich.console import Console

from offramp import methods

RESULT = {
    "method": "gap",
    "network": "half-width ResNet-8",
    "dataset": "fashion-mnist",
    "checks": [
        {"claim": "transfer is harder", "holds": True, "figures": {"gap": 0.61, "magnitude": 0.5}},
        {"claim": "white-box stays low", "holds": False, "figures": {"pgd": 0.32}},
    ],
    "accelerator": {"gap": {"cycles": 100.0}},
    "command": "python -m offramp.replications gap --seed 0",
    "seed": 0,
    "date": "2026-11-20",
}


@pytest.fixture
def found(tmp_path):
    (tmp_path / "gap.json").write_text(json.dumps(RESULT))
    return methods.collect(tmp_path)


def test_table_and_markdown_say_what_holds_and_what_fails(found):
    text = methods.markdown(found)
    lines = [line for line in text.splitlines() if line.startswith("| gap |")]
    assert lines == [
        "| gap | half-width ResNet-8, fashion-mnist | transfer is harder | holds | gap 0.61, magnitude 0.5 |",
        "| gap | half-width ResNet-8, fashion-mnist | white-box stays low | fails | pgd 0.32 |",
    ]
    assert RESULT["command"] in text
    console = Console(width=200, record=True)
    console.print(methods.claims(found["methods"]))
    shown = console.export_text()
    assert "white-box stays low" in shown
    assert "fails" in shown
    for entry in found["networks"]:
        assert f"| {entry['name']} |" in text


def test_the_plot_is_svg_and_repeatable(found):
    assert methods.plot(found) == methods.plot(found)
    assert methods.plot(found).startswith("<svg")
    assert "gap" in methods.plot(found)


def test_nothing_yet(tmp_path):
    found = methods.collect(tmp_path)
    assert found["methods"] == {}
    assert methods.plot(found).startswith("<svg")


def test_incomplete_results_are_refused(tmp_path):
    (tmp_path / "gap.json").write_text(json.dumps({"method": "gap"}))
    with pytest.raises(ValueError, match=r"gap.json: must hold 'network'"):
        methods.collect(tmp_path)
    (tmp_path / "gap.json").write_text("[]")
    with pytest.raises(ValueError, match=r"gap.json: must be a table, not list"):
        methods.collect(tmp_path)
    (tmp_path / "gap.json").write_text("{")
    with pytest.raises(ValueError, match=r"gap.json: must be JSON"):
        methods.collect(tmp_path)


def test_committed_results_are_complete():
    methods.collect()
