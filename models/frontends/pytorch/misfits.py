"""Why a module can't compute its images: every operator whose weights don't fit what it reads, not only the first."""

import traceback
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Misfit", "misfits"]

#: Where a misfit was raised: frames with the numbers of their lines, the outermost first; and what it says.
Misfit = tuple[list[tuple[Any, int]], Exception]

_CONVOLUTIONS = (torch.conv1d, torch.conv2d)


def misfits(model: nn.Module, images: torch.Tensor) -> list[Misfit]:
    """Everything in a forward pass that doesn't fit.

    An operator whose weights are for other channels is asked again with as many zeros as it wants: what it makes has
    the shape that it would have, so what doesn't fit behind it is true as well. Where no shape is known, the pass ends.
    """
    mode = _Fitting()
    try:
        with mode:
            model(images.clone())
    except Exception as error:  # The network's own code may raise anything.
        mode.found.append((list(traceback.walk_tb(error.__traceback__)), error))
    return mode.found


class _Fitting(TorchFunctionMode):
    """Operators with weights get what they want, and what was wrong is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Misfit] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:
            wanted = _wanted(func, args, kwargs)
            if wanted is None:
                raise
            try:
                made = func(wanted, *args[1:], **kwargs)
            except RuntimeError:
                raise error from None
            inner = takewhile(lambda each: each[0].f_code is not misfits.__code__, traceback.walk_stack(None))
            self.found.append((list(inner)[::-1], error))
            return made


def _wanted(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Zeros in the place of an operator's map, with as many channels as its weights are for."""
    if len(args) < 2 or not all(isinstance(each, torch.Tensor) for each in args[:2]):
        return None
    read, weight = args[:2]
    if func is functional.linear and read.ndim > 0:
        return read.new_zeros((*read.shape[:-1], weight.shape[1]))
    if func in _CONVOLUTIONS and read.ndim == weight.ndim:
        groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
        return read.new_zeros((len(read), weight.shape[1] * groups, *read.shape[2:]))
    return None
