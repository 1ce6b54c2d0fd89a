"""What the accelerator takes of other families of devices, as recorded."""

from fpga.families import FAMILIES, KINDS
from offramp.result_file import BASELINES, read_json

__all__ = ["families_markdown"]

#: Heads of the columns, in the order of the kinds.
_HEADS = ("tables", "carry bits", "tables as memory", "flip-flops", "block RAMs", "multipliers")


def families_markdown() -> str:
    """The table, in Markdown, from the committed result of ``tools/families``."""
    found = read_json(BASELINES / "families.json")
    lines = [f"| config `{found['config']}` | {' | '.join(_HEADS)} |", "|---" * (1 + len(_HEADS)) + "|"]
    for name, family in FAMILIES.items():
        takes = found["families"][name]["takes"]
        lines.append(f"| {family.title} | {' | '.join(f'{takes[kind]:,}' for kind in KINDS)} |")
    return "\n".join(lines)
