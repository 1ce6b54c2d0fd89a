"""What the accelerator takes of other families of devices, as recorded."""

from fpga.flow.families import FAMILIES, KINDS
from offramp.files.result_file import BASELINES, read_json
from offramp.report.tables.result_tables import markdown_lines
from offramp.report.tables.units import count

__all__ = ["families_markdown"]


def families_markdown() -> str:
    """The table, in Markdown, from the committed result of ``tools/families``."""
    found = read_json(BASELINES / "families.json")
    head = [f"config `{found['config']}`", *KINDS.values()]
    rows = [
        [family.title, *(count(found["families"][name]["takes"][kind]) for kind in KINDS)]
        for name, family in FAMILIES.items()
    ]
    return "\n".join(markdown_lines([head, *rows], ["---"] * len(head)))
