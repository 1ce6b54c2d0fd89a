"""Commands that say what a file holds, and what is kept."""

import json
import re

from filelock import FileLock

from hw.config import preset
from offramp.files import paths
from sim import worst_case
from tests.offramp.command_line import run


def test_info_of_every_kind_of_file(small, tmp_path):
    for name, kind in (
        (paths.TRAINED, "trained"),
        (paths.COMPRESSED, "compressed"),
        (paths.PROGRAM, "program"),
    ):
        text, code = run("info", small.folder / name, "--json", tmp_path / "info.json")
        assert code == 0
        assert kind in text
        assert json.loads((tmp_path / "info.json").read_text())["kind"] == kind


def test_info_states_the_worst_case_of_a_program(small, tmp_path):
    text, _ = run("info", small.folder / paths.PROGRAM, "--bound", "--json", tmp_path / "info.json")
    found = json.loads((tmp_path / "info.json").read_text())
    assert found["worst_case_cycles"] == worst_case(small.program)
    assert f"{found['worst_case_cycles']:,} cycles, whatever the image" in text
    assert [command["name"] for command in found["commands"]] == [c.name for c in small.program.commands]


def test_info_of_a_program_names_its_config(small):
    config = preset("tiny")
    assert f"tiny: 1 x 4 PEs, digest {config.digest()[:16]}\n" in run("info", small.folder / paths.PROGRAM)[0]


def test_disasm_lists_every_command(small, tmp_path):
    text, code = run("disasm", small.folder / paths.PROGRAM, "--json", tmp_path / "lines.json")
    assert code == 0
    assert "  LAYER   2  early.add\n" in text
    assert text.count(" LAYER ") == len(small.program.commands)
    *lines, last = text.splitlines()
    found = json.loads((tmp_path / "lines.json").read_text())
    assert (found["lines"], last) == (lines, f"next: offramp simulate {small.folder / paths.PROGRAM}")
    assert sum(each["op"] == "LAYER" for each in found["instructions"]) == len(small.program.commands)


def test_info_says_what_the_cache_holds_and_clean_empties_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    build, digest = f"verilator-{'1a' * 8}", "0123456789abcdef"
    kept = {
        f"{build}/obj.o": 3000,
        f"zoo/digits-{digest[:12]}-{digest[:12]}.off": 200,
        "runs/tmp0a_b1c2d/job.json": 1,
        f"fpga/{digest}/board.bit": 10,
    }
    # A folder of a user's own that the cache was put into.
    other = ("mine.txt", "fpga/.2.x/board.v", "fpga/driver.py", "zoo/digits.off", "runs/mine", "verilator-notes")
    for name, size in {**kept, **dict.fromkeys(other, 5)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    json_file = tmp_path / "result.json"
    text, code = run("info", "zoo:digits", "--json", json_file)
    assert code == 0
    assert "(offramp clean removes it)" in " ".join(text.split())
    assert text.splitlines()[-1] == "next: offramp simulate zoo:digits"
    cache = json.loads(json_file.read_text())["cache"]
    assert (cache["place"], cache["entries"], cache["bytes"]) == (str(tmp_path), 4, 3211)
    with FileLock(tmp_path / build / "lock"):
        assert run("clean", "--json", json_file)[1] == 0
    found = json.loads(json_file.read_text())
    assert found["left"] == [str(tmp_path / build)]
    assert (found["entries"], found["bytes"]) == (3, 211)
    text, _ = run("clean", "--json", json_file)
    assert str(tmp_path) in text
    assert json.loads(json_file.read_text())["kinds"] == {"builds for verilator": {"entries": 1, "bytes": 3000}}
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*other, "result.json"}
    text, code = run("clean", "--json", json_file)
    assert (code, json.loads(json_file.read_text())["entries"]) == (0, 0)
    assert re.search(r"removed +nothing, for nothing was there", text)
    assert "entries" not in text


def test_info_of_a_network_of_the_zoo_compiled_for_a_config(tmp_path):
    assert run("info", "zoo:digits@tiny", "--json", tmp_path / "info.json")[1] == 0
    found = json.loads((tmp_path / "info.json").read_text())
    assert (found["kind"], found["config_digest"]) == ("program", preset("tiny").digest())
