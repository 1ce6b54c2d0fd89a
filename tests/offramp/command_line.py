"""Runs commands of the command line for their tests."""

import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from offramp import cli
from offramp.cli import app

COMMANDS = {
    "train": {"--data", "--data-dir", "--seed", "--out", "--json"},
    "compress": {"--data", "--keep", "--epochs", "--config", "--data-dir", "--seed", "--out", "--json"},
    "compile": {"--config", "--explain", "--seed", "--out", "--json"},
    "evaluate": {"--data", "--data-dir", "--seed", "--json"},
    "simulate": {
        *("--data", "--data-dir", "--attack", "--eps", "--images", "--curve", "--timeline"),
        *("--link", "--trace", "--seed", "--json"),
    },
    "verify": {
        *("--data", "--data-dir", "--images", "--simulator", "--netlist", "--waves", "--layer", "--image"),
        *("--seed", "--json"),
    },
    "import": {
        *("--out", "--output-tensor", "--weights", "--calibrate", "--shape", "--scale", "--mean", "--deviation"),
        *("--seed", "--json"),
    },
    "export": {"--out", "--weights", "--calibrate", "--shape", "--seed", "--json"},
    "exit add": {"--after", "--data", "--config", "--grid", "--exit-loss", "--out", "--seed", "--json"},
    "diff": {"--config", "--data", "--data-dir", "--seed", "--json"},
    "generate": {"--config", "--name", "--out", "--seed", "--json"},
    "build": {"--config", "--board", "--clock", "--baud", "--link", "--seed", "--seeds", "--out", "--json"},
    "info": {"--seed", "--json"},
    "zoo": {
        *("--add", "--method", "--measure", "--timing", "--config"),
        *("--images", "--attacked", "--data-dir", "--seed", "--json"),
    },
    "report": {"--out", "--plots", "--seed", "--json"},
    "board flash": {"--board", "--seed", "--json"},
    "board selftest": {
        "--port",
        "--simulated",
        "--images",
        "--noise",
        "--clock",
        "--baud",
        "--link",
        "--seed",
        "--json",
    },
    "board run": {
        *("--port", "--simulated", "--config", "--data", "--images", "--cycles", "--trace", "--clock", "--baud"),
        *("--link", "--seed", "--json"),
    },
    "board bench": {
        *("--port", "--simulated", "--config", "--data", "--images", "--clock", "--baud"),
        *("--link", "--seed", "--json"),
    },
    "disasm": {"--seed", "--json"},
    "clean": {"--seed", "--json"},
    "bench": {"--config", "--workload", "--images", "--seed", "--json", "--sweep", "--verilator"},
    "demo": {
        "--data",
        "--data-dir",
        "--config",
        "--board",
        "--clock",
        "--baud",
        "--images",
        "--model",
        "--seed",
        "--out",
        "--json",
    },
}


def registered() -> dict[str, Callable[..., None]]:
    """Every command's function, by its name, with its group's."""
    return {name: found.callback for name, found in cli.commands().items()}


def run(name, *arguments):
    """Output and exit code of a command; failures of the program are raised."""
    words = [*str(name).split(), *map(str, arguments)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    return result.output, result.exit_code


def refused(monkeypatch, capsys, name, *arguments):
    """What a user reads on standard error when a command refuses."""
    monkeypatch.setattr(sys, "argv", ["offramp", *name.split(), *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("offramp: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("offramp: ")
