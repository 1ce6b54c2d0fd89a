"""What the command line refuses: one sentence, before any work, and nothing is lost."""

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest

from hw.rules import MisfitError
from offramp import cli, stages
from offramp.files import paths
from offramp.terminal.console import results
from tests.offramp.command_line import COMMANDS, refused, registered

#: Options that name a place to write to, with what else the command needs.
OUTPUTS = [
    *((name, "--json") for name in COMMANDS),
    *((name, "--out") for name in ("train", "compress", "compile", "build", "demo")),
    ("simulate", "--trace"),
    ("board run", "--trace"),
    ("generate", "--out"),
    ("import", "--out"),
    ("export", "--out"),
    ("exit add", "--out"),
    ("report", "--out"),
    ("report", "--plots"),
]


def test_other_networks_are_refused(monkeypatch, capsys, tmp_path):
    assert "not 'nothing'" in refused(monkeypatch, capsys, "evaluate", "zoo:nothing")
    assert "not 'nothing'" in refused(monkeypatch, capsys, "demo", "--model", "zoo:nothing")
    assert "none.toml: cannot be read" in refused(monkeypatch, capsys, "train", "none.toml")
    assert "result.json: cannot be read" in refused(monkeypatch, capsys, "zoo", "--add", "nowhere")
    assert "not 'nothing'" in refused(monkeypatch, capsys, "zoo", "--measure", "nothing")
    assert refused(monkeypatch, capsys, "zoo", "--timing") == "--timing must be given with --measure"
    for name in (paths.RESULT, paths.COMPRESSED):
        (tmp_path / name).write_text("{}")
    both = refused(monkeypatch, capsys, "zoo", "--add", tmp_path, "--measure", "digits")
    assert both == f"--add {tmp_path} and --measure digits can't be given together"
    measured = ("zoo", "--measure", "digits", "--timing", "--attacked", 9)
    said = "--attacked must be given without --timing, which takes as many images as before"
    assert refused(monkeypatch, capsys, *measured) == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--waves", "run.vcd"), r"--waves must name a file that ends in \.fst, not 'run\.vcd'"),
        (("--waves", "missing.off/run.fst"), r"missing\.off/run\.(fst|gtkw): .*"),
        (("--layer", "conv1"), r"--layer needs --waves: it says what is recorded"),
        (("--netlist", "placed"), r"--netlist must be one of synthesized, routed, not 'placed'"),
        (("--netlist", "routed", "--waves", "run.fst"), r"--waves records the RTL: it must be left out with --netlist"),
        (("--image", 4, "--images", 4), r"--image must be in 0\.\.3, one of the 4 of --images, not 4"),
        (("--waves", "run.fst", "--layer", "nowhere"), r"--layer must be one of \S.*, not 'nowhere'"),
    ],
)
def test_what_cannot_be_recorded_is_refused(small, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("missing.off").write_text("a file, no folder")
    assert re.fullmatch(message, refused(monkeypatch, capsys, "verify", small.folder / paths.PROGRAM, *arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "missing.off"), r"missing\.off: cannot be read: No such file or directory"),
        (("evaluate", "missing.off"), r"missing\.off: cannot be read: No such file or directory"),
        (
            ("simulate", "zoo:dab", "--eps", 0.1),
            r"--eps needs an attack that changes images: --attack must not be clean",
        ),
        (
            ("simulate", "zoo:dab", "--curve", 3),
            r"--curve needs an attack that changes images: --attack must not be clean",
        ),
        (
            ("simulate", "zoo:digits", "--data", "digits", "--images", 4, "--timeline", 4),
            r"--timeline must be in 0\.\.3, one of the images, not 4",
        ),
        (("report", ""), r"a report must be of a result \(\.json\) or of methods, not of ''"),
        (("diff", "", ""), r"A must name a result, a config or a model, not ''"),
        (("diff", "single", ""), r"B must name a result, a config or a model, not ''"),
        (("train", "--data", "mnist"), r"data must be one of digits, fashion-mnist, cifar10, not 'mnist'"),
        (
            ("compile", "--config", "huge"),
            r"config must be one of tiny, single, small, small-85f, medium-85f, base-85f, not 'huge'",
        ),
        (
            ("generate", "--config", "huge"),
            r"config must be one of tiny, single, small, small-85f, medium-85f, base-85f, not 'huge'",
        ),
        (
            ("generate", "--name", "a-b"),
            r"name must be letters, digits and _, at most 64, .*, not 'a-b'",
        ),
        (("build", "--board", "ulx4"), r"board must be one of ulx3s-12f, .*, colorlight-i9, not 'ulx4'"),
        (("build", "--clock", "51"), r"ulx3s-25f: the clock must be .* not 51 MHz"),
        (
            ("demo", "--config", "huge"),
            r"config must be one of tiny, single, small, small-85f, medium-85f, base-85f, not 'huge'",
        ),
    ],
)
def test_mistakes_end_in_one_sentence(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(message, refused(monkeypatch, capsys, *arguments))


def test_mistakes_about_programs_and_attacks(small, monkeypatch, capsys, tmp_path):
    program = small.folder / paths.PROGRAM
    assert refused(monkeypatch, capsys, "simulate", program, "--attack", "square").startswith("attack must be one of")
    damaged = tmp_path / "damaged.off"
    damaged.write_bytes(program.read_bytes()[:-9])
    assert "truncated" in refused(monkeypatch, capsys, "evaluate", damaged)
    damaged.write_bytes(b"nothing of ours at all, but long enough to hold a whole header of a file")
    said = f"{damaged} is a text file, and a model is .tflite, .onnx, .pt2, module.py:factory, .off or zoo:NAME"
    assert refused(monkeypatch, capsys, "info", damaged) == said
    assert refused(monkeypatch, capsys, "verify", program, "--images", 9999).startswith("images must be at most")


def test_files_of_another_kind_are_named_with_what_to_do(small, monkeypatch, capsys):
    trained, compressed, program = (small.folder / name for name in (paths.TRAINED, paths.COMPRESSED, paths.PROGRAM))
    text = f"{compressed} is a compressed network: compile it first (offramp compile {compressed})"
    assert refused(monkeypatch, capsys, "disasm", compressed) == text
    compress = f"{trained} is a trained network: compress it first (offramp compress {trained})"
    assert refused(monkeypatch, capsys, "simulate", trained) == compress
    assert refused(monkeypatch, capsys, "compile", trained) == compress
    for option, value in (("--keep", "10%"), ("--epochs", 3), ("--config", "tiny")):
        said = f"{option} must go with module.py:factory: a trained network knows its recipe"
        assert refused(monkeypatch, capsys, "compress", trained, option, value) == said
    for command in ("compress", "compile"):
        text = f"{program} is a program: run it (offramp simulate {program})"
        assert refused(monkeypatch, capsys, command, program) == text


def test_options_of_other_commands_are_named_with_these(monkeypatch, capsys):
    text = "--board is no option of simulate, but of demo, build, board flash"
    assert refused(monkeypatch, capsys, "simulate", "--board", "ulx3s-85f") == text
    assert refused(monkeypatch, capsys, "simulate", "--board=ulx3s-85f") == text


def test_failures_of_the_program_keep_their_traceback(small, monkeypatch, capsys):
    monkeypatch.setattr(stages, "evaluated", lambda *_: {}["gone"])
    monkeypatch.setattr(sys, "argv", ["offramp", "evaluate", str(small.folder / paths.PROGRAM)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 3
    assert capsys.readouterr().err.endswith("KeyError: 'gone'\n")


def test_what_cannot_be_written_is_said_before_anything_is_shown(monkeypatch, capsys):
    """A full device shows itself only when it is written to."""
    for command in ("info", "disasm"):
        monkeypatch.setattr(sys, "argv", ["offramp", command, "zoo:digits@tiny", "--json", "/dev/full"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        assert capsys.readouterr() == ("", "offramp: /dev/full: No space left on device\n")


@pytest.mark.parametrize("words", ["--help", "--version", "disasm zoo:digits@tiny", "info zoo:digits --json -"])
def test_a_command_whose_output_nobody_reads_ends_without_a_word(words):
    """As after ``| head``, with the exit code that shells know of other tools."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "offramp", *words.split()]
    try:
        result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=300)
    finally:
        os.close(write)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["simulate", "--imags", "3"],
            r"No such option: --imags \(Possible options: --images.*\) \(see offramp simulate --help\)",
        ),
        (["simul"], r"No such command 'simul'\. Did you mean 'simulate'\? \(see offramp --help\)"),
        (["board", "tests"], r"No such command 'tests'\. .* \(see offramp board --help\)"),
        (["verify", "--images"], r"Option '--images' requires an argument"),
    ],
    ids=["option", "command", "group's command", "no value"],
)
def test_a_wrong_command_line_is_refused_in_one_sentence(capsys, monkeypatch, words, text):
    monkeypatch.setattr(sys, "argv", ["offramp", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert re.fullmatch(f"offramp: {text}\n", err)


@pytest.mark.parametrize("words", [[], ["board"]])
def test_a_command_line_of_no_command_shows_help(capsys, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["offramp", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (2, "")
    assert "Usage: " in out


def numbers():
    """Command, name, type and description of every option that takes a number."""
    for command, function in registered().items():
        for name, hint in get_type_hints(function, include_extras=True).items():
            kind, info = get_args(hint) if get_origin(hint) is Annotated else (hint, None)
            for number in {int, float} & {kind, *get_args(kind)}:
                yield command, f"--{name.replace('_', '-')}", number, info


def test_numbers_are_found():
    found = {option for _, option, _, _ in numbers()}
    assert found >= {"--seed", "--images", "--clock", "--eps", "--deadline", "--verilator", "--attacked"}


@pytest.mark.parametrize(
    ("name", "option", "kind", "info"), [pytest.param(*found, id="".join(found[:2])) for found in numbers()]
)
def test_numbers_out_of_range_are_refused_before_the_work(monkeypatch, capsys, name, option, kind, info):
    lowest, highest = map(kind, info.metavar.split(".."))
    for value in [lowest - 1, highest + 1, *((-math.inf, math.inf, math.nan) if kind is float else (10**30,))]:
        text = refused(monkeypatch, capsys, name, f"{option}={value}")
        assert text == f"{option} must be in {info.metavar}, not {value}"
    for value in ("x", "", "1e3" if kind is int else "1e", "0x10"):
        what = "a whole number" if kind is int else "a number"
        assert refused(monkeypatch, capsys, name, f"{option}={value}") == (
            f"{option} must be {what} in {info.metavar}, not {value!r}"
        )


def test_configs_of_the_zoo_are_named(monkeypatch, capsys):
    for command in ("info", "evaluate", "disasm"):
        text = refused(monkeypatch, capsys, command, "zoo:digits@nope")
        assert text.startswith("config must be one of tiny, single, small,")
        assert text.endswith("not 'nope'")


def test_standard_output_holds_one_file(monkeypatch, capsys):
    text = refused(monkeypatch, capsys, "report", "methods", "--json", "-", "-o", "-")
    assert text == "only one option may be -: standard output holds one file"
    results().print("what comes next in this process")
    assert capsys.readouterr().out == "what comes next in this process\n"


@pytest.mark.parametrize(
    ("name", "option"),
    [found for found in OUTPUTS if found[1] in ("--out", "--plots") and found != ("report", "--out")],
)
def test_networks_programs_and_folders_do_not_go_to_standard_output(tmp_path, monkeypatch, capsys, name, option):
    monkeypatch.chdir(tmp_path)
    said = refused(monkeypatch, capsys, name, option, "-")
    assert said == f"{option} must name a file or a folder, not -: the result goes to standard output with --json -"
    assert list(tmp_path.iterdir()) == []


def test_every_output_is_tested():
    written = {"--json", "--out", "--plots", "--trace"}
    assert {(name, option) for name in COMMANDS for option in COMMANDS[name] & written} == set(OUTPUTS)


def test_the_option_for_what_a_command_writes_has_the_same_names_everywhere():
    found = {
        tuple(option.opts)
        for command in cli.commands().values()
        for option in command.params
        if {"--out", "--output", "-o"} & set(option.opts)
    }
    assert found == {("--out", "-o")}


@pytest.mark.parametrize("name", ["train", "build", "demo", "generate"])
def test_a_folder_is_not_named_like_a_file_of_ours(tmp_path, monkeypatch, capsys, name):
    said = refused(monkeypatch, capsys, name, "-o", tmp_path / "net.off")
    assert said == f"--out must name a folder, not {tmp_path / 'net.off'}: the files in it have fixed names"
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_not_named_like_a_file_of_ours(tmp_path, monkeypatch, capsys):
    said = refused(monkeypatch, capsys, "export", "zoo:digits", "-o", tmp_path / "net.off")
    assert said == (
        f"--out must name a folder, or a file that ends in .onnx or .tflite, not {tmp_path / 'net.off'}: "
        "offramp import writes .off"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "option"), OUTPUTS)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys, name, option):
    (tmp_path / "file").write_text("kept")
    place = tmp_path / "file" / "result"
    monkeypatch.chdir(tmp_path)
    # The work would fail in another way: it needs files that aren't there, or is none of these names.
    for module in (
        "stages.dataset",
        "intake.model.read",
        "stages.bitstream",
        "report.tables.methods.collect",
        "files.inspect.describe",
    ):
        monkeypatch.setattr(f"offramp.{module}", lambda *_, **__: {}["work"])
    assert refused(monkeypatch, capsys, name, option, place) == f"{place}: Not a directory"
    assert (tmp_path / "file").read_text() == "kept"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("arguments", [("verify", "zoo:digits"), ("build",), ("demo",)])
def test_a_cache_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys, arguments):
    (tmp_path / "file").write_text("kept")
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("offramp.terminal.console.Terminal.stage", lambda *_: {}["work"])
    assert refused(monkeypatch, capsys, *arguments) == f"{tmp_path / 'file' / 'cache'}: Not a directory"


@pytest.mark.parametrize("arguments", [("--json", ""), ("--json=",)])
def test_an_empty_name_is_no_file(monkeypatch, capsys, arguments):
    assert (
        refused(monkeypatch, capsys, "info", "zoo:digits", *arguments) == "--json must name a file or a folder, not ''"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("info", "--help"),
        ("--help",),
        ("diff", "tiny", "single", "--json", "-"),
        ("diff", "tiny", "single"),
    ],
)
def test_standard_output_that_is_full_is_named(arguments):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "offramp", *arguments], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[-1] == "offramp: standard output: No space left on device"


def test_a_workload_that_does_not_fit_is_named_with_the_config(monkeypatch, capsys):
    def misfit(*_, **__):
        raise MisfitError("no room")

    monkeypatch.setattr("offramp.measure.bench.measure_workload", misfit)
    said = refused(monkeypatch, capsys, "bench", "--workload", "resnet8-dense", "--config", "single")
    assert said == "resnet8-dense doesn't fit single: no room; --workload chooses others"
