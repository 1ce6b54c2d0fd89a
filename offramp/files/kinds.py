"""What files are, by their content, and which command takes them: those of ours, models from outside, and others."""

import json
import stat
import tomllib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from hw.config import preset
from hw.rules import require

__all__ = [
    "MODELS",
    "NEXT",
    "OUTSIDE",
    "check_bitstream",
    "check_integer",
    "check_model",
    "check_recipe",
    "check_result",
    "check_weights",
    "expect",
    "file_of",
    "is_factory",
    "kind_of",
    "said_of",
    "what_is",
]

#: What a model may be, in words.
MODELS = ".tflite, .onnx, .pt2, module.py:factory, .off or zoo:NAME"
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
_CONVERT = "convert the model to int8 TensorFlow Lite (tf.lite.TFLiteConverter) or to ONNX (tf2onnx)"
#: What files are, and what to do with them; without a colon there is nothing to do. ``{}`` is the file.
_SAID = {
    "trained": "a trained network: compress it first (offramp compress {})",
    "compressed": "a compressed network: compile it first (offramp compile {})",
    "network": "an integer network: compile it first (offramp compile {})",
    "program": "a program: run it (offramp simulate {})",
    "network of the zoo": "a network of the zoo, which is compiled where a program is asked for (offramp simulate {})",
    OUTSIDE: "a model from outside: import it first (offramp import {})",
    "recipe": "a recipe: make its network first (offramp train {})",
    "result": "the result of a command: see it (offramp report {})",
    "arrays": "NumPy arrays: images of them are for --data {}",
    "weights": "weights alone: the model is module.py:factory --weights {}, whose factory makes the network",
    "pickle": "a pickle, which runs code when it is read: save its weights as .safetensors, for --weights",
    "scripted": "a TorchScript archive: give the module that was scripted, as module.py:factory, or export it to .onnx",
    "exported": "a program of torch.export: let its name end in .pt2",
    "Keras": f"a Keras model or other HDF5 data: {_CONVERT}",
    "TensorFlow": f"a model of TensorFlow's: {_CONVERT}",
    "waveform": "a waveform: see it in GTKWave or Surfer",
    "picture": "a picture: a folder of pictures by class is for --data",
    "bitstream": "a bitstream: load it (offramp board flash {})",
    "module": "a Python file: a function in it that makes a model is {}:FUNCTION",
    "page": "a web page: see it in a browser",
    "trace": "a trace: see it in Perfetto (ui.perfetto.dev)",
    "description": "a network's description, for other tools: export it again as .onnx or .tflite to read it here",
    "state": "what train keeps to go on with: call offramp train again, which reads it",
    "JSON": "JSON that no command wrote",
    "empty": "an empty file",
    "folder": "a folder",
    "device": "a pipe or a device",
    "text": "a text file",
    "other": "a file of another kind",
}

#: How names of networks of the zoo begin (models.zoo).
_ZOO = "zoo:"

#: How files of others begin.
_MAGICS = {
    b"\x93NUMPY": "arrays",
    b"\x89PNG": "picture",
    b"\xff\xd8\xff": "picture",
    b"GIF8": "picture",
    b"BM": "picture",
    b"OFFRPART": "state",
    b"$date": "waveform",
    b"$version": "waveform",
    b"<!doctype html": "page",
    b"<html": "page",
    b"<svg": "page",
    b"\x89HDF": "Keras",
}
#: Keys by which JSON of other kinds is known.
_KEYS = {"trace": {"traceEvents"}, "description": {"format", "origin", "layers"}}
#: How the names of those end that don't begin alike: what is text, and what isn't.
_TEXTS = {".toml": "recipe", ".py": "module", ".gtkw": "waveform"}
_BINARIES = {
    ".npz": "arrays",
    ".npy": "arrays",
    ".pt": "weights",
    ".pth": "weights",
    ".safetensors": "weights",
    ".fst": "waveform",
    ".bit": "bitstream",
    ".pb": "TensorFlow",
    ".ckpt": "TensorFlow",
}
#: How names of weights end that torch.save wrote as a pickle alone, before PyTorch 1.6.
_PICKLED = (".pt", ".pth", ".ckpt")
#: File in a folder that is a model of TensorFlow's.
_SAVED_MODEL = "saved_model.pb"
#: What archives hold, by the names of files in them without the archive's own folder.
_ARCHIVES = {"constants.pkl": "scripted", "archive_format": "exported", "data.pkl": "weights", "config.json": "Keras"}
#: Bytes that tell a text, and most that a result is read whole to be told from other JSON.
_BEGINNING, _RESULT = 1024, 1 << 28


def is_factory(path: Path) -> bool:
    """Whether it names a function that makes a module: ``module.py:factory``."""
    return ".py:" in str(path)


def file_of(path: Path) -> Path:
    """The file of a model: of a factory that of its function."""
    return Path(str(path).rpartition(":")[0]) if is_factory(path) else path


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_BEGINNING)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def what_is(path: Path) -> str:
    """The kind of any file or name of a model, of which :func:`said_of` says what to do with it.

    Raises
    ------
    ValueError
        When it can't be read, or is a damaged network.
    """
    if str(path).startswith(_ZOO):
        return "program" if "@" in str(path) else "network of the zoo"
    if is_factory(path):
        return OUTSIDE
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # Python's, of a name with a NUL character
        raise ValueError(f"{str(path)!r}: cannot be read: {error}") from error
    if not stat.S_ISREG(mode):
        return _folder(path) if stat.S_ISDIR(mode) else "device"
    begins = _beginning(path)
    if not begins:
        return "empty"
    ours = _ours(path, begins)
    if ours:
        return ours
    if path.suffix in _SUFFIXES:
        return OUTSIDE
    low = begins.lstrip().lower()
    for magic, kind in _MAGICS.items():
        if low.startswith(magic.lower()):
            return kind
    if begins.startswith(b"PK") and (archive := _archive(path)):
        return archive
    if begins[:1] == b"\x80" and begins[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "weights" if path.suffix in _PICKLED else "pickle"
    if not _is_text(begins):
        return _BINARIES.get(path.suffix, "other")
    if low.startswith((b"{", b"[")) and path.suffix not in _TEXTS:
        return _kind_of_json(path)
    return _TEXTS.get(path.suffix, "text")


def _folder(path: Path) -> str:
    return "TensorFlow" if (path / _SAVED_MODEL).is_file() else "folder"


def _archive(path: Path) -> str | None:
    """What a ZIP archive of a model or of weights holds; None: it is none."""
    try:
        with ZipFile(path) as archive:
            names = {name for each in archive.namelist() for name in (each, each.partition("/")[2])}
    except (BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        return None
    return next((kind for name, kind in _ARCHIVES.items() if name in names), None)


def _ours(path: Path, begins: bytes) -> str | None:
    """Of a file of ours, what it is, by its first bytes."""
    from hw.network import network_file
    from hw.program.program import MAGIC
    from models.recipes import checkpoint

    magic = begins[: len(MAGIC)]
    if magic == checkpoint.MAGIC:
        return checkpoint.stage_of(path)
    return {MAGIC: "program", network_file.MAGIC: "network"}.get(magic)


def _kind_of_json(path: Path) -> str:
    if path.stat().st_size > _RESULT:
        return "JSON"
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return "JSON"
    if not isinstance(found, dict):
        return "JSON"
    if isinstance(found.get("command"), str):
        return "result"
    return next((kind for kind, keys in _KEYS.items() if keys <= found.keys()), "JSON")


def _is_text(begins: bytes) -> bool:
    try:
        text = begins.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut at the end of what was read.
        if error.start < _BEGINNING - 4:
            return False
        text = begins[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _is_toml(path: Path) -> bool:
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def said_of(path: Path, kind: str | None = None) -> str:
    """What a file is and what to do with it, in words.

    Raises
    ------
    ValueError
        As of :func:`what_is`.
    """
    return _SAID[kind or what_is(path)].format(path)


def kind_of(path: Path) -> str:
    """What a model or a network is: ``program``, ``trained``, ``compressed``, ``network``; of the zoo, ``network of the
    zoo``; by its name, :data:`OUTSIDE`.

    Raises
    ------
    ValueError
        When it can't be read or is none; the message says what it is instead.
    """
    if path.suffix in _SUFFIXES:
        return OUTSIDE
    found = what_is(path)
    if found in NEXT:
        return found
    said = said_of(path, found)
    raise ValueError(f"{path} is {said}" if ":" in said else f"{path} is {said}, and a model is {MODELS}")


def check_model(path: Path) -> None:
    """Refuse a model that isn't there, or is a file of a kind that is no model, before anything is loaded.

    Raises
    ------
    ValueError
        When it is one.
    """
    kind = kind_of(path)
    if str(path).startswith(_ZOO):
        from models import zoo

        name, at, config = str(path).partition("@")
        zoo.entry(name)
        if at:
            preset(config)
    elif is_factory(path):
        file = file_of(path)
        require(file.is_file(), f"{file}: there must be such a Python file")
    elif kind == OUTSIDE:
        found = what_is(path)
        require(found == OUTSIDE, f"{path} is {said_of(path, found)}, whatever its name says")


def check_integer(path: Path) -> None:
    """Refuse a trained network where a model runs: it is no integer network yet.

    Raises
    ------
    ValueError
        When it is one.
    """
    kind = kind_of(path)
    require(kind != "trained", f"{path} is {said_of(path, kind)}")


def _require_kind(path: Path, found: str, wanted: str, *kinds: str) -> None:
    """Refuse a file of a kind that was found and is none of these; ``wanted`` says them in words."""
    require(found in kinds, f"{path} must be {wanted}, not {said_of(path, found)}")


def check_recipe(path: Path) -> None:
    """Refuse a recipe that isn't there, or is a file of another kind.

    Raises
    ------
    ValueError
        When it is one.
    """
    found = what_is(path)
    if found == "text" and _is_toml(path):
        found = "recipe"
    _require_kind(path, found, "a recipe (.toml)", "recipe")


def check_result(path: Path) -> None:
    """Refuse a result that isn't there, or is a file of another kind; JSON is looked into where it is read.

    Raises
    ------
    ValueError
        When it is one.
    """
    _require_kind(path, what_is(path), "the result of a command (--json FILE)", "result", "JSON")


def check_bitstream(path: Path) -> None:
    """Refuse a bitstream that isn't there, or is a file of another kind.

    Raises
    ------
    ValueError
        When it is one.
    """
    _require_kind(path, what_is(path), "a bitstream, as offramp build writes it", "bitstream", "other")


def check_weights(path: Path) -> None:
    """Refuse weights that aren't there, or are a file of another kind.

    Raises
    ------
    ValueError
        When it is one.
    """
    _require_kind(path, what_is(path), "weights (.safetensors or a state dictionary)", "weights", "pickle", "other")


def expect(path: Path, kind: str) -> None:
    """Refuse a file of another kind, saying what it is and which command takes it.

    Raises
    ------
    ValueError
        When it is of another kind, or as of :func:`kind_of`.
    """
    found = kind_of(path)
    if found != kind:
        raise ValueError(f"{path} is {said_of(path, found)}")
