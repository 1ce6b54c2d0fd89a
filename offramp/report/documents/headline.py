"""The README's figures: the few that matter most, each with the command that made it."""

from typing import Any

from models.zoo import ZooEntry, entry
from offramp.files.result_file import BASELINES, read_json
from offramp.measure.recorded import RecordedBuild, recorded_build
from offramp.report.tables.result_tables import equality, markdown_lines
from offramp.report.tables.units import percent, usage

__all__ = ["age", "headline_markdown"]

#: Configs whose recorded builds are in the table.
_SHOWN = ("single", "medium-85f", "base-85f")


def _bench(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    shares = ", ".join(f"{row['workload']} {percent(row['share_of_limit'], 1)}" for row in found["rows"])
    rtl, dense = found["rtl"], found["rows"][0]
    equal = equality(rtl["values_equal"] and rtl["cycles_equal"])
    command = f"`offramp bench --config {found['config']}`"
    return [
        (f"of limit, config `{found['config']}`, {found['multipliers']} multipliers, simulated", shares, command),
        (
            f"values and cycles of RTL and simulator, {rtl['images']} images of `{rtl['workload']}`",
            f"{equal} in all {rtl['layers'] // rtl['images']} layers of each",
            f"{command[:-1]} --verilator 2`",
        ),
        (f"simulator, `{dense['workload']}`", f"{dense['simulator_images_per_second']:.0f} images/s", command),
    ]


def age(build: RecordedBuild) -> str:
    """What follows a build's figures in a table: nothing, or that the hardware has changed since."""
    return "" if build.is_current() else ", earlier hardware"


def _built(config: str) -> RecordedBuild:
    build = recorded_build(config)
    if build is None:
        raise ValueError(f"config {config} must have a recorded build of the sizes that it has today: build it again")
    return build


def _build(config: str) -> tuple[str, str, str]:
    build = _built(config)
    value = f"{build.fmax_mhz:.1f} MHz highest clock, {usage(build.report['logic'])} logic cells{age(build)}"
    command = "make baselines-85f" if config.endswith("85f") else "make baselines"
    return f"config `{config}` placed and routed for {build.report['board']}", value, f"`{command}`"


def _routed(name: str) -> tuple[str, str, str]:
    """A network on the fastest config that was routed for it."""
    found = read_json(BASELINES / "routed.json")["networks"][name]
    build, cycles = _built(found["config"]), found["cycles"]["mean"]
    equal = equality(found["values_equal"] and found["cycles_equal"])
    return (
        f"`zoo:{name}` on `{found['config']}`, {found['images']:,} test images, the core alone at its highest clock",
        f"{1e6 * build.fmax_mhz / cycles:,.0f} inferences/s{age(build)}; "
        f"values and cycles of {found['rtl_images']} on the RTL: {equal}",
        "`make routed`",
    )


def _network(found: ZooEntry) -> tuple[str, str, str]:
    products = found.products_share * found.multiply_accumulates
    return (
        f"`zoo:{found.name}`, all {found.images:,} test images of {found.dataset}, int8, exits on",
        f"{percent(found.accuracy_int8)} right; {products / 1000:,.0f} thousand products an image, "
        f"{percent(found.products_share)} of its multiply-accumulates; {found.mean_cycles:,.0f} cycles on "
        f"`{found.config}`",
        "`offramp zoo`",
    )


def headline_markdown() -> str:
    """The table, in Markdown, from committed results."""
    best, bench = entry("resnet8-lean"), read_json(BASELINES / "bench-base.json")
    rows = [_network(best), _routed(best.name), *_bench(bench), *(_build(config) for config in _SHOWN)]
    return "\n".join(markdown_lines([["figure", "value", "command"], *map(list, rows)], ["---"] * 3))
