import pytest

from models.zoo import entry
from offramp.files.result_file import BASELINES, read_json
from offramp.measure.recorded import RecordedBuild, recorded_build
from offramp.report.documents.published import comparison_markdown


@pytest.mark.parametrize("current", [True, False])
def test_our_rates_are_those_of_the_recorded_builds_and_the_fastest_stands_first(monkeypatch, current):
    monkeypatch.setattr(RecordedBuild, "is_current", lambda build: current)
    _, _, *rows = [line.strip("| ").split(" | ") for line in comparison_markdown().splitlines()]
    rates = [float(row[-1].replace(",", "")) for row in rows]
    assert rates == sorted(rates, reverse=True)
    ours = {row[0]: row for row in rows if row[1].startswith("Offramp")}
    assert ours.keys() == {"`zoo:resnet8-lean`, int8", "`zoo:resnet8-sparse`, int8", "official ResNet-8, int8"}
    lean = read_json(BASELINES / "routed.json")["networks"]["resnet8-lean"]
    row = ours["`zoo:resnet8-lean`, int8"]
    clock = recorded_build(lean["config"]).fmax_mhz
    assert row[1].endswith(" nextpnr" if current else " nextpnr, earlier hardware")
    assert (row[4], row[5], row[6]) == (f"{clock:.1f}", "85.41", f"{1e6 * clock / lean['cycles']['mean']:,.0f}")
    assert lean["accuracy_golden"] == entry("resnet8-lean").accuracy_int8
    assert {row[1].split(",")[0] for row in rows} == {"Offramp", "NN2FPGA", "fpgaConvNet", "FINN", "hls4ml"}
