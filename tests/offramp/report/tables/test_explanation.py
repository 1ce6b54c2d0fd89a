import io
import re

import pytest
from rich.console import Console

from hw.compiler.compile import compilation
from hw.compiler.explain import explanation
from hw.config import AcceleratorConfig, preset
from offramp.report.tables.explanation import attempt_rows, choice_rows, explained, layer_use_rows, memory_rows
from tests.hw.compiler.test_compile_limits import chain
from tests.random_networks import random_network, wide_network

LOADED = AcceleratorConfig(
    cores=2, list_words=256, activation_words=128, accumulators=1024, accumulator_bits=32, loader=1, program_words=1024
)
CASES = {
    "read": (random_network(4), LOADED),
    "strips": (wide_network(105), preset("tiny")),
    "refused": (random_network(13), LOADED),
}


def text_of(said: dict, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(explained(said))
    return file.getvalue()


@pytest.mark.parametrize("name", CASES)
def test_all_of_it_fits_80_columns(name):
    said = explanation(compilation(*CASES[name]))
    text = text_of(said, 80)
    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    for layer in said["layers"]:
        assert words.count(layer["tensor"]) >= 2
    for use in said["memories"]:
        assert f"{use['used']:,}" in words
        assert all(f"{each:,}" in words for each in use["layers"].values())
    assert (" refused " in f" {text} ".replace("\n", " ")) == (name == "refused")
    assert ("…" in text) is False


def test_attempts_by_hand():
    attempt = {"strips": 1, "in_place": False, "streamed": False, "list_words": None, "expected_cycles": None}
    first = attempt | {"refusal": "too large"}
    second = {"strips": 4, "in_place": True, "streamed": True, "list_words": 1024, "expected_cycles": 12345.6}
    head, lines = attempt_rows([first, second | {"refusal": None}])
    assert head == ["attempt", "way", "expected cycles", "outcome"]
    assert lines == [
        ["1", "whole maps, sums in places of their own, lists kept", "-", "too large"],
        ["2", "4 strips, sums in place, lists read during the run, planned with 1,024 list words", "12,346", "taken"],
    ]


def test_choices_by_hand():
    rows = {"merged": False, "column_major": False, "split": False}
    split = rows | {"bands": 2, "groups": 4, "commands": 1, "passes": 1}
    other = split | {"bands": 8, "groups": 1, "commands": 2, "passes": 3, "merged": True, "column_major": True}
    layer = {"layer": "a", "tensor": "add", "options": 20, **split, "strips": 1, "expected_cycles": 1234.4}
    alone = {"layer": "b", "options": 1, **split, "split": True, "strips": 4, "expected_cycles": 1.0, "runner_up": None}
    head, lines = choice_rows([layer | {"runner_up": other | {"expected_cycles": 5678.9}}, alone])
    assert head[-2:] == ["runner-up", "cycles of a run with it"]
    assert lines == [
        ["add", "20", "row-major, 2x4", "1,234", "column-major, merged, 8x1, 2 commands, 3 passes", "5,679"],
        ["b", "1", "row-major, split lists, 2x4, 4 strips", "1", "none", "-"],
    ]


def test_memories_by_hand():
    lists = {"memory": "lists", "certainty": "exact", "used": 300, "words": 2048, "common": 0, "layers": {"a": 300}}
    program = {
        "memory": "program",
        "certainty": "least",
        "used": 7,
        "words": 0,
        "common": 5,
        "layers": {"a": 1, "b": 1},
    }
    assert memory_rows([lists, program])[1] == [
        ["lists", "300", "2,048", "14.6", "exact"],
        ["program", "7", "0", "-", "at least"],
    ]
    head, lines = layer_use_rows([lists, program], {"b": "add"})
    assert head == ["layer", "lists", "program"]
    assert lines == [["a", "300", "1"], ["add", "0", "1"], ["(no layer's)", "0", "5"]]


def test_what_was_refused_before_anything_was_tried_is_said_in_a_line_or_two():
    said = explanation(compilation(chain(40), LOADED.replace(program_words=32)))
    assert said["attempts"] == []
    assert re.search(r"refused +program memory holds 32 words; this network needs at least \d+", text_of(said, 200))
