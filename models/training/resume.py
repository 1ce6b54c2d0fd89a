"""Files of training runs in progress: everything that the rest of a run depends on, without pickle.

A run that resumes from such a file goes on as if it had never stopped: weights, optimizer, learning rate, pieces and
every generator are as they were, bit for bit.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hw import container
from hw.rules import require
from hw.typed import checked
from models.training.pieces import Piece, Run

__all__ = ["join", "load", "save", "take_apart"]

_MAGIC = b"OFFRPART"
_VERSION = 1

#: Keys that stand for what JSON has no word for.
_ARRAY, _TUPLE, _PAIRS = "$array", "$tuple", "$pairs"


def take_apart(tree: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A tree of dicts, lists, tuples, numbers, strings, tensors and None as JSON can hold it, and its tensors.

    Raises
    ------
    TypeError
        When it holds anything else.
    """
    arrays: dict[str, np.ndarray] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, torch.Tensor):
            key = f"tensor{len(arrays)}"
            arrays[key] = node.detach().cpu().numpy().copy()
            return {_ARRAY: key}
        if isinstance(node, tuple):
            return {_TUPLE: [walk(part) for part in node]}
        if isinstance(node, list):
            return [walk(part) for part in node]
        if isinstance(node, dict):
            return {_PAIRS: [[walk(key), walk(value)] for key, value in node.items()]}
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise TypeError(f"a run's state must be of numbers, strings and tensors, not {type(node).__name__}")

    return walk(tree), arrays


def join(manifest: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of :func:`take_apart`."""
    if isinstance(manifest, list):
        return [join(part, arrays) for part in manifest]
    if isinstance(manifest, dict):
        if _ARRAY in manifest:
            return torch.from_numpy(arrays[manifest[_ARRAY]].copy())
        if _TUPLE in manifest:
            return tuple(join(part, arrays) for part in manifest[_TUPLE])
        return {join(key, arrays): join(value, arrays) for key, value in manifest[_PAIRS]}
    return manifest


def _identity(run: Run, pieces: Sequence[Piece]) -> str:
    """What must be equal for a run to be the same: settings, seed, data, pieces and the network's shapes."""
    digest = hashlib.sha256(run.split.images.tobytes() + run.split.labels.tobytes())
    described = {
        "schedule": {name: value for name, value in asdict(run.schedule).items() if name != "device"},
        "seed": run.seed,
        "text": run.text,
        "pieces": [type(piece).__name__ for piece in pieces],
        "shapes": {name: list(value.shape) for name, value in run.model.state_dict().items()},
    }
    digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()


def save(path: Path, run: Run, pieces: Sequence[Piece]) -> None:
    """Write the state after an epoch, whole or not at all."""
    tree = {
        "model": dict(run.model.state_dict()),
        "optimizer": run.optimizer.state_dict(),
        "policy": {name: value for name, value in run.policy.state_dict().items() if name != "lr_lambdas"},
        "pieces": [piece.state_dict() for piece in pieces],
        "generator": run.generator.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(run.device) if run.device.type == "cuda" else None,
        "metrics": run.metrics,
        "epochs": run.epoch + 1,
    }
    manifest, arrays = take_apart(tree)
    container.write(path, _MAGIC, _VERSION, {"run": _identity(run, pieces), "state": manifest}, arrays)


def load(path: Path, run: Run, pieces: Sequence[Piece]) -> int:
    """Put a run and its pieces into the state of a file; they must have begun already.

    Returns
    -------
    int
        Epochs done.

    Raises
    ------
    ValueError
        When the file can't be read, is damaged, or is of a run with other settings, data, pieces or network.
    """
    manifest, arrays = container.read(path, _MAGIC, _VERSION)
    if manifest.get("run") != _identity(run, pieces):
        raise ValueError(
            f"{path}: must be of the same settings, seed, data and network as this run, not of another one: "
            "delete it to begin anew"
        )
    try:
        return _put(join(manifest["state"], arrays), run, pieces)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: must hold a state of this run: {reason}: delete it to begin anew") from error


def _put(state: dict[str, Any], run: Run, pieces: Sequence[Piece]) -> int:
    """Put a run and its pieces into a state; returns epochs done."""
    epochs = checked(state["epochs"], int, "epochs")
    require(0 <= epochs <= run.schedule.epochs, f"epochs must be in 0..{run.schedule.epochs}, not {epochs}")
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    lambdas = {"lr_lambdas": [None]} if isinstance(run.policy, torch.optim.lr_scheduler.LambdaLR) else {}
    run.policy.load_state_dict(state["policy"] | lambdas)
    for piece, kept in zip(pieces, state["pieces"], strict=True):
        piece.load_state_dict(kept)
    run.generator.set_state(state["generator"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], run.device)
    run.metrics = state["metrics"]
    run.done = epochs * run.steps
    return epochs
