import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from hw.config import PRESETS, preset
from hw.network.exits import Conditions
from hw.program.program import load
from models.zoo import entries, entry
from offramp import cli, stages
from offramp.cli import app
from offramp.files import paths, program_files
from offramp.files.kinds import kind_of
from offramp.measure import recorded, zoo_figures
from offramp.report.pages.result_page import page_of, read_result
from offramp.report.plots.chart import Chart
from offramp.report.trace import trace_events
from offramp.rtl import run as rtl
from offramp.rtl.waves import Waves
from offramp.terminal.console import Terminal
from sim import worst_case
from tests.fpga.tools import quick_tools
from tests.offramp.command_line import COMMANDS, refused, registered, run
from tests.offramp.intake.models import MODULE, tflite_file
from tests.offramp.recipe import RECIPE
from tests.offramp.results import VERIFY


def test_every_command_is_tested():
    assert registered().keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_options_and_defaults(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text, code = run(name, "--help")
    assert code == 0
    assert re.search(rf"Usage: \S+ {name} \[OPTIONS\]", text)
    assert COMMANDS[name] <= set(re.findall(r"--[a-z-]+", text))
    assert re.search(r"--seed.*\[default: 0\]", text)
    assert not re.search("[\U0001f300-\U0001faff]", text)  # which rich makes of words between colons


def test_help_says_what_a_recipe_without_a_stage_makes():
    assert "A recipe without a table quantize makes" in " ".join(run("train", "--help")[0].split())


def test_the_stages_from_training_to_a_program(tmp_path, quick_recipe):
    out = tmp_path / "out"
    files = [tmp_path / f"{number}.json" for number in range(3)]
    assert run("train", "--seed", 3, "--out", out, "--json", files[0])[1] == 0
    assert run("compress", out / paths.TRAINED, "--seed", 3, "--out", out, "--json", files[1])[1] == 0
    assert run("compile", out / paths.COMPRESSED, "--config", "tiny", "--out", out, "--json", files[2])[1] == 0
    trained, compressed, compiled = (json.loads(file.read_text()) for file in files)
    assert trained["seed"] == compressed["seed"] == 3
    assert trained["command"] == "train"
    assert trained["metrics"]["float_final"] == compressed["metrics"]["float_final"] > 0.5
    assert len(compressed["curve"]["thresholds"]) > 1
    lengths = [stage.schedule.epochs for stage in quick_recipe.train]
    assert [len(history) for history in trained["epochs"].values()] == lengths
    assert [len(history) for history in compressed["epochs"].values()] == [
        stage.schedule.epochs for stage in (*quick_recipe.compress, quick_recipe.quantize, quick_recipe.dense)
    ]
    assert compiled["config_digest"] == preset("tiny").digest()
    assert 0 < compiled["memories"]["lists"]["used"] <= compiled["memories"]["lists"]["available"]


def test_a_compilation_is_explained(small, tmp_path):
    file = tmp_path / "c.json"
    arguments = (small.folder / paths.COMPRESSED, "--config", "tiny", "--out", tmp_path, "--json", file)
    text, code = run("compile", *arguments, "--explain")
    assert code == 0
    found = json.loads(file.read_text())
    said = found["explanation"]
    assert (said["refusal"], said["attempts"][-1]["refusal"]) == (None, None)
    lists = next(use for use in said["memories"] if use["memory"] == "lists")
    assert lists["used"] == found["memories"]["lists"]["used"]
    assert all(
        name in text for name in ("bands x groups", "runner-up", "used words", "taken", said["layers"][0]["layer"])
    )
    assert (tmp_path / paths.PROGRAM).read_bytes() == (small.folder / paths.PROGRAM).read_bytes()
    text, code = run("compile", *arguments)
    assert "runner-up" not in text
    assert "explanation" not in json.loads(file.read_text())


def test_a_refusal_is_explained(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("offramp.commands.network.preset", lambda name: preset(name).replace(list_words=64))
    file = tmp_path / "c.json"
    arguments = (
        "compile",
        small.folder / paths.COMPRESSED,
        "--config",
        "tiny",
        "--out",
        tmp_path,
        "--json",
        file,
    )
    monkeypatch.setattr(sys, "argv", ["offramp", *map(str, arguments), "--explain"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    out, err = capsys.readouterr()
    said = json.loads(file.read_text())["explanation"]
    assert f"offramp: {said['refusal']}; {said['advice']}\n" in err
    assert said["advice"] == "it fits --config single"
    assert said["refusal"].startswith("list memory holds 64 words a PE; ")
    assert all(name in out for name in ("outcome", "used words", "at least"))
    # No stage is shown as done; the error says why, and so the tables don't.
    assert "✓" not in out + err
    assert "refused" not in out
    assert "instead" not in out
    assert not (tmp_path / paths.PROGRAM).exists()
    # Without being asked for it, nothing is explained or written.
    file.unlink()
    assert refused(monkeypatch, capsys, *arguments) == f"{said['refusal']}; {said['advice']}"
    assert not file.exists()


def test_a_recipe_file_from_training_to_its_result(tmp_path):
    path, out = tmp_path / "small.toml", tmp_path / "out"
    path.write_text(RECIPE)
    _, code = run("train", path, "--seed", 2, "--out", out)
    assert code == 0
    result = json.loads((out / paths.RESULT).read_text())
    assert (result["seed"], result["data"], result["recipe"]["name"]) == (2, "digits", "small")
    assert {"git", "versions", "python", "recipe_digest"} <= result.keys()
    assert run("compile", out / paths.COMPRESSED, "--config", "tiny", "--out", out)[1] == 0


def test_the_zoo_lists_every_network(tmp_path):
    text, code = run("zoo", "--json", tmp_path / "z.json")
    assert code == 0
    found = json.loads((tmp_path / "z.json").read_text())["networks"]
    for network in found:
        assert network["name"] in text
        assert {
            *("name", "method", "dataset", "accuracy_float", "accuracy_int8", "accuracy_pgd20", "nonzero_weights"),
            *("products_share", "mean_cycles", "exit_share", "accuracy_worst", "activation_density", "share_of_limit"),
        } <= network.keys()


def test_every_file_of_the_zoo_is_measured_once(monkeypatch):
    asked = []
    monkeypatch.setattr(stages, "dataset", lambda name, *_: name)
    monkeypatch.setattr(zoo_figures, "measure", lambda *found, **options: asked.append((*found, options["sample"])))
    assert run("zoo", "--measure", "digits", "--images", 30, "--attacked", 20)[1] == 0
    assert asked == [("digits", "digits", zoo_figures.Sample(images=30, attacked=20))]
    asked.clear()
    assert run("zoo", "--measure", "all", "--timing")[1] == 0
    assert sorted(entry(name).file for name, _, _ in asked) == sorted({found.file for found in entries()})
    assert {(source, sample) for _, source, sample in asked} == {(found.dataset, None) for found in entries()}


def test_the_report_of_the_methods(tmp_path, monkeypatch):
    monkeypatch.setattr(Chart, "svg", lambda chart: f"<svg>{chart.name}</svg>")
    text, code = run("report", "methods", "-o", tmp_path / "r.html", "--json", tmp_path / "m.json")
    assert code == 0
    assert "holds" in text
    found = json.loads((tmp_path / "m.json").read_text())
    assert {"networks", "methods", "figures"} <= found.keys()
    for name in found["figures"]:
        assert f"<svg>{name}</svg>" in (tmp_path / "r.html").read_text()
    assert run("report", tmp_path / "m.json", "-o", tmp_path / "again.html")[1] == 0


def test_the_report_of_a_result_with_its_figures_as_files(tmp_path):
    run("diff", "tiny", "single", "--json", tmp_path / "d.json")
    text, code = run("report", tmp_path / "d.json", "-o", tmp_path / "r.html", "--plots", tmp_path / "plots")
    assert code == 0
    assert "activation words" in text
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {f"changes.{end}" for end in ("svg", "pdf", "csv")}
    assert (tmp_path / "plots" / "changes.svg").read_text() in (tmp_path / "r.html").read_text()
    assert (tmp_path / "plots" / "changes.pdf").read_bytes().startswith(b"%PDF")


def test_a_result_that_was_changed_is_no_report_and_stays_as_it_is(tmp_path, monkeypatch, capsys):
    file = tmp_path / "d.json"
    run("diff", "tiny", "single", "--json", file)
    found = json.loads(file.read_text())
    found["changes"][2]["what"] = 0
    file.write_text(json.dumps(found))
    said = refused(monkeypatch, capsys, "report", file, "-o", tmp_path / "r.html", "--plots", tmp_path / "plots")
    assert said.startswith(f"{file} must hold what diff writes, unchanged: ")
    os.mkfifo(tmp_path / "pipe")
    said = refused(monkeypatch, capsys, "report", tmp_path / "pipe", "-o", tmp_path / "r.html")
    assert said.endswith("must be the result of a command (--json FILE), not a pipe or a device")
    assert {path.name for path in tmp_path.iterdir()} == {"d.json", "pipe"}


def test_evaluate_simulate_and_the_files_agree(small, tmp_path):
    program, json_file = small.folder / paths.PROGRAM, tmp_path / "result.json"
    text, code = run("evaluate", program, "--json", json_file)
    evaluated = json.loads(json_file.read_text())
    assert code == 0
    assert f"{100 * evaluated['accuracy']:.2f} %" in text
    text, code = run("simulate", program, "--images", 10_000, "--json", json_file)
    simulated = json.loads(json_file.read_text())
    assert code == 0
    assert simulated["accuracy"] == evaluated["accuracy"]
    assert simulated["exit_share"] == evaluated["exit_share"]
    assert simulated["images"] == len(small.source.test)
    assert "stem.conv" in text
    options = ("--attack", "slowdown", "--images", 30, "--clock", "51.37")  # no PLL makes that clock exactly
    text, code = run("simulate", program, *options, "--json", json_file)
    assert code == 0
    assert "on a board with a clock of 51.37 MHz" in " ".join(text.split())
    assert "PLL" not in text
    assert json.loads(json_file.read_text())["eps"] == 0.1


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


def test_disasm_lists_every_command(small, tmp_path):
    text, code = run("disasm", small.folder / paths.PROGRAM, "--json", tmp_path / "lines.json")
    assert code == 0
    assert text.count(" LAYER ") == len(small.program.commands)
    *lines, last = text.splitlines()
    found = json.loads((tmp_path / "lines.json").read_text())
    assert (found["lines"], last) == (lines, f"next: offramp simulate {small.folder / paths.PROGRAM}")
    assert sum(each["op"] == "LAYER" for each in found["instructions"]) == len(small.program.commands)


def test_generate_writes_the_files_of_a_core(tmp_path):
    text, code = run("generate", "--config", "tiny", "--name", "mine", "--output", tmp_path, "--json", tmp_path / "r")
    assert code == 0
    assert preset("tiny").digest()[:16] in text
    made = {path.name for path in tmp_path.iterdir()} - {"r"}
    result = json.loads((tmp_path / "r").read_text())
    assert made == set(result["files"]) >= {"mine.v", "mine.json"}
    assert result["lines"] == (tmp_path / "mine.v").read_text().count("\n")


def test_build_names_files_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "build"))
    # Both rates are 25 cycles a bit: one design.
    for found, baud in ((False, 1_000_000), (True, 1_010_000)):
        arguments = ("build", "--config", "tiny", "--clock", 25, "--baud", baud)
        with quick_tools(tmp_path / f"tools-{found}"):
            text, code = run(*arguments, "--out", tmp_path / "out", "--json", "built.json")
        assert code == 0
        assert f"{baud:,} baud" in text
        result = json.loads(Path("built.json").read_text())
        built, folder = result["build"], f"build/fpga/{result['build']['digest'][:16]}"
        assert (built["bitstream"], built["log"]) == (f"{folder}/board.bit", f"{folder}/build.log")
        assert (result["file"], built["cached"], built["baud"]) == ("out/ulx3s-25f.bit", found, baud)
        assert result["config_digest"] == preset("tiny").digest()


def test_build_says_what_is_to_know_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "build"))
    with quick_tools(tmp_path / "tools"):
        text, code = run("build", tflite_file(tmp_path), "--config", "tiny", "--json", "built.json")
    assert code == 0
    (note,) = json.loads(Path("built.json").read_text())["notes"]
    assert note in " ".join(text.split())


def test_build_without_a_config_takes_none_that_was_recorded_of_other_sizes(tmp_path, monkeypatch, capsys):
    said = []
    monkeypatch.setattr(Terminal, "say", lambda _, text: said.append(text))
    monkeypatch.setattr(recorded, "BASELINES", tmp_path)
    sizes = {"config": "small", "config_digest": preset("small").replace(list_words=512).digest()}
    record = sizes | {"build": {"device": "25k", "timing_met": True}}
    (tmp_path / "build-small.json").write_text(json.dumps(record))
    assert refused(monkeypatch, capsys, "build", "--out", tmp_path) == (
        "--config must name one: none is recorded as routed for ulx3s-25f or a smaller device"
    )
    assert [text.partition(":")[0] for text in said] == ["the recorded build of small is left out"]


@pytest.mark.parametrize("equal", [(True, True), (False, True), (True, False)])
def test_verify_ends_with_1_when_anything_differs(small, tmp_path, monkeypatch, equal):
    asked = {}
    values, cycles = equal

    def verify(work, **options):
        ((_, codes),) = work
        asked.update(options, images=len(codes), type=codes.dtype)
        return VERIFY | {"values_equal": values, "cycles_equal": cycles, "images": len(codes)}

    monkeypatch.setattr(rtl, "verify", verify)
    json_file = tmp_path / "v.json"
    arguments = ("verify", small.folder / paths.PROGRAM, "--images", 4, "--seed", 5, "--json", json_file)
    monkeypatch.setenv("SIM", "icarus")
    assert run(*arguments)[1] == (0 if all(equal) else 1)
    progress = asked.pop("progress")
    assert callable(progress)
    assert asked.pop("conditions") == Conditions()
    assert asked == {"images": 4, "type": np.int8, "simulator": "icarus", "waves": None, "seed": 5, "first": 0}
    result = json.loads(json_file.read_text())
    assert (result["values_equal"], result["cycles_equal"]) == (values, cycles)


def test_verify_records_one_layer_of_one_image(small, tmp_path, monkeypatch):
    asked = {}

    def verify(work, **options):
        asked.update(options, work=work)
        return VERIFY | {"values_equal": True, "cycles_equal": True}

    monkeypatch.setattr(rtl, "verify", verify)
    program = small.folder / paths.PROGRAM
    name = program_files.program(program).commands[1].name
    recorded = ("--waves", tmp_path / "run.fst", "--layer", name)
    assert run("verify", program, "--images", 4, "--image", 2, *recorded)[1] == 0
    assert asked["waves"] == Waves(path=tmp_path / "run.fst", layers=frozenset({(0, 1)}))
    ((_, codes),), first = asked["work"], asked["first"]
    assert (codes.shape[0], first) == (1, 2)
    assert run("verify", program, "--images", 4)[1] == 0
    np.testing.assert_array_equal(asked["work"][0][1][2:3], codes)
    assert list(tmp_path.iterdir()) == []


def test_help_is_in_groups_and_names_the_sizes_of_presets(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text, _ = run("--help")
    assert all(group in text for group in cli._PANELS)
    text, _ = run("compile", "--help")
    for name, config in PRESETS.items():
        assert f"{name} ({config.cores}x{config.pes} PEs)" in " ".join(text.replace("│", " ").split())


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
    assert run("info", "zoo:digits", "--json", json_file)[1] == 0
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


def test_json_on_standard_output_is_all_that_stands_there():
    result = CliRunner().invoke(app, ["info", "zoo/digits.off", "--json", "-"], catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["kind"] == "compressed"
    assert "compressed network" in result.stderr
    result = CliRunner().invoke(app, ["info", "zoo/digits.off"], catch_exceptions=False)
    assert "compressed network" in result.stdout


def test_a_file_on_standard_output_is_all_that_stands_there():
    result = CliRunner().invoke(app, ["report", "methods", "-o", "-"], catch_exceptions=False)
    assert re.fullmatch(r"<!doctype html>.*</html>\s*", result.stdout, flags=re.DOTALL)
    assert "figures" in result.stderr


def test_a_model_from_outside_goes_through_every_command(tmp_path, monkeypatch):
    """Read each time as it is; and imported once, the file is the same."""
    model, results = tflite_file(tmp_path), {}
    monkeypatch.setattr(rtl, "verify", lambda *_, **__: dict(VERIFY))
    monkeypatch.setattr(stages, "bitstream", lambda config, *_, **__: pytest.fail(config.digest()))
    monkeypatch.chdir(tmp_path)
    commands = {
        "info": (),
        "evaluate": ("--config", "tiny"),
        "simulate": ("--config", "tiny", "--images", 9),
        "verify": ("--config", "tiny", "--images", 9, "--rtl", 1),
        "bench": ("--config", "tiny", "--images", 9),
        "compile": ("--config", "tiny"),
        "import": ("-o", "net.off"),
        "export": ("-o", "net"),
    }
    for name, options in commands.items():
        text, code = run(name, model, *options, "--json", f"{name}.json")
        assert code == 0
        assert "classes of output tensor" in " ".join(text.split())
        results[name] = json.loads((tmp_path / f"{name}.json").read_text())
        assert page_of(read_result(tmp_path / f"{name}.json")).title == f"offramp {name}"
    assert {tuple(result["notes"]) for result in results.values()} == {tuple(results["import"]["notes"])}
    assert results["bench"]["images_of"] == "9 random images, seed 0"
    assert results["info"]["network"] == results["import"]["network"]
    assert results["verify"]["reference_equal"]
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["arrays.npz", "network.json"]
    assert results["evaluate"]["images_of"] == "16 random images, seed 0"
    assert results["evaluate"]["accuracy"] is None
    assert results["bench"]["rows"][0]["cycles"] == pytest.approx(results["simulate"]["cycles"]["mean"], rel=0.05)
    with pytest.raises(pytest.fail.Exception, match=preset("small").digest()):
        run("build", model)
    assert load("out/program.off").network.name == "small"
    for name, options, key in (("info", (), "network"), ("simulate", ("--config", "tiny", "--images", 9), "cycles")):
        assert run(name, "net.off", *options, "--json", "again.json")[1] == 0
        assert json.loads((tmp_path / "again.json").read_text())[key] == results[name][key]


def test_a_model_that_does_not_fit_is_measured_nowhere_and_told_where_it_fits(monkeypatch, capsys):
    small = ("--config", "tiny,activation_words=32", "--images", 2)
    message = refused(monkeypatch, capsys, "bench", "zoo:digits-dense", *small)
    assert re.fullmatch(r"tiny,activation_words=32: .*activation.*; it fits --config single", message)


def test_an_exit_is_added_and_what_is_to_know_of_the_model_is_said(tmp_path):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=random.random((80, 4, 4, 1)), y=random.integers(0, 3, 80))
    options = ("--after", "conv2d_0", "--data", tmp_path / "x.npz", "--config", "tiny", "-o", tmp_path / "more.off")
    text, code = run("exit add", tflite_file(tmp_path), *options)
    assert code == 0
    assert "classes of output tensor" in " ".join(text.split())
    assert kind_of(tmp_path / "more.off") == "network"


def test_a_model_is_exported_as_a_file_of_others_and_taken_again(tmp_path, monkeypatch, capsys):
    model = tflite_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("export", model, "-o", "again.tflite", "--json", "export.json")[1] == 0
    found = json.loads((tmp_path / "export.json").read_text())
    assert found["file"] == "again.tflite"
    assert "folder" not in found
    assert page_of(read_result(tmp_path / "export.json")).title == "offramp export"
    described = []
    for file in (model, "again.tflite"):
        assert run("info", file, "--json", "info.json")[1] == 0
        layers = json.loads((tmp_path / "info.json").read_text())["network"]["layers"]
        described.append([{key: each[key] for key in each if key != "name"} for each in layers])
    assert described[0] == described[1]
    message = refused(monkeypatch, capsys, "export", model, "-o", "again.onnx")
    assert re.fullmatch(r"small can't be a file of ONNX: .*: sums are rounded twice, .*; nearest: \.tflite", message)
    assert not (tmp_path / "again.onnx").exists()
    (tmp_path / "folder.onnx").mkdir()
    assert "folder.onnx: Is a directory" in refused(monkeypatch, capsys, "export", model, "-o", "folder.onnx")


def test_a_module_of_a_user_is_compressed(tmp_path, monkeypatch, capsys):
    (tmp_path / "net.py").write_text(MODULE)
    module = f"{tmp_path / 'net.py'}:net"
    options = ("--data", "digits", "--keep", "30%", "--epochs", 1, "--config", "tiny", "--out", tmp_path)
    assert run("compress", module, *options, "--json", tmp_path / "c.json")[1] == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert (found["keep"], found["model"]) == (0.3, module)
    assert len(found["epochs"]["fine-tune"]) == 1
    (history,) = page_of(read_result(tmp_path / "c.json")).sections[0].charts
    assert history.data["stage"][0] == "fine-tune"
    assert found["after"]["weights"] <= 0.31 * found["before"]["weights"]
    assert kind_of(tmp_path / "network.off") == "network"
    assert (
        refused(monkeypatch, capsys, "compress", module)
        == "--data must name labelled images that a module is fine-tuned on"
    )
    for keep in ("0", "120%", "much"):
        text = f"--keep must be above 0 and at most 1, or in percent, not {keep!r}"
        assert refused(monkeypatch, capsys, "compress", module, "--data", "digits", "--keep", keep) == text


def test_a_trace_is_of_the_image_of_the_timeline(small, tmp_path):
    program = small.folder / paths.PROGRAM
    command = ("simulate", program, "--images", 4, "--json", tmp_path / "r.json", "--trace", tmp_path / "t.json")
    for chosen, options in ((0, ()), (2, ("--timeline", 2))):
        _, code = run(*command, *options)
        assert code == 0
        result, trace = (json.loads((tmp_path / name).read_text()) for name in ("r.json", "t.json"))
        assert result["timeline_image"] == chosen
        cycles = result["per_image"]["cycles"][chosen]
        assert trace == trace_events(result["timeline"], cycles, 50.0, result["board"])
