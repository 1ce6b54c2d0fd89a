"""The demo's command: what it asks for, writes and names, and how it ends; the stages themselves are played."""

import json

import pytest

from offramp import demo
from offramp.report.pages.section import Page
from tests.offramp.command_line import run


@pytest.fixture
def played(finished, monkeypatch):
    """The settings that the demo was asked for; its result may be changed."""
    asked, result = [], json.loads(json.dumps(finished, default=str))

    def play(settings, terminal):
        asked.append(settings)
        return result

    monkeypatch.setattr(demo, "run", play)
    return asked, result


def test_the_result_and_the_page_are_written_and_named(played, tmp_path):
    asked, result = played
    out = tmp_path / "out"
    output, code = run("demo", "--out", out, "--seed", 3, "--config", "tiny", "--clock", 25, "--no-bitstream")
    assert code == 0
    (settings,) = asked
    assert (settings.seed, settings.config, settings.clock_mhz, settings.bitstream) == (3, "tiny", 25.0, False)
    assert (settings.out, settings.model, settings.data) == (out, None, "digits")
    assert json.loads((out / "demo.json").read_text())["verify"] == result["verify"]
    assert (out / "report.html").read_text().lower().startswith("<!doctype html")
    assert "next: " in output.splitlines()[-1]
    assert "offramp build --config tiny --board ulx3s-25f" in output.splitlines()[-1]


@pytest.fixture
def _blank(monkeypatch):
    """The page is left empty."""
    monkeypatch.setattr(
        "offramp.report.pages.demo_page.demo_page", lambda result: Page(title="", subtitle="", sections=())
    )


@pytest.mark.usefixtures("_blank")
def test_a_file_of_its_own_for_the_result(played, tmp_path):
    file = tmp_path / "own.json"
    output, code = run("demo", "--out", tmp_path / "out", "--json", file)
    assert code == 0
    assert json.loads(file.read_text())["command"] == "demo"
    assert not (tmp_path / "out" / "demo.json").exists()
    assert f"bitstream {tmp_path / 'out' / 'ulx3s-25f'}.bit" in output.replace("\n", "")


@pytest.mark.usefixtures("_blank")
@pytest.mark.parametrize(
    ("part", "field"), [("verify", "values_equal"), ("verify", "cycles_equal"), ("build", "timing_met")]
)
def test_what_is_not_as_it_should_be_ends_with_1(played, tmp_path, part, field):
    """The result is there all the same; nothing is next."""
    _, result = played
    result[part][field] = False
    output, code = run("demo", "--out", tmp_path)
    assert code == 1
    assert json.loads((tmp_path / "demo.json").read_text())[part][field] is False
    assert "next: " not in output
