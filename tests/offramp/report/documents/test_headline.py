import pytest

from offramp.files.result_file import BASELINES, read_json
from offramp.measure.recorded import RecordedBuild, recorded_build
from offramp.report.documents.headline import headline_markdown
from offramp.report.tables.result_tables import equality


@pytest.mark.parametrize("current", [True, False])
def test_figures_of_a_build_say_when_the_hardware_has_changed_since(monkeypatch, current):
    monkeypatch.setattr(RecordedBuild, "is_current", lambda build: current)
    rows = [line.strip("| ").split(" | ") for line in headline_markdown().splitlines()[2:]]
    values = {figure: value for figure, value, _ in rows}
    build, lean = recorded_build("base-85f"), read_json(BASELINES / "routed.json")["networks"]["resnet8-lean"]
    clock, used = build.fmax_mhz, build.report["logic"]["used"]
    value = values["config `base-85f` placed and routed for ulx3s-85f"]
    assert value.startswith(f"{clock:.1f} MHz highest clock, {used:,} of ")
    assert value.endswith(" logic cells" if current else " logic cells, earlier hardware")
    (routed,) = (value for value in values.values() if "the core alone at its highest clock" in value)
    whole = 1e6 * recorded_build(lean["config"]).fmax_mhz / lean["cycles"]["mean"]
    rate = f"{whole:,.0f} inferences/s of the core alone at its highest clock"
    assert routed.startswith(f"{rate}{'' if current else ', earlier hardware'}; ")
    assert routed.endswith(f" {equality(lean['values_equal'] and lean['cycles_equal'])}")


def test_shares_of_the_limit_are_of_a_config_that_was_routed():
    (line,) = (line for line in headline_markdown().splitlines() if line.startswith("| of limit"))
    bench = read_json(BASELINES / "bench-85f.json")
    assert recorded_build(bench["config"]) is not None
    assert f"config `{bench['config']}`" in line
    for row in bench["rows"]:
        assert f"{row['workload']} {100 * row['share_of_limit']:.1f} %" in line
