"""The README's figures: the few that matter most, each with the command that made it."""

from typing import Any

from fpga.boards import BAUD
from fpga.throughput import throughput
from models.datasets.splits import SHAPES
from models.zoo import ZooEntry, entry
from offramp.files.result_file import BASELINES, read_json
from offramp.measure.recorded import RecordedBuild, recorded_build
from offramp.report.tables.result_tables import equality, markdown_lines
from offramp.report.tables.units import percent, usage

__all__ = ["age", "headline_markdown"]

#: Configs whose recorded builds are in the table.
_SHOWN = ("single", "medium-85f", "base-85f")


def _bench() -> list[tuple[str, str, str]]:
    """Shares of the limit on the fastest config, dense lists from external memory, and what its RTL said."""
    found, loaded = (read_json(BASELINES / f"bench-{name}.json") for name in ("85f", "85f-loader"))
    rtl = found["rtl"]

    def shares(bench: dict[str, Any]) -> str:
        return ", ".join(f"{row['workload']} {percent(row['share_of_limit'], 1)}" for row in bench["rows"])

    return [
        (
            f"of limit, config `{found['config']}`, {found['multipliers']} multipliers, simulated",
            f"{shares(found)}; {shares(loaded)} with lists read during the run (`{loaded['config']}`)",
            "`make bench-85f`",
        ),
        (
            f"values and cycles of RTL and simulator on `{found['config']}`, `{rtl['workload']}` of "
            f"{rtl['images']} {'image' if rtl['images'] == 1 else 'images'}",
            f"{equality(rtl['values_equal'] and rtl['cycles_equal'])} in all {rtl['layers'] // rtl['images']} layers",
            "`make bench-85f`",
        ),
    ]


def _simulator() -> tuple[str, str, str]:
    first = read_json(BASELINES / "bench-85f.json")["rows"][0]
    rate = f"{first['simulator_images_per_second']:.0f} images/s"
    return f"simulator, `{first['workload']}`", rate, "`make bench-85f`"


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


def _routed(known: ZooEntry) -> tuple[str, str, str]:
    """A network on the fastest config that was routed for it: of the core, and of the board with its serial link."""
    found = read_json(BASELINES / "routed.json")["networks"][known.name]
    build, cycles = _built(found["config"]), found["cycles"]["mean"]
    board = throughput(SHAPES[known.dataset][0], cycles, clock_mhz=build.clock_mhz, baud=BAUD)
    equal = equality(found["values_equal"] and found["cycles_equal"])
    return (
        f"`zoo:{known.name}` on `{found['config']}`, {found['images']:,} test images",
        f"{1e6 * build.fmax_mhz / cycles:,.0f} inferences/s of the core alone at its highest clock{age(build)}; "
        f"{board.images_per_second:,.0f} on {build.report['board']} with its {BAUD / 1e6:.0f} Mbit/s serial link; "
        f"values and cycles of {found['rtl_images']} on the RTL: {equal}",
        "`make routed`",
    )


def _network(found: ZooEntry) -> tuple[str, str, str]:
    products = found.products_share * found.multiply_accumulates
    return (
        f"`zoo:{found.name}`, all {found.images:,} test images of {found.dataset}, int8, exits on",
        f"{percent(found.accuracy_int8)} right; {products / 1000:,.0f} thousand products an image, "
        f"{percent(found.products_share)} of its multiply-accumulates",
        "`offramp zoo`",
    )


def headline_markdown() -> str:
    """The table, in Markdown, from committed results."""
    best = entry("resnet8-lean")
    rows = [_network(best), _routed(best), *_bench(), _simulator(), *(_build(config) for config in _SHOWN)]
    return "\n".join(markdown_lines([["figure", "value", "command"], *map(list, rows)], ["---"] * 3))
