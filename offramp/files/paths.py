"""Where a command reads and where it writes: what it reads is never written over, and no file is written twice."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hw.output import STANDARD_OUTPUT

__all__ = [
    "BUILT",
    "COMPRESSED",
    "NETWORK",
    "OURS",
    "PROGRAM",
    "PROGRESS",
    "REPORT",
    "RESULT",
    "TRAINED",
    "UNPRUNED",
    "check",
    "file_in",
    "is_ours",
    "reads",
    "writes",
]

#: Names of the files in the output folder.
TRAINED, COMPRESSED, PROGRAM, UNPRUNED = "trained.off", "compressed.off", "program.off", "unpruned.off"
NETWORK = "network.off"
RESULT, REPORT = "result.json", "report.html"
#: What a demo's build says, and its result.
BUILT = ("build.log", "build.json")
#: How files of ours end: networks and programs.
OURS = ".off"
#: Folder of runs in progress, in the output folder.
PROGRESS = "progress"

#: Where Click's context keeps what :func:`reads` and :func:`writes` were told.
_READ, _WRITTEN = "offramp.read", "offramp.written"


@dataclass(frozen=True)
class _Named:
    """A file that an option names; or files in a folder, by their names and by patterns of names (with ``*``)."""

    option: str
    path: Path
    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """What the option names."""
        return "folder" if self.names or self.patterns else "file"

    def files(self) -> Iterator[Path]:
        """All of them; of patterns those that are there."""
        if self.what == "file":
            yield self.path
        yield from (self.path / name for name in self.names)
        for pattern in self.patterns:
            yield from self.path.glob(pattern)

    @property
    def folder(self) -> Path:
        """The folder that they are in."""
        return self.path.parent if self.what == "file" else self.path

    def has(self, file: Path) -> bool:
        """Whether a file is one of them, by whatever name."""
        if self.what == "file" or self.names:
            return any(_is_same(file, each) for each in _Named(self.option, self.path, self.names).files())
        name = os.path.relpath(os.path.realpath(file), os.path.realpath(self.path))
        return any(fnmatch(name, pattern) for pattern in self.patterns)


def is_ours(path: Path) -> bool:
    """Whether a path that is written to names a file of ours, not a folder."""
    return path.suffix == OURS and not path.is_dir()


def file_in(out: Path, name: str) -> Path:
    """The file of ours that a path names, or the one of that name in a folder."""
    return out if is_ours(out) else out / name


def reads(context: Any, option: Any, path: Path, *names: str) -> None:
    """Say that a command reads a file that an option names, or in a folder those of such names or patterns."""
    context.meta.setdefault(_READ, []).append(_named(option, path, names))


def writes(context: Any, option: Any, path: Path, *names: str) -> None:
    """Say that a command writes there; ``{option}`` in a name stands for an option's value."""
    context.meta.setdefault(_WRITTEN, []).append(_named(option, path, names))


def _named(option: Any, path: Path, names: tuple[str, ...]) -> _Named:
    patterns = tuple(name for name in names if "*" in name)
    return _Named(option.opts[0], path, tuple(name for name in names if "*" not in name), patterns)


def check(context: Any) -> None:
    """Refuse options of which one would write over what another one reads or writes.

    Raises
    ------
    ValueError
        Naming the option and the file.
    """
    read = context.meta.get(_READ, [])
    written = [
        replace(given, names=tuple(name.format_map(context.params) for name in given.names))
        for given in context.meta.get(_WRITTEN, [])
    ]
    for number, given in enumerate(written):
        for file in filter(_is_replaced, given.files()):
            for source in read:
                if (source.has(file) or _is_beside(file, source)) and not _stays(given, source, file):
                    raise ValueError(
                        f"{given.option} {given.path} would write over {source.path}, which the command reads: "
                        f"name another {given.what}"
                    )
            for other in (*written[:number], *written[number + 1 :]):
                if other.has(file):
                    raise ValueError(
                        f"{given.option} {given.path} and {other.option} {other.path} would both write {file}: "
                        f"name another {given.what}"
                    )
                if not file.exists() and _is_in(other.folder, file):
                    raise ValueError(
                        f"{given.option} {given.path} and {other.option} {other.path} would make {file} both a file "
                        f"and a folder: name another {given.what}"
                    )


def _stays(given: _Named, source: _Named, file: Path) -> bool:
    """Whether the file is a program that is written where it was read: the same again."""
    from offramp.files.kinds import kind_of

    rewritten = given.what == "folder" and file.name == PROGRAM
    return rewritten and source.what == "file" and kind_of(source.path) == "program"


def _is_beside(file: Path, source: _Named) -> bool:
    """Whether it is a file with weights of an ONNX model; such a model is only opened for a file that is there."""
    if source.path.suffix != ".onnx" or not file.exists():
        return False
    from models.frontends.onnx.proto import files_beside

    return any(_is_same(file, each) for each in files_beside(source.path))


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names lead to the same file, or would if it were there."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _is_in(folder: Path, path: Path) -> bool:
    """Whether a folder is that of this path, or lies in it, by whatever names."""
    found, real = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    return real == found or real in found.parents


def _is_replaced(path: Path) -> bool:
    """Whether writing there replaces what is there: not so of pipes, devices and standard output."""
    return path != STANDARD_OUTPUT and (path.is_file() or not path.exists())
