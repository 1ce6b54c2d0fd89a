"""Descriptions of selections: the cores together scan every word of a map once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.compiler.emit_select import describe
from hw.compiler.lower import lower
from hw.compiler.steps.step import Step
from hw.config import AcceleratorConfig
from hw.network.network import INPUT
from hw.network.selection import Select
from hw.program.isa import SelectKind
from hw.program.tiles import slices
from tests.random_networks import NetworkMaker


def step_of(shape: tuple[int, int, int], select: Select) -> Step:
    """A convolution that multiplies a selection of an image."""
    maker = NetworkMaker(np.random.default_rng(0), shape)
    maker.head(maker.conv(INPUT, 2, (1, 1), density=0.1), 2)
    step = lower(maker.network("net")).steps[0]
    return replace(step, layer=replace(step.layer, select=select))


@st.composite
def cases(draw, kind: str):
    """A step, and of every core its rows, where they begin and what it keeps."""
    height, width, channels = draw(st.integers(1, 9)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 8, 20]))
    config = AcceleratorConfig(cores=draw(st.sampled_from([1, 2, 4, 8])), list_words=4096)
    row, rows = width * -(-channels // 8), slices(height, config.cores)
    starts, windows = [], []
    for first, last in rows:
        low, high = draw(st.integers(0, first)), draw(st.integers(last, height))
        base = draw(st.integers(0, 99))
        windows.append({"bank": 1, "base": base, "low": low * row, "count": (high - low) * row})
        starts.append(base + (first - low) * row)
    return step_of((height, width, channels), Select(kind=kind, count=1)), rows, starts, windows, config


@settings(max_examples=30)
@given(st.data())
@pytest.mark.parametrize(("kind", "code"), [("elements", SelectKind.ELEMENTS), ("channels", SelectKind.CHANNELS)])
def test_every_word_is_scanned_once_in_a_core_that_keeps_it(kind, code, data):
    step, rows, starts, windows, config = data.draw(cases(kind))
    _, width, channels = step.source.shape
    pitch = -(-channels // 8)
    scanned: list[int] = []
    lengths = []
    for window, description in zip(windows, describe(step, rows, starts, windows, config), strict=True):
        assert (description["name"], description["masks"]) == ("layer0", ())
        fields = description["selection"]
        assert (fields["kind"], fields["bank"], fields["count"], fields["table"]) == (code, 1, 1, 0)
        assert fields["pitch"] == (1 if kind == "elements" else pitch)
        addresses = [fields["base"] + n * fields["pitch"] for n in range(fields["words"])]
        words = [address + more for address in addresses for more in range(fields["pitch"])]
        assert set(words) <= set(range(window["base"], window["base"] + window["count"]))
        scanned += [word - fields["shift"] for word in words]
        lengths.append(fields["words"])
        assert fields["words"] or not fields["base"]
    assert sorted(scanned) == list(range(step.source.shape[0] * width * pitch))
    assert {each["selection"]["length"] for each in describe(step, rows, starts, windows, config)} == {max(lengths)}


def test_masks_are_told_to_every_core_and_nothing_is_scanned():
    step = step_of((2, 3, 20), Select(kind="mask", channels=(0, 7, 9, 19)))
    config = AcceleratorConfig(cores=2)
    window = {"bank": 1, "base": 5, "low": 0, "count": 18}
    found = describe(step, [(0, 1), (1, 2)], [5, 14], [window] * 2, config)
    nothing = dict.fromkeys(("bank", "base", "words", "length", "shift", "count", "table"), 0)
    fields = nothing | {"kind": SelectKind.MASK, "pitch": 3}
    assert found == [{"name": "layer0", "selection": fields, "masks": (0b1000_0001, 0b10, 0b1000)}] * 2
