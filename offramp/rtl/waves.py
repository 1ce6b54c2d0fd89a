"""What is recorded of a run, and the files that a waveform viewer shows: FST, and a layout for GTKWave beside it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hw.output import write_file
from hw.program.program import Program
from offramp.files.cache_folder import cache_root
from offramp.rtl.fst import write_fst
from offramp.rtl.job import LayerTime
from offramp.rtl.layout import layout
from offramp.rtl.simulators import RECORDED, load_enumerations

__all__ = ["Waves", "keep", "layers_named", "runs_folder"]


@dataclass(frozen=True, kw_only=True)
class Waves:
    """What is recorded.

    Attributes
    ----------
    path : Path, optional
        FST file; by default one in a new folder in the cache directory's ``runs``.
    layers : set of (int, int), optional
        Only these: number of the program and of the LAYER instruction, in runs that stop after every layer. By default
        everything.
    """

    path: Path | None = None
    layers: frozenset[tuple[int, int]] | None = None

    def placed(self) -> "Waves":
        """The same, with a path."""
        return self if self.path else replace(self, path=Path(tempfile.mkdtemp(dir=runs_folder())) / "waves.fst")


def runs_folder() -> Path:
    """Where runs have their folders."""
    folder = cache_root() / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def layers_named(programs: Sequence[Program], name: str) -> frozenset[tuple[int, int]]:
    """Program and LAYER instruction of a layer, for :class:`Waves`; of all instructions where it takes several.

    Raises
    ------
    ValueError
        When there is none; the message names those that there are.
    """
    found = frozenset(
        (number, index)
        for number, program in enumerate(programs)
        for index, command in enumerate(program.commands)
        if name in (command.name, command.layer)
    )
    if not found:
        commands = [command for program in programs for command in program.commands]
        known = ", ".join(dict.fromkeys(name for each in commands for name in (each.layer, each.name)))
        raise ValueError(f"--layer must be one of {known}, not {name!r}")
    return found


def keep(waves: Waves, folder: Path, build: Path, times: list[LayerTime] | None) -> Path | None:
    """Make the files of a run's waveform, FST and layout.

    Parameters
    ----------
    waves : Waves
        With its path.
    folder, build : Path
        Of the run, in which its simulator has recorded, and of what ran.
    times : list of LayerTime, optional
        When layers ran; without them everything is kept.

    Returns
    -------
    Path or None
        The FST file; None when the simulator hasn't recorded anything.

    Raises
    ------
    ValueError
        When the layers that are to be recorded didn't run.
    OSError
        When a file can't be written.
    """
    assert waves.path is not None
    vcd, fst = folder / RECORDED, folder / "waves.fst"
    if not vcd.exists():
        return None
    windows = None
    if waves.layers is not None and times is not None:
        windows = [(each.first, each.last) for each in times if (each.program, each.layer) in waves.layers]
        if not windows:
            raise ValueError("--layer must name a layer that runs; of these images all leave before")
    signals = write_fst(vcd, fst, load_enumerations(build), windows)
    vcd.unlink()
    write_file(waves.path, fst.read_bytes())
    write_file(waves.path.with_suffix(".gtkw"), layout(waves.path.resolve(), signals).encode())
    return waves.path
