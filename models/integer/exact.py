"""Exact integer arithmetic in PyTorch's floating point, whatever a process has told PyTorch elsewhere.

Autocast, modes that intercept functions, and the precision that oneDNN may trade for speed belong to the process or
the thread. Integer results must depend on none of them.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["exact"]

_CHANNELS = 16
#: Activations and weights as large as there are: their sum has 23 bits, and is odd.
_IMAGE = np.full((1, _CHANNELS, 3, 3), -255, dtype=np.float32)
_WEIGHT = np.full((_CHANNELS, _CHANNELS, 3, 3), 127, dtype=np.float32)
_WEIGHT[:, 0, 0, 0] = 126
_SUM = -255 * (127 * (9 * _CHANNELS - 1) + 126)


@contextmanager
def exact() -> Iterator[None]:
    """Run a block in which convolutions of integers in float32 and float64 on the CPU are exact; then restore all.

    Nothing records gradients inside. The block says the type and device of every tensor that it makes.

    Raises
    ------
    ValueError
        When PyTorch isn't exact all the same, as inside a transform that replaces tensors.
    """
    with ExitStack() as stack:
        # Modes first: they would see the calls that follow.
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_FULL_PRECISION)
        _prove()
        yield


class _FullPrecision:
    """While any thread is inside, the process's convolutions neither round nor transform their operands."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before.enter_context(torch.backends.nnpack.flags(enabled=False))  # it transforms
                self._before.enter_context(_no_rounding())
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.close()


@contextmanager
def _no_rounding() -> Iterator[None]:
    """Forbid oneDNN to round the operands of convolutions."""
    convolutions = torch.backends.mkldnn.conv  # type: ignore[attr-defined]  # a property of the module
    before = convolutions.fp32_precision
    if before in ("none", "ieee"):
        yield
        return
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = "none"  # what is inherited is restored as such
        if convolutions.fp32_precision != before:
            convolutions.fp32_precision = before


_FULL_PRECISION = _FullPrecision()


def _prove() -> None:
    """Refuse to go on unless a convolution of known result is right."""
    try:
        sums = F.conv2d(torch.from_numpy(_IMAGE), torch.from_numpy(_WEIGHT)).numpy()
        found = str(sums.flat[0]) if (sums != _SUM).any() else ""
    except (RuntimeError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
    if found:
        raise ValueError(
            f"integers can't be computed here: PyTorch made {found} of a sum of {_SUM}; leave torch.func's transforms, "
            "FakeTensorMode and the like first, and reset what makes convolutions of float32 less precise"
        )
