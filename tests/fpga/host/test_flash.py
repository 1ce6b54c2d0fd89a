import pytest

from fpga.flow.toolchain import BuildError
from fpga.host.flash import flash


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """Puts a program in place of openFPGALoader."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))

    def put(script):
        tool = tmp_path / "openFPGALoader"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)

    return put


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("ulx3s-85f", "ulx3s"),
        ("ecpix5-45f", "ecpix5"),
        ("orangecrab-25f", "orangeCrab"),
        ("colorlight-i5", "colorlight-i5"),
        ("colorlight-i9", "colorlight-i9"),
    ],
)
def test_the_loader_gets_its_name_of_the_board_and_the_file(loader, tmp_path, name, known):
    """Its names are in its src/board.hpp (1.1.1 and 0.10 agree), and it tells capitals from small letters."""
    loader(f'echo "$@" > {tmp_path}/said')
    flash(tmp_path / "a.bit", name)
    assert (tmp_path / "said").read_text() == f"-b {known} {tmp_path}/a.bit\n"


@pytest.mark.parametrize(
    ("script", "said"), [("echo one; echo 'no cable' >&2; exit 3", "no cable"), ("exit 3", "it says nothing")]
)
def test_a_loader_that_fails_is_quoted(loader, tmp_path, script, said):
    loader(script)
    with pytest.raises(BuildError, match=f"^openFPGALoader failed with code 3: {said}$"):
        flash(tmp_path / "a.bit", "ulx3s-25f")


def test_without_the_loader_or_the_board_a_sentence_says_so(loader, tmp_path):
    with pytest.raises(BuildError, match=r"^openFPGALoader must be on the PATH: install the package openfpgaloader"):
        flash(tmp_path / "a.bit", "ulx3s-25f")
    with pytest.raises(ValueError, match=r"^board must be one of ulx3s-12f, .*, colorlight-i9, not 'ulx4'$"):
        flash(tmp_path / "a.bit", "ulx4")
