"""What the cores of a config do in the SELECT of a step."""

from collections.abc import Sequence
from typing import Any

from hw.compiler.steps.step import Step
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.isa import SelectKind
from hw.program.selection_encoding import masks_of

__all__ = ["describe"]

_KINDS = {"mask": SelectKind.MASK, "elements": SelectKind.ELEMENTS, "channels": SelectKind.CHANNELS}


def describe(
    step: Step,
    rows: Sequence[tuple[int, int]],
    starts: Sequence[int],
    windows: Sequence[dict[str, int]],
    config: AcceleratorConfig,
) -> list[dict[str, Any]]:
    """Descriptions, one a core: the layer's name, ``selection`` (fields of :class:`hw.program.isa_select.Selection`)
    and ``masks``.

    Parameters
    ----------
    rows : sequence of tuple of 2 int
        First row of each core's slice, and the one after the last.
    starts : sequence of int
        Where these begin in the core's memory.
    windows : sequence of dict
        What each core keeps of the map (fields of :class:`hw.program.isa.Window`).
    """
    select, layer = step.select, step.layer.name
    assert select is not None
    _, width, channels = step.source.shape
    pitch = config.padded_channels(channels) // WORD_CHANNELS
    unit = 1 if select.kind == "elements" else pitch
    common = {"kind": _KINDS[select.kind], "pitch": unit, "count": select.count, "table": 0}
    if select.kind == "mask":
        fields = common | dict.fromkeys(("bank", "base", "words", "length", "shift"), 0)
        return [{"name": layer, "selection": fields, "masks": masks_of(select, pitch)} for _ in rows]
    words = [(last - first) * width * pitch // unit for first, last in rows]
    return [
        {
            "name": layer,
            "selection": common
            | {
                "bank": window["bank"],
                "base": start if count else 0,
                "words": count,
                "length": max(words),
                "shift": window["base"] - window["low"],
            },
            "masks": (),
        }
        for count, start, window in zip(words, starts, windows, strict=True)
    ]
