"""Programs that are made are what is in their files; names of the zoo are compiled for a config and kept."""

from pathlib import Path

import numpy as np
import pytest

from hw.config import preset
from models import zoo
from models.integer import golden
from offramp.files import program_files
from offramp.files.program_files import compiled, program, reread
from sim import simulate
from tests.random_networks import random_codes, random_network, two_blocks


@pytest.fixture(scope="module")
def network():
    return random_network(6)


def test_a_compiled_program_is_that_of_its_file(network, tmp_path):
    path = tmp_path / "deep" / "network.off"
    path.parent.mkdir()
    made = compiled(network, preset("tiny"), path)
    assert made.config == preset("tiny")
    assert made.network.to_dict() == network.to_dict()
    before = path.read_bytes()
    assert program(path).commands == made.commands
    reread(made, path)
    assert path.read_bytes() == before


def test_activity_balances_what_is_compiled(network, tmp_path):
    """Channels that are always nonzero and others that never are change the order of the lists, not the result."""
    shares = {
        name: np.linspace(0, 1, tensor.shape[2]) ** 4 for name, tensor in network.tensors().items() if tensor.shape[2]
    }
    found = [compiled(network, preset("tiny"), tmp_path / "p.off", activity) for activity in (None, shares)]
    codes = random_codes(network, 2, 6)
    expected = golden.run(network, codes, keep=False)
    for each in found:
        np.testing.assert_array_equal(simulate(each, codes).classes, expected.classes)


def test_a_program_that_does_not_fit_writes_no_file(tmp_path):
    with pytest.raises(ValueError, match="holds 64 words"):
        compiled(two_blocks(4, 16), preset("tiny").replace(list_words=64), tmp_path / "p.off")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "notes").write_text("no program")
    with pytest.raises(ValueError, match="notes is a text file, and a model is"):
        program(tmp_path / "notes")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    return tmp_path / "zoo"


def test_a_name_of_the_zoo_is_kept_for_each_config(kept):
    entry = zoo.entry("zoo:digits")
    first = program(Path("zoo:digits"))
    assert first.config == preset(entry.config)
    other = program(Path("zoo:digits@tiny"))
    assert other.config == preset("tiny")
    names = {path.name for path in kept.iterdir()}
    assert names >= {
        f"digits-{entry.sha256[:12]}-{each.config.digest()[:12]}.off" for each in (first, other)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zoo:digits@", "zoo:digits@ must be zoo:NAME or zoo:NAME@CONFIG, with a config behind @"),
        ("zoo:none", "none"),
        ("zoo:digits@huge", "huge"),
    ],
)
def test_names_that_the_zoo_has_not(kept, monkeypatch, name, message):
    monkeypatch.setattr(program_files, "compiled", lambda *_: pytest.fail("compiled"))
    with pytest.raises(ValueError, match=message):
        program(Path(name))
    assert not kept.exists()
