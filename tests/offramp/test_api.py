"""The functions of ``import offramp``, and what docs/python.md shows of them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import offramp
from hw.network.network import NEVER, Network
from hw.network.network_file import NetworkFile, save
from hw.program.program import Program
from models.compression.quantize import encode
from models.integer import golden
from tests.fpga.tools import quick_tools

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python in a folder, with this tree behind it."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_page_shows_every_function_in_scripts_of_at_most_ten_lines():
    for name in offramp.__all__:
        assert f"`offramp.{name}`" in PAGE or f"`{name}`" in PAGE
    assert len(SCRIPTS) == 5
    assert all(len(script.splitlines()) <= 10 for script in SCRIPTS)


def test_the_scripts_of_the_page_run(tmp_path, monkeypatch, capsys):
    """All but the last one, which builds a simulation: its calls are other tests'."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for script in SCRIPTS[:-1]:
        exec(compile(script, "docs/python.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in lines[-2:]] == ["single", "single,pes=4"]
    assert (tmp_path / "plots" / "layers.csv").read_text().splitlines()[1] in lines


@pytest.mark.slow
def test_the_script_with_the_rtl_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for script in (SCRIPTS[0], SCRIPTS[-1]):
        exec(compile(script, "docs/python.md", "exec"), names)
    assert capsys.readouterr().out.splitlines()[-1] == "True True"


class TwoExits(nn.Module):
    """A branch behind the first convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.branch, self.last = nn.Linear(512, 4), nn.Linear(512, 4)

    def forward(self, x):
        x = self.first(x).relu()
        return self.branch(x.flatten(1)), self.last(self.second(x).relu().flatten(1))


def test_a_module_becomes_a_network_whose_integers_are_its_own():
    rng, module = np.random.default_rng(0), TwoExits().eval()
    images, labels = rng.random((64, 8, 8, 1)), rng.integers(0, 4, 64)
    network = offramp.quantize(module, images, name="two")
    assert (network.name, [head.threshold for head in network.exits]) == ("two", [NEVER, None])
    program = offramp.compile(network, "single", images)
    found = offramp.simulate(program, images)
    with torch.no_grad():
        expected = module(torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float32))[-1].numpy()
    scale = network.layer(network.exits[-1].logits).output.scale
    codes = encode(images, network)
    logits = golden.run(network, codes).logits[-1]
    assert np.abs(logits * scale - expected).max() < 0.05 * np.abs(expected).max()
    np.testing.assert_array_equal(found.classes, logits.argmax(axis=1))
    np.testing.assert_array_equal(found.cycles, offramp.simulate(program, codes).cycles)
    # Images on which every accuracy may be lost all leave early.
    with_exits = offramp.quantize(module, images, labels, exit_loss=1.0)
    assert (golden.run(with_exits, codes).exit_index == 0).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 8, 8, 1)), r"images must be at least 1, not 0"),
        (np.zeros((2, 8, 8)), r"images must be a floating-point array \(N, height, width, channels\), not float64"),
        (np.zeros((2, 8, 8, 1), np.uint8), r"not uint8 \(2, 8, 8, 1\)"),
        (np.full((2, 8, 8, 1), -np.inf), r"values of images must be finite numbers, not -inf to 0\.0"),
        (np.full((2, 8, 8, 1), np.nan), r"values of images must be finite numbers, not nan to nan"),
    ],
)
def test_images_that_cannot_calibrate_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        offramp.quantize(TwoExits(), images)


def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path):
    script = "import sys, offramp; print({'torch', 'numba', 'amaranth'} & set(sys.modules), offramp.__version__)"
    assert python("-c", script, folder=tmp_path).stdout == f"set() {offramp.__version__}\n"


def test_a_package_of_the_user_that_hides_ours_is_named(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    error = python("-c", "import offramp", folder=tmp_path).stderr.splitlines()[-1]
    assert error == (
        f"ImportError: offramp needs its own package 'models' in {ROOT}, but Python finds {tmp_path / 'models'} first: "
        f"rename that, or start Python in another folder"
    )
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        offramp.train  # noqa: B018


def test_a_command_beside_such_a_package_says_so_in_a_sentence(tmp_path):
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "__init__.py").touch()
    done = python("-m", "offramp", "--version", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"offramp: offramp needs its own package 'hw' in {ROOT}, but Python finds")
    assert "Traceback" not in done.stderr


def test_files_and_the_zoo_are_loaded_by_what_they_are(tmp_path):
    network, program = offramp.load("zoo:digits"), offramp.load("zoo:digits@small")
    assert isinstance(network, Network)
    assert isinstance(program, Program)
    program.save(tmp_path / "p.off")
    again = offramp.load(tmp_path / "p.off")
    assert isinstance(again, Program)
    assert again.config.digest() == program.config.digest()
    with pytest.raises(ValueError, match=r"none\.off: cannot be read: No such file or directory$"):
        offramp.load(tmp_path / "none.off")
    save(tmp_path / "n.off", NetworkFile(network=network, origin="a test", activity={}))
    assert offramp.load(tmp_path / "n.off").to_dict() == network.to_dict()
    with pytest.raises(ValueError, match=r"^x\.pt2 is a model from outside: import it first \(offramp import"):
        offramp.load("x.pt2")
    with pytest.raises(ValueError, match=r"^'a\\x00b': cannot be read: "):
        offramp.load("a\0b")
    with pytest.raises(ValueError, match=r"^zoo:digits@ must be zoo:NAME or zoo:NAME@CONFIG, with a config behind @$"):
        offramp.load("zoo:digits@")
    (tmp_path / "x.off").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x\.off"):
        offramp.load(tmp_path / "x.off")


def test_a_bitstream_has_the_link_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "cache"))
    with quick_tools(tmp_path / "tools"):
        serial = offramp.build("tiny", "ecpix5-45f")
        usb = offramp.build("tiny", "ecpix5-45f", link="usb")
    assert (serial.link, usb.link, usb.baud) == ("serial", "usb-high", 0)
    assert usb.digest != serial.digest
    with pytest.raises(ValueError, match=r"^colorlight-i5: link must be serial, not usb, which these boards have: u"):
        offramp.build("tiny", "colorlight-i5", link="usb")
    with pytest.raises(ValueError, match=r"^link must be one of serial, usb, not 'usb-high'$"):
        offramp.build("tiny", "ecpix5-45f", link="usb-high")
