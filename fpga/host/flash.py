"""Loads bitstreams into boards, by openFPGALoader."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from fpga.boards import board
from fpga.flow.toolchain import BuildError
from hw.processes import run

__all__ = ["flash"]

_LOADER = "openFPGALoader"


def flash(bitstream: Path, board_name: str) -> None:
    """Load a bitstream into a board until power goes, or by DFU into the flash memory of an OrangeCrab.

    Parameters
    ----------
    board_name : str
        As in :data:`fpga.boards.BOARDS`.

    Raises
    ------
    ValueError
        When there is no such board.
    BuildError
        When the loader isn't installed or fails.
    """
    known = board(board_name)
    tool = shutil.which(_LOADER, path=os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", ""))))
    if tool is None:
        raise BuildError(f"{_LOADER} must be on the PATH: install the package openfpgaloader of your system")
    done = run([tool, "-b", known.loader_name, bitstream], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        said = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise BuildError(f"{_LOADER} failed with code {done.returncode}: {said[-1] if said else 'it says nothing'}")
