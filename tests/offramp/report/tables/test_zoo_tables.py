import json
from dataclasses import asdict

import pytest
from rich.console import Console

from models.zoo import entries, entry
from offramp.measure import recorded
from offramp.report.tables import methods, zoo_tables

RESULT = {"checks": [{"holds": True}, {"holds": False}], "dataset": "fashion-mnist"}
CYCLES = {"routed_cycles": 6400.0, "routed_worst": 8000, "routed_bound": 160_000, "routed_back_to_back": 6480.0}


@pytest.fixture
def networks():
    return [asdict(each) for each in entries()]


@pytest.fixture
def gap():
    return asdict(entry("gap"))


@pytest.fixture
def small_build(tmp_path, monkeypatch):
    """``small`` at 80 MHz is the one recorded build, and the method ``gap`` the one that was tried."""
    monkeypatch.setattr(recorded, "BASELINES", tmp_path)
    monkeypatch.setattr(methods, "FOLDER", tmp_path)
    record = {"config": "small", "build": {"fmax_mhz": 90.0, "clock_mhz": 80.0}}
    (tmp_path / "build-small.json").write_text(json.dumps(record))
    (tmp_path / "gap.json").write_text(json.dumps(RESULT))


def tables_of(networks):
    """Rows as dicts of the tables in Markdown, by the heading above each; the networks' own table has none."""
    found, title = {}, ""
    for block in zoo_tables.networks_markdown(networks).split("\n\n"):
        if not block.startswith("|"):
            title = block
            continue
        head, _, *rows = [line.strip("| ").split(" | ") for line in block.splitlines()]
        found[title] = [dict(zip(head, row, strict=True)) for row in rows]
    return found


def test_every_row_of_cycles_is_of_the_config_and_clock_in_its_heading(gap, small_build):
    """Cycles of one config never stand beside times of another; a config without a recorded build has no times.

    An image of 28 x 28 codes and what belongs to it are 200 words of 40 bits: the link takes 2,667 µs for it.
    """
    networks = [gap | {"routed": "small", "config": "tiny", "mean_cycles": 2000.0, "share_of_limit": 0.5, **CYCLES}]
    own, *others = tables_of(networks).items()
    assert not [name for name in own[1][0] if "cycles" in name or "µs" in name or name == "images/s"]
    assert dict(others) == {
        "On tiny, which has no recorded bitstream, so no clock:": [
            {"network": "gap", "cycles, mean": "2,000", "of limit, %": "50.00"}
        ],
        "On small at 80 MHz, the clock of its recorded bitstream:": [
            {
                "network": "gap",
                "cycles, mean": "6,400",
                "cycles, worst found": "8,000",
                "cycles, bound": "160,000",
                "cycles, back to back": "6,480.0",
                "latency, µs: mean / worst / bound": "80 / 100 / 2,000",
                "images/s": "375 (link)",
            }
        ],
    }


def test_a_network_that_was_counted_and_routed_on_one_config_has_one_row(gap, small_build):
    networks = [gap | {"routed": "small", "config": "small", "mean_cycles": 6400.0, "share_of_limit": 0.5, **CYCLES}]
    _, (title, (row,)) = tables_of(networks).items()
    assert title.startswith("On small at 80 MHz")
    assert (row["cycles, mean"], row["of limit, %"], row["images/s"]) == ("6,400", "50.00", "375 (link)")


def test_facts_of_a_network_have_a_row_for_each_config(gap, small_build):
    facts, taken = zoo_tables.network_facts(gap | {"routed": "small", "config": "tiny", **CYCLES})
    assert not [name for name, _ in facts if "cycles" in name or "µs" in name or name in ("config", "images/s")]
    assert [row[:3] for row in taken.rows] == [["tiny", "-", f"{gap['mean_cycles']:,.0f}"], ["small", "80", "6,400"]]
    assert [row[-2:] for row in taken.rows] == [["-", "-"], ["80 / 100 / 2,000", "375 (link)"]]


def test_facts_of_a_network_are_named_once(gap):
    facts, _ = zoo_tables.network_facts(gap)
    names = [name for name, _ in facts]
    assert len(names) == len(set(names))
    assert "weights" not in names, "contents() says them of every network"


def test_networks_on_the_routed_config_have_a_latency_and_a_throughput(networks):
    shown = tables_of(networks)
    (title,) = (title for title in shown if title.startswith("On small-85f at 60 MHz"))
    assert {row["network"] for row in shown[""]} - {row["network"] for row in shown[title]} == {"resnet8-lean-dense"}
    for row in shown[title]:
        mean, worst, bound = row["latency, µs: mean / worst / bound"].replace(",", "").split(" / ")
        assert int(mean) > 0
        assert (worst, bound) == ("-", "-") or int(mean) < int(worst) <= int(bound)
        assert row["images/s"].endswith((" (link)", " (core)"))


def test_claims_name_the_data_they_were_checked_on(networks):
    """Whatever the data of the network in whose row they stand."""
    found = methods.collect()
    for row in tables_of(networks)[""]:
        result = found["methods"].get(row["network"].replace("-", "_"))
        assert row["claims"].endswith(f" on {result['dataset']}") if result else row["claims"] == "-"
        if result:
            assert f"--data {result['dataset']}" in result["command"] or "--data" not in result["command"]


def test_claims_of_the_replication_of_that_name(gap, small_build):
    rows = tables_of([gap, gap | {"name": "other"}])[""]
    assert [row["claims"] for row in rows] == ["1 of 2 on fashion-mnist", "-"]


def test_a_terminal_has_no_names_of_methods(networks):
    console = Console(width=200, record=True)
    console.print(zoo_tables.networks(networks))
    shown = console.export_text()
    assert "resnet8-sparse" in shown
    assert "method" not in shown
