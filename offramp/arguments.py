"""Arguments of the Python interface, checked: what is wrong with one is said in a sentence."""

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from hw.network.network import Network
from hw.rules import require, shown
from models.compression.quantize import encode

__all__ = ["array", "codes", "number", "of_kind", "whole"]


def of_kind(value: Any, kinds: type | tuple[type, ...], name: str, said: str) -> None:
    """Refuse a value that is of no such kind; ``said`` names the kind in words.

    Raises
    ------
    ValueError
        When it is none.
    """
    require(isinstance(value, kinds), f"{name} must be {said}, not {_said(value)}")


def number(value: Any, low: float, high: float, name: str) -> float:
    """A number in a range.

    Raises
    ------
    ValueError
        When it is none.
    """
    right = isinstance(value, Real) and not isinstance(value, bool) and value <= high and not value < low
    require(right, f"{name} must be a number in {low}..{high}, not {_said(value)}")
    return float(value)


def whole(value: Any, low: int, high: int, name: str) -> int:
    """A whole number in a range.

    Raises
    ------
    ValueError
        When it is none.
    """
    right = isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high
    require(right, f"{name} must be a whole number in {low}..{high}, not {_said(value)}")
    return int(value)


def array(value: Any, name: str) -> np.ndarray:
    """What NumPy makes of a value, of a tensor its values wherever it is.

    Raises
    ------
    ValueError
        When it is no array, or one with a mask, which nothing here heeds.
    """
    require(
        not isinstance(value, np.ma.MaskedArray),
        f"{name} must be an array without a mask: fill it first (numpy.ma.MaskedArray.filled)",
    )
    try:
        found = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
    except Exception as error:  # whatever a value of the user's raises when it is converted
        raise ValueError(f"{name} must be an array, not {_said(value)}: {error}") from error
    said = f"of {found.dtype}" if isinstance(value, np.ndarray) else _said(value)
    require(found.dtype.kind in "biuf", f"{name} must be an array of real numbers, not {said}")
    return found


def codes(images: Any, network: Network) -> np.ndarray:
    """Images as a network takes them: int8 codes, or floats that become such.

    Raises
    ------
    ValueError
        When there is none, or they aren't what the network takes.
    """
    found = array(images, "images")
    found = found if found.dtype == np.int8 else encode(found, network)
    expected = ", ".join(map(str, network.input.shape))
    require(found.shape[1:] == network.input.shape, f"codes must be of shape (N, {expected}), not {found.shape}")
    require(len(found), "images must be at least 1, not 0")
    return found


def _said(value: Any) -> str:
    """A value in a message: plain ones as they are, others by their type."""
    plain = value is None or isinstance(value, bool | int | float | str | bytes)
    return shown(value) if plain else f"an object of type {type(value).__name__}"
