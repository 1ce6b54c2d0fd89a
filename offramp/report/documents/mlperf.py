"""The official networks of MLPerf Tiny on the accelerator, for docs/results.md."""

from typing import Any

from offramp.measure.recorded import recorded_build
from offramp.report.documents.headline import age
from offramp.report.tables.result_tables import equality, markdown_lines
from offramp.report.tables.units import count, points

__all__ = ["mlperf_markdown"]


def mlperf_markdown(result: dict[str, Any]) -> str:
    """What ``tools/mlperf`` found, as two tables: that all agree, and what it takes of each config."""
    agreement = [["network", "images", "LiteRT's int8 output, % right", "golden's logits, % right", "tensors", "RTL"]]
    figures = [["network", "config", "cycles", "of limit, %", "dense MACs a multiplier and cycle", "inferences/s"]]
    for name, found in result["networks"].items():
        source, images = found["stages"][0], count(found["stages"][0]["images"])
        right = [points(found[f"accuracy_{which}"]) for which in ("reference", "golden")]
        tensors = "all equal" if found["reference_equal"] else f"{source['first']} differs"
        ran = next(iter(found["configs"].values()))["rtl"]
        equal = f"{ran['images']} images: values {equality(found['values_equal'])}, "
        agreement.append([name, images, *right, tensors, f"{equal}cycles {equality(found['cycles_equal'])}"])
        for config, taken in found["configs"].items():
            build, cycles = recorded_build(config), taken["cycles"]["mean"]
            rate = "-"
            if build is not None:
                rate = f"{count(build.fmax_mhz * 1e6 / cycles)} at {build.fmax_mhz:.1f} MHz{age(build)}"
            share, use = points(taken["share_of_limit"], 1), f"{taken['macs_per_multiplier_cycle']:.2f}"
            figures.append([name, f"`{config}`", count(cycles), share, use, rate])
    lines = markdown_lines(agreement, ["---", "--:", "--:", "--:", "---", "---"])
    return "\n".join([*lines, "", *markdown_lines(figures, ["---", "---", "--:", "--:", "--:", "--:"])])
