"""Every command's tables show every figure of its result whole, on terminals of all widths and in pipes."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.text import Text
from typer.testing import CliRunner

from fpga.host import flash
from models.recipes import checkpoint
from models.zoo import ZooEntry
from offramp import cache, demo, stages
from offramp.cache import CacheFolder
from offramp.cli import app, commands
from offramp.files import paths
from offramp.intake import compression, extension
from offramp.measure import bench
from offramp.report import html
from offramp.report.pages.result_page import page_of, read_result
from offramp.report.plots.chart import Chart
from offramp.rtl import run as rtl
from tests.fpga.tools import quick_tools
from tests.offramp.command_line import COMMANDS
from tests.offramp.conftest import PLAYED_IMAGES, PLAYED_MODEL
from tests.offramp.intake.models import MODULE, tflite_file
from tests.offramp.results import VERIFY

#: The narrowest and the widest, and those between.
WIDTHS = [(60, 200), pytest.param((80, 100), marks=pytest.mark.slow)]
ROOT = Path(__file__).parents[2]
BENCH = json.loads((ROOT / "baselines" / "bench-85f.json").read_text())
DIFFERENT = VERIFY | {
    "values_equal": False,
    "cycles": 1_234_567,
    "differing": [3, 11],
    "mismatches": ["image 3: stem.conv in core 0: RTL [1, -2, 3], expected [1, -2, 4]"],
    "waveform": "/somewhere/waves.fst",
    "back_to_back": [3_456.5],
}

#: Parts of results that no table shows: where they are from, what was asked for, what plots and scripts are made of.
UNSHOWN = {
    "schema",
    "per_image",
    "timeline",
    "timeline_image",
    "jobs",
    "epochs",
    "versions",
    "seed",
    "conditions",
    "config",
    "recipe",
    "curve",
    "distribution",
    "exit_share",
}
#: The same, of single cases, by what their places look like.
_OF_NETWORKS = r"/(first|images|eps|accuracy_first|multiply_accumulates|flagged)$"
UNSHOWN_OF = {
    "bench": "/(products|memory|partition|first_cycles|simulated_cycles_per_second)",
    "demo": r"^/(?!inputs/\w+/(images|accuracy|cycles)|robustness|build/(fmax_mhz|logic|flip_flops|block_rams))",
    "verify a model from outside": "^/rtl/(layers|cycles)$",
    "board bench": "^/expected/(baud|core_|words_)",
    "info of the zoo": r"/(first|eps|accuracy_first)$",
    "zoo": _OF_NETWORKS,
    "report": rf"^/methods/\w+/(figures|accelerator)/|{_OF_NETWORKS}",
}


def _once(make):
    """A function that makes something the first time, and gives the same again."""
    made = []

    def once(*arguments, **options):
        if not made:
            made.append(make(*arguments, **options))
        return made[0]

    return once


@pytest.fixture(scope="module")
def slow():
    """What takes seconds, done once: an exit is added, a module is made sparse."""
    both = ((extension, "extended"), (compression, "sparse"))
    return {(module, name): _once(getattr(module, name)) for module, name in both}


@pytest.fixture
def ready(small, finished, slow, played, tmp_path, monkeypatch):
    """Arguments of each case; what takes minutes has a quick stand-in that reports as it would."""
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "cache"))
    rows = {row["workload"]: row for row in BENCH["rows"]}
    stand_ins = slow | {
        (stages, "trained"): lambda *_, **__: checkpoint.load(small.folder / paths.TRAINED),
        (stages, "compressed"): lambda *_, **__: small.network,
        (rtl, "verify"): lambda *_, **__: dict(DIFFERENT),
        (demo, "run"): lambda *_: deepcopy(finished),
        (stages, "verification_codes"): lambda *_, count, **__: np.zeros((count, 8, 8, 1), np.int8),
        (cache, "clean"): lambda: ([CacheFolder(path=tmp_path, kind="bitstreams", size=1_234_567_890)], []),
        (bench, "measure_workload"): lambda name, *_, **__: rows[name],
        (bench, "against_rtl"): lambda *_, **__: BENCH["rtl"],
        (bench, "against_peers"): lambda *_, **__: BENCH["peers"],
        (flash, "flash"): lambda *_: None,
        (Chart, "svg"): lambda _: "<svg></svg>",
    }
    for (module, name), stand_in in stand_ins.items():
        monkeypatch.setattr(module, name, stand_in)
    monkeypatch.setattr("offramp.ip_core.files.generate_axi", lambda config, name: 1234 * "wire x;\n")
    monkeypatch.chdir(tmp_path)  # a path of many digits may be folded in the middle of one
    Path("small").symlink_to(small.folder)
    trained, compressed, program = (f"small/{name}" for name in (paths.TRAINED, paths.COMPRESSED, paths.PROGRAM))
    out = ("--out", "out")
    tflite_file(tmp_path)
    Path("net.py").write_text(MODULE)
    Path("board.bit").write_bytes(b"\xff" * 8)
    board = ("--simulated", "--images", PLAYED_IMAGES)
    with quick_tools(tmp_path / "tools"):
        yield {
            "train": ("train", *out),
            "compress": ("compress", trained, *out),
            "compress a module": (
                *("compress", "net.py:net", "--data", "digits", "--epochs", 1, "--config", "tiny"),
                *out,
            ),
            "compile": ("compile", compressed, "--config", "tiny", "--explain", *out),
            "evaluate": ("evaluate", program, "--deadline", 4000, "--audit", 0.5),
            "simulate": ("simulate", program, "--images", 50, "--audit", 0.5, "--timeline", 3),
            "simulate an attack": ("simulate", program, "--attack", "fgsm", "--images", 50, "--curve", 2),
            "verify": ("verify", program, "--images", 4),
            "verify a model from outside": ("verify", "small.tflite", "--config", "tiny", "--images", 4),
            "import": ("import", compressed, "-o", tmp_path / "net.off"),
            "export": ("export", compressed, "-o", tmp_path / "net"),
            "exit add": (
                *("exit", "add", compressed, "--after", "stem.conv", "--data", "digits", "--config", "tiny"),
                *("--out", tmp_path / "more.off"),
            ),
            "generate": ("generate", "--config", "tiny", "--out", "core"),
            "build": ("build", "--config", "tiny", *out),
            "bench": ("bench", *(f"--workload={name}" for name in rows), "--verilator", 2, "--peers"),
            "info": ("info", program),
            "info of a compressed network": ("info", compressed),
            "info of a trained network": ("info", trained),
            "info of the zoo": ("info", "zoo:resnet8-sparse"),
            "disasm": ("disasm", program),
            "diff": ("diff", "tiny", "single,lanes=2"),
            "diff of networks": ("diff", "zoo:digits", "zoo:digits-dense"),
            "clean": ("clean",),
            "demo": ("demo", *out),
            "zoo": ("zoo",),
            "report": ("report", "methods", "--out", tmp_path / "report.html"),
            "board flash": ("board", "flash", "board.bit"),
            "board selftest": ("board", "selftest", *board),
            "board run": ("board", "run", PLAYED_MODEL, *board),
            "board bench": ("board", "bench", PLAYED_MODEL, *board),
        }


CASES = [
    *(
        "train",
        "compress",
        "compile",
        "evaluate",
        "simulate",
        "verify",
        "import",
        "export",
        "exit add",
        "generate",
        "build",
        "bench",
        "info",
        "disasm",
        "diff",
        "clean",
    ),
    *("info of a compressed network", "info of a trained network", "info of the zoo", "demo", "zoo", "report"),
    *("diff of networks", "compress a module", "simulate an attack", "verify a model from outside"),
    *("board flash", "board selftest", "board run", "board bench"),
]


def shown(arguments: tuple, width: int | None) -> str:
    """What a command prints on a terminal of a width, or into a pipe."""
    # A pipe is as wide as its lines, whatever the terminal beside it says.
    environment = {"COLUMNS": str(width or 40), "TERM": "xterm", "TTY_COMPATIBLE": str(int(width is not None))}
    result = CliRunner().invoke(app, list(map(str, arguments)), env=environment, catch_exceptions=False)
    assert result.exit_code in (0, 1)
    return Text.from_ansi(result.stdout).plain


def figures(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text))


def leaves(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that a result holds, with where it stands; numbers of lists are stars."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from leaves(value, f"{path}/{name}")
    elif isinstance(found, list):
        for value in found:
            yield from leaves(value, f"{path}/*")
    else:
        yield path, found


def renderings(value: float) -> set[str]:
    """How a figure may be written: a count, or a share in percent."""
    counts = {f"{value:,.{digits}f}" for digits in range(5)} | {f"{value:.3g}", f"{value:.4g}", f"{value:g}"}
    counts |= {f"{value}", f"{value / 1e6:,.1f}"}  # as a listing has it; bytes, in MB
    return {text.lstrip("-") for text in counts | {f"{100 * value:.{digits}f}" for digits in range(3)}}


def missing(result: dict, text: str, hidden: str) -> dict[str, float]:
    """The figures of a result that a text doesn't show, but for those whose place looks so."""
    there = figures(text).keys()
    return {
        path: value
        for path, value in leaves(result)
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and not UNSHOWN & set(path.split("/"))
        and not re.search(hidden, path)
        and not renderings(value) & there
    }


def documented(command: str) -> set[str]:
    """The keys that docs/json.md names for a command."""
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", (ROOT / "docs" / "json.md").read_text(), re.MULTILINE)
    return {key for key, commands in rows if commands == "all" or command in commands.split(", ")}


def test_every_command_has_a_case():
    assert commands().keys() <= set(CASES)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_whole_at_every_width(ready, case, widths):
    piped = shown(ready[case], None)
    for width in widths:
        text = shown(ready[case], width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        assert not figures(piped) - figures(text)


@pytest.mark.parametrize("case", CASES)
def test_the_next_step_is_named(ready, case, monkeypatch, tmp_path):
    """Last, on standard error; a command that found a difference says that instead."""
    monkeypatch.setattr(rtl, "verify", lambda *_, **__: dict(VERIFY))
    result = CliRunner().invoke(app, list(map(str, ready[case])), catch_exceptions=False)
    *_, last = result.stderr.splitlines()
    assert last.startswith("next: ")
    for command in re.findall(r"offramp (\w+)", last):
        assert command in {name.split()[0] for name in COMMANDS}


@pytest.mark.parametrize("case", CASES)
def test_every_figure_of_the_result_is_shown(ready, case, tmp_path):
    text = shown((*ready[case], "--json", tmp_path / "result.json"), None)
    result = json.loads((tmp_path / "result.json").read_text())
    index = {field.name for field in fields(ZooEntry)} if case == "info of the zoo" else set()
    assert set(result) <= documented(result["command"]) | index
    assert missing(result, text, UNSHOWN_OF.get(case, "^$")) == {}
    # The report of the result shows them as well, in its tables.
    page = page_of(read_result(tmp_path / "result.json"))
    tables = replace(page, sections=tuple(replace(section, charts=()) for section in page.sections))
    assert missing(result, html.render(tables), UNSHOWN_OF.get(case, "^$")) == {}
