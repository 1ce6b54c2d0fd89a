"""The state of a run as JSON can hold it, and its tensors."""

from typing import Any

import numpy as np
import torch

__all__ = ["join", "take_apart"]

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
