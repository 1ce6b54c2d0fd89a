"""What files of ours are, and which command takes them."""

from pathlib import Path

from hw.network import network_file
from models import zoo
from models.recipes import checkpoint

__all__ = ["NEXT", "OUTSIDE", "expect", "file_of", "is_factory", "kind_of", "said_of"]

#: What a model from outside is called.
OUTSIDE = "model from outside"
#: How the files of such end.
_SUFFIXES = (".tflite", ".onnx", ".pt2")

#: What is done with a file of a kind.
NEXT = {
    "trained": "offramp compress",
    "compressed": "offramp compile",
    "network": "offramp compile",
    "program": "offramp simulate",
    "network of the zoo": "offramp simulate",
    OUTSIDE: "offramp import",
}
#: The same in words.
_SAID = {
    "trained": "a trained network: compress it first",
    "compressed": "a compressed network: compile it first",
    "network": "an integer network: compile it first",
    "program": "a program: run it",
    "network of the zoo": "a network of the zoo, which is compiled where a program is asked for",
    OUTSIDE: "a model from outside: import it first",
}


def is_factory(path: Path) -> bool:
    """Whether it names a function that makes a module: ``module.py:factory``."""
    return ".py:" in str(path)


def file_of(path: Path) -> Path:
    """The file of a model: of a factory that of its function."""
    return Path(str(path).rpartition(":")[0]) if is_factory(path) else path


def kind_of(path: Path) -> str:
    """What a file is, by its first bytes: ``program``, ``trained``, ``compressed``, ``network``; of the zoo,
    ``network of the zoo``; by its name, :data:`OUTSIDE`.

    Raises
    ------
    ValueError
        When it can't be read or is no file of Offramp's.
    """
    if str(path).startswith(zoo.PREFIX):
        return "program" if "@" in str(path) else "network of the zoo"
    if path.suffix in _SUFFIXES or is_factory(path):
        return OUTSIDE
    try:
        with path.open("rb") as file:
            magic = file.read(len(checkpoint.MAGIC))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # Python's, of a name with a NUL character
        raise ValueError(f"{str(path)!r}: cannot be read: {error}") from error
    from hw.program.program import MAGIC

    if magic == MAGIC:
        return "program"
    if magic == network_file.MAGIC:
        return "network"
    if magic == checkpoint.MAGIC:
        return checkpoint.stage_of(path)
    raise ValueError(f"{path}: must be a program or a trained or compressed network, not a file of another kind")


def expect(path: Path, kind: str) -> None:
    """Refuse a file of another kind, saying what it is and which command takes it.

    Raises
    ------
    ValueError
        When it is of another kind, or as of :func:`kind_of`.
    """
    found = kind_of(path)
    if found != kind:
        raise ValueError(f"{path} is {_SAID[found]} ({NEXT[found]} {path})")


def said_of(path: Path) -> str | None:
    """What a file is and what to do with it, in words; None of one that is no model and no network of ours."""
    try:
        return _SAID[kind_of(path)]
    except ValueError:
        return None
