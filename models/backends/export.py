"""Integer networks as files of others: written, read back by our importers, and compared, before anybody sees them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hw.network.layers import select_of, threshold_of
from hw.network.network import NEVER, GlobalAveragePool, Network
from hw.numerics import Rounding
from hw.rules import require
from models.backends.comparison import compare
from models.backends.file_scales import FileRounding, FileScales, file_scales
from models.backends.normal_form import normal_form
from models.backends.onnx_writer import onnx_rounding, read_onnx, write_onnx
from models.backends.rounded_sums import Weighted
from models.backends.tflite_writer import read_tflite, tflite_rounding, write_tflite
from models.integer import golden

__all__ = ["FORMS", "ExportedFile", "export_file"]

_IMAGES, _SEED = 8, 19  # that golden computes of both networks
_NAMED = 4  # channels or layers that a message names


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A kind of file.

    Parameters
    ----------
    name : str
    rounding : function
        How its operator of a layer rounds.
    write : function
        The file of a network in its normal form.
    read : function
        The network of a file, and a sentence on who else computes the same.
    """

    name: str
    rounding: Callable[[Weighted], FileRounding]
    write: Callable[[Network, FileScales], bytes]
    read: Callable[[Path], tuple[Network, str]]


#: By the ending of a file's name.
FORMS = {
    ".onnx": _Form(name="ONNX", rounding=onnx_rounding, write=write_onnx, read=read_onnx),
    ".tflite": _Form(name="TensorFlow Lite", rounding=tflite_rounding, write=write_tflite, read=read_tflite),
}


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """What is to be written.

    Parameters
    ----------
    content : bytes
    notes : tuple of str
        What a user must know of it.
    """

    content: bytes
    notes: tuple[str, ...]


def export_file(network: Network, ending: str) -> ExportedFile:
    """A network as a file of others, from which the same network has been read back.

    Every layer has the same weights, biases, zero points and clamps then, and makes the same codes of all sums that can
    occur; golden computed the same logits of both.

    Parameters
    ----------
    network : Network
    ending : str
        Of the file's name: one of :data:`FORMS`.

    Raises
    ------
    ValueError
        When the file can't say what a layer computes: the message names all such layers, and why.
    ModuleNotFoundError
        When the package that reads such files isn't installed.
    """
    form, plain = FORMS[ending], normal_form(network)
    problems = _unsayable(plain)
    require(not problems, f"{network.name} can't be a file of {form.name}: {'; '.join(problems)}")
    scales = file_scales(plain, form.rounding)
    problems = _missed(plain, scales, form)
    try:
        content = form.write(plain, scales)
    except ValueError as error:
        problems.append(str(error))
    require(not problems, f"{network.name} can't be a file of {form.name}: {'; '.join(problems)}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"network{ending}"
        path.write_bytes(content)
        again, note = form.read(path)
    changed = compare(network, again)
    _check_logits(network, again)
    notes = [note, *_exit_notes(network)]
    if changed:
        notes.append(
            f"{changed} multipliers differ from the network's in their last bits; every sum that can occur becomes the "
            "same code"
        )
    return ExportedFile(content=content, notes=tuple(notes))


def _unsayable(network: Network) -> list[str]:
    """What no file of others says of layers."""
    found = []
    for layer in network.layers:
        if isinstance(layer, GlobalAveragePool) and network.tensors()[layer.inputs[0]].shape[:2] == (1, 1):
            found.append(f"{layer.name} is a pool of one position that only clamps")
        if threshold_of(layer) > 1:
            found.append(f"{layer.name} takes activations below {threshold_of(layer)} for zero")
        if (select := select_of(layer)) is not None:
            found.append(f"{layer.name} multiplies selected {select.kind} of its input alone")
    return found


def _missed(network: Network, scales: FileScales, form: _Form) -> list[str]:
    """Why layers' scales can't be said."""
    otherwise, found = [], []
    for name, channels in scales.missed.items():
        layer = network.layer(name)
        if not isinstance(layer, Weighted):
            found.append(f"{name}: no scales of single precision make the same sum of all codes")
        elif (layer.rounding is Rounding.DOUBLE) != (form.rounding(layer) is FileRounding.DOUBLE):
            otherwise.append(name)
        else:
            which = f"{name}, channel{'s' if len(channels) > 1 else ''} {_listed(map(str, channels))}"
            found.append(f"{which}: no scale of single precision rounds all sums as the multiplier does")
    if otherwise:
        twice = form.rounding is onnx_rounding
        how, theirs, nearest = (
            ("twice", "an ONNX operator rounds once", ".tflite")
            if twice
            else ("once", "CONV_2D and DEPTHWISE_CONV_2D round twice", ".onnx")
        )
        found.insert(
            0,
            f"{_listed(otherwise)}: accumulators become int8 by rounding {how}, and {theirs}, so codes would differ: "
            f"export as {nearest}, or to a folder (network.json, arrays.npz), which says either",
        )
    return found


def _listed(names: Iterable[str]) -> str:
    """The first of many names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return f"{', '.join(every[:_NAMED])}{more}"


def _exit_notes(network: Network) -> list[str]:
    """What the file doesn't say of exits."""
    early = [(head.logits, head.threshold) for head in network.exits if head.threshold not in (None, NEVER)]
    if len(network.exits) < 2:
        return []
    said = "".join(f", at {name} with a margin of {threshold} or more in its sums" for name, threshold in early)
    return [f"outputs are the logits of all exits, in order; the file doesn't say when to leave{said}"]


def _check_logits(network: Network, again: Network) -> None:
    """Refuse a network of which golden computes other logits, on random images."""
    random, image = np.random.default_rng(_SEED), network.input
    codes = random.integers(-128, 128, (_IMAGES, *image.shape))
    near = (codes // 16 + image.zero_point).clip(-128, 127)
    images = np.concatenate([codes, near]).astype(np.int8)
    first, second = (golden.run(each, images, keep=False).logits for each in (network, again))
    same = all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    require(same, f"{network.name}: what is read back must have the same logits; please report the network")
