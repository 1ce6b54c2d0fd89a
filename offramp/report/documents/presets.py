"""The presets of the accelerator, from ``hw/config.py``, and what was routed of each, as recorded."""

from hw.config import PRESETS, AcceleratorConfig
from offramp.measure.recorded import recorded_build
from offramp.report.documents.headline import age
from offramp.report.tables.result_tables import markdown_lines

__all__ = ["presets_markdown"]

#: What a preset is for, in words.
_PURPOSES = {
    "tiny": "tests",
    "single": "the demo",
    "small": "the demo's board, with twice the multipliers",
    "small-85f": "dense ResNet-8, networks that select activations",
    "medium-85f": "`resnet8-lean` and `resnet8-sparse`",
    "base-85f": "most networks of the zoo, the fastest",
}


def presets_markdown() -> str:
    """The table, in Markdown: sizes, and clock and baseline of the build that figures are given of."""
    head = ["preset", "multipliers", "cores x PEs, lanes a core", "for", "placed and routed"]
    rows = [_row(name, config) for name, config in PRESETS.items()]
    return "\n".join(markdown_lines([head, *rows], ["---", "--:", "---", "---", "---"]))


def _row(name: str, config: AcceleratorConfig) -> list[str]:
    build, routed = recorded_build(name), "-"
    if build is not None:
        routed = f"{build.report['board']}, {build.fmax_mhz:.1f} MHz (`baselines/build-{name}.json`){age(build)}"
    shape = f"{config.cores} x {config.pes}, {config.lanes}"
    return [f"`{name}`", str(config.multipliers), shape, _PURPOSES[name], routed]
