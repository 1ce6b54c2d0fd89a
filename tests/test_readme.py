"""What README and docs tell people to type exists, and their figures are the committed ones."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.main import get_command

from fpga.boards import board
from fpga.links import link_of
from fpga.throughput import throughput
from models.zoo import entries, entry
from offramp.cli import app
from offramp.report.documents.device_families import families_markdown
from offramp.report.documents.documented import documented_charts
from offramp.report.documents.headline import headline_markdown
from offramp.report.documents.layouts import program_page
from offramp.report.documents.presets import presets_markdown
from offramp.report.documents.published import comparison_markdown
from offramp.report.tables.bench_tables import bench_markdown, workloads_markdown
from offramp.report.tables.zoo_tables import networks_markdown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
TEXT = "\n".join([README, (ROOT / "CONTRIBUTING.md").read_text(), *PAGES.values()])
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
COMMANDS = [line.split("#")[0].split() for line in LINES if line.startswith("offramp ")]
COMMANDS += [
    re.sub(r"^(\w+=\w+ )+", "", found).split() for found in re.findall(r"`((?:\w+=\w+ )?offramp [^`]*)`", TEXT)
]


def test_every_command_of_the_program_is_shown():
    assert {command[1] for command in COMMANDS} == set(get_command(app).commands)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_offramp_commands_take_what_the_readme_gives_them(command, monkeypatch, tmp_path):
    """Models aren't there, and some names stand for any."""
    monkeypatch.chdir(tmp_path)
    Path("net.safetensors").touch()
    Path("recipes").symlink_to(ROOT / "recipes")
    monkeypatch.setattr("offramp.files.kinds.kind_of", lambda path: "program")
    checks = ("check_weights", "check_model", "check_readable")
    others = ("intake.samples.check", "terminal.options.board_of")
    for check in (*(f"commands.model_options.{name}" for name in checks), *others):
        monkeypatch.setattr(f"offramp.{check}", lambda name: None)
    monkeypatch.setattr("offramp.terminal.options.preset", lambda name: name)
    subcommand = get_command(app).commands[command[1]]
    with subcommand.make_context(command[1], command[2:]) as context:
        assert context.command is subcommand


def test_make_targets_exist():
    targets = set(re.findall(r"[`\n]make ([a-z][a-z0-9-]*)", TEXT))
    assert {"demo", "test"} <= targets
    for target in targets:
        result = subprocess.run(
            ["make", "-C", ROOT, "--dry-run", target], capture_output=True, text=True, check=False, timeout=30
        )
        assert result.returncode == 0, result.stderr


def test_files_and_folders_exist():
    for name in re.findall(r"`((?:hw|sim|models|fpga|offramp|tests|tools)/[\w./]*)`", TEXT):
        assert (ROOT / name).exists(), name
    for name in ("LICENSE", "CHANGELOG.md", "requirements.lock"):
        assert f"`{name}`" in TEXT
        assert (ROOT / name).is_file()


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def prose(text: str) -> list[str]:
    """The lines of a page that are neither generated, nor code, a table or a picture."""
    for fenced in (r"<!-- figures: .*?<!-- end of figures", r"```.*?```"):
        text = re.sub(rf"(?s){fenced}", "", text)
    return [line for line in text.splitlines() if not line.startswith(("|", "![", "    "))]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{name}" for name in PAGES)])
def test_lines_are_no_wider_than_those_of_code(page):
    assert [line for line in prose((ROOT / page).read_text()) if len(line) > 120] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{name}" for name in PAGES)])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def figures(page: str, name: str) -> str:
    begin, end = f"<!-- figures: {name} -->", f"<!-- end of figures: {name} -->"
    return page[page.index(begin) + len(begin) : page.index(end)].strip()


def test_figures_of_the_demo_are_there():
    found = figures(PAGES["results.md"], "demo")
    assert "| clean |" in found
    assert "values equal, cycles equal" in found


def test_generated_parts_are_those_of_now():
    assert figures(README, "headline") == headline_markdown()
    assert figures(PAGES["results.md"], "comparison") == comparison_markdown()
    assert figures(PAGES["boards.md"], "families") == families_markdown()
    assert figures(PAGES["accelerator.md"], "presets") == presets_markdown()
    assert PAGES["program.md"] == program_page()


def test_figures_of_the_bench_are_the_recorded_ones():
    for name, table in {"bench-85f": bench_markdown, "bench-85f-loader": workloads_markdown}.items():
        recorded = json.loads((ROOT / "baselines" / f"{name}.json").read_text())
        assert figures(PAGES["results.md"], name) == table(recorded).strip()


@pytest.mark.parametrize(
    ("link", "digits", "ways"), [("usb-high", 3, ""), ("usb-full", 4, ""), ("serial", 1, " each way")]
)
def test_what_links_carry_is_what_reports_reckon_with(link, digits, ways):
    rate = 4 * link_of(link, 3_000_000).words_per_second / 1e6
    images = throughput((32, 32, 3), 1, clock_mhz=50.0, baud=3_000_000, link=link).link_images_per_second
    assert f"| {rate:.{digits}g} MB/s{ways} | {images:,.0f} |" in PAGES["boards.md"]


def test_the_clock_of_usb_on_a_ulx3s_is_the_one_its_pll_makes():
    made = board("ulx3s-25f").usb_pll().output_mhz(25.0)
    off = f"{made:.2f} MHz in place of 48, {100 * abs(made / 48 - 1):.2f} % off"
    assert off in " ".join(PAGES["boards.md"].split())


def test_where_a_result_is_missing_no_figure_is_written(tmp_path):
    pages = ["README.md", *(f"docs/{name}" for name in PAGES)]
    for name in ("tools/figures", *pages):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        without_tables = re.sub(r"(?m)^\|.*\n", "", (ROOT / name).read_text())
        (tmp_path / name).write_text(without_tables)
    before = {name: (tmp_path / name).read_text() for name in pages}
    command = [sys.executable, str(tmp_path / "tools" / "figures")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "bench-85f.json" in ended.stderr
    assert {name: (tmp_path / name).read_text() for name in pages} == before


def test_figures_of_the_zoo_are_the_index():
    every = networks_markdown([asdict(found) for found in entries()])
    assert figures(PAGES["results.md"], "zoo") == every.strip()
    assert f"{entry('resnet8-sparse').products_share_full:.2%}".replace("%", " %") in PAGES["results.md"]


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_plots_are_those_of_the_recorded_results(quick):
    """All are there and small, and those that are quick to draw are the same; every page's picture is one of them."""
    charts = {chart.name: chart for chart in documented_charts()}
    files = {path.stem: path for path in (ROOT / "docs" / "plots").iterdir()}
    assert files.keys() == charts.keys()
    assert all(path.suffix == ".svg" and path.stat().st_size < 60_000 for path in files.values())
    for name in ("density", "pareto-digits") if quick else charts:
        assert files[name].read_text() == charts[name].svg(), "tools/figures draws them anew"
    shown = re.findall(r"!\[[^]]*\]\(([^)]*)\)", TEXT)
    assert shown
    assert {f"plots/{path.name}" for path in files.values()} >= set(shown)
