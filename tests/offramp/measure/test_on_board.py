"""Checks and measurements on a board that is played; tests/rtl/test_board.py has the RTL."""

from dataclasses import replace

import numpy as np
import pytest

from fpga.host.serial_link import LinkError
from hw.compiler.compile import compile_network
from hw.config import PRESETS, preset
from hw.program.bundle import bundle_of
from models.integer.golden import run
from offramp.measure import on_board
from offramp.measure.on_board import AttachedBoard, attached_config, bench, check
from sim import simulate
from tests.fpga.host.fake_board import BAUD, FakeBoard, layer_counters
from tests.random_networks import random_codes, random_network

_IMAGES = 6


@pytest.fixture(scope="module")
def program():
    return compile_network(random_network(406), preset("tiny"))


@pytest.fixture(scope="module")
def codes(program):
    found = random_codes(program.network, 40, 1)
    return np.unique(found, axis=0)[:_IMAGES]


@pytest.fixture
def played(program, codes):
    golden = run(program.network, codes)
    cycles = simulate(program, codes, golden=golden).cycles
    rows = zip(golden.classes, golden.exit_index, golden.margins, cycles, strict=True)
    results = [
        {"label": int(label), "exit": int(leave), "margin": int(margins[leave]), "cycles": int(count)}
        for label, leave, margins, count in rows
    ]
    return FakeBoard(bundle_of([program]), codes, results)


def attached(played):
    return AttachedBoard(
        name="played", connect=played.connect, clock_mhz=50.0, baud=BAUD, nominal=(50.0, BAUD), seconds=played.time.now
    )


@pytest.fixture
def quick(played, monkeypatch):
    """Sessions live in the time of the board."""
    session = on_board.BoardSession
    monkeypatch.setattr(on_board, "BoardSession", lambda *given, **more: session(*given, **more, time=played.time))
    return attached(played)


def test_a_board_that_computes_what_it_must(quick, program, codes):
    told = []
    labels = run(program.network, codes).classes
    found = check(quick, program, codes, labels, cycles=True, progress=lambda *step: told.append(step))
    assert (found["values_equal"], found["cycles_equal"], found["differing"], found["mismatches"]) == (
        True,
        True,
        [],
        [],
    )
    assert (found["images"], found["accuracy"], sum(found["exit_share"])) == (_IMAGES, 1.0, pytest.approx(1))
    assert found["images_per_second"] == pytest.approx(_IMAGES / found["seconds"])
    assert told[-1] == (_IMAGES, _IMAGES, "on the board")
    assert check(quick, program, codes)["cycles_equal"] is None


@pytest.mark.parametrize(("field", "values", "cycles"), [("margin", False, True), ("cycles", True, False)])
def test_a_board_that_computes_something_else(quick, played, program, codes, field, values, cycles):
    right = played._results[2][field]
    played._results[2] = played._results[2] | {field: right + 1}
    notes = []
    found = check(quick, program, codes, cycles=True, note=notes.append)
    assert (found["values_equal"], found["cycles_equal"], found["differing"]) == (values, cycles, [2])
    assert found["mismatches"] == [f"image 2: {field}: board {right + 1}, expected {right}"]
    assert found["mended"] == notes == ["image 3 of 6: the result is not the expected one; it is asked for again"]


def test_counters_of_every_layer_are_asked_for(quick, played, program, codes):
    played.counters = layer_counters(simulate(program, codes))
    found = check(quick, program, codes, records=True)
    expected = [
        {"layer": program.commands[record["index"]].name} | {name: record[name] for name in record if name != "index"}
        for record in played.counters[3]
    ]
    assert (len(found["layers"]), found["values_equal"], found["cycles_equal"]) == (_IMAGES, True, True)
    assert found["layers"][3] == expected
    assert "layers" not in check(quick, program, codes)


def test_counters_that_are_not_the_simulators_are_asked_for_again_and_told(quick, played, program, codes):
    played.counters = layer_counters(simulate(program, codes))
    record = played.counters[2][1]
    right = record["stalls"]
    record["stalls"] += 1
    found = check(quick, program, codes, records=True)
    assert (found["values_equal"], found["cycles_equal"], found["differing"]) == (True, False, [2])
    assert found["mismatches"] == [f"image 2: stalls of layer {record['index']}: board {right + 1}, expected {right}"]
    assert found["mended"] == ["image 3 of 6: the result is not the expected one; it is asked for again"]


def test_noise_is_mended_in_counters_as_well(quick, played, program, codes):
    played.counters = layer_counters(simulate(program, codes))
    found = check(quick.noisy(1e-3, 3), program, codes, records=True)
    assert (found["values_equal"], found["cycles_equal"]) == (True, True)
    assert found["mended"]


def test_noise_is_mended(quick, played, program, codes):
    found = check(quick.noisy(1e-3, 3), program, codes, cycles=True)
    assert found["values_equal"]
    assert found["cycles_equal"]
    assert found["mended"]


def test_a_bench_compares_with_what_the_line_allows(quick, program, codes):
    found = bench(quick, program, codes)
    expected = found["expected"]
    assert (expected["clock_mhz"], expected["baud"], expected["bottleneck"]) == (50.0, BAUD, "link")
    assert 0 < found["one_by_one"] < expected["one_by_one_images_per_second"]
    assert found["one_by_one"] < found["back_to_back"] < expected["images_per_second"]
    assert found["load_seconds"] > 0


def test_a_bench_asks_again_for_what_the_line_has_changed(quick, played, program, codes):
    played.wrong = {2: [200]}
    found = bench(quick, program, codes)
    assert found["mended"] == ["image 3 of 6: the result is not the expected one; it is asked for again"]
    assert found["mean_cycles"] == np.mean([each["cycles"] for each in played._results])


@pytest.mark.parametrize(("field", "values", "cycles"), [("margin", False, True), ("cycles", True, False)])
def test_a_bench_tells_what_comes_twice(quick, played, program, codes, field, values, cycles):
    played._results[2] = played._results[2] | {field: played._results[2][field] + 1}
    found = bench(quick, program, codes)
    assert (found["values_equal"], found["cycles_equal"], found["differing"]) == (values, cycles, [2])
    assert len(found["mismatches"]) == 1


def test_a_board_with_usb_has_the_rate_of_its_bus(quick, program, codes):
    found = on_board.real("/dev/ttyACM0", 50.0, 3_000_000, "usb-high")
    assert (found.baud, found.nominal, found.link) == (532_480_000, (50.0, 3_000_000), "usb-high")
    expected = bench(replace(quick, link="usb-full"), program, codes)["expected"]
    assert expected["link"] == "usb-full"
    assert 4 * expected["link_images_per_second"] * (expected["words_sent"] + expected["words_received"]) == (
        pytest.approx(1_216_000)
    )


def test_a_board_says_which_preset_it_holds(played, monkeypatch):
    opened = on_board.SerialLink
    monkeypatch.setattr(on_board, "SerialLink", lambda *given, **more: opened(*given, **more, time=played.time))
    board = attached(played)
    assert attached_config(board) == "tiny"
    played.digest = PRESETS["base-85f"].word_digest
    assert attached_config(board) == "base-85f"
    played.digest = 1
    with pytest.raises(ValueError, match=r"^played: the board must hold one of tiny, .*, not a config of 00000001$"):
        attached_config(board)
    played.silent = True
    with pytest.raises(LinkError, match="says nothing"):
        attached_config(board)


def test_a_board_is_asked_again_where_its_answer_is_damaged(played, monkeypatch):
    opened = on_board.SerialLink
    monkeypatch.setattr(on_board, "SerialLink", lambda *given, **more: opened(*given, **more, time=played.time))
    asked, answers = on_board.identify, iter([LinkError("a damaged answer"), 0x1234, None])

    def identify(link):
        found, answer = asked(link), next(answers)
        if isinstance(answer, LinkError):
            raise answer
        return found if answer is None else answer

    monkeypatch.setattr(on_board, "identify", identify)
    assert attached_config(attached(played)) == "tiny"
