"""What a process may have told PyTorch, none of which integers depend on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["SETTINGS", "Spoiler", "precision"]


class Spoiler(TorchFunctionMode):
    """Halves what every function of PyTorch returns in floating point."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        spoilt = isinstance(found, torch.Tensor) and found.dtype == torch.float32 and func is F.conv2d
        return found / 2 if spoilt else found


class Watcher(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@contextmanager
def changed(get: Callable, change: Callable, value: object) -> Iterator[None]:
    """A setting of the process, which must still be what was set when the block ends."""
    before = get()
    change(value)
    try:
        during = get()
        yield
        assert get() == during
    finally:
        change(before)


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
        assert torch.get_default_device().type == name
    finally:
        torch.set_default_device(None)


@contextmanager
def autocast(dtype: torch.dtype) -> Iterator[None]:
    with torch.autocast("cpu", dtype=dtype):
        yield
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == dtype


@contextmanager
def flushed_denormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def precision(of: object, value: str) -> AbstractContextManager:
    return changed(lambda: of.fp32_precision, lambda chosen: setattr(of, "fp32_precision", chosen), value)


SETTINGS: dict[str, Callable[[], AbstractContextManager]] = {
    "autocast to bfloat16": lambda: autocast(torch.bfloat16),
    "autocast to float16": lambda: autocast(torch.float16),
    "default type float64": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "default type bfloat16": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "default device meta": lambda: default_device("meta"),
    "device meta": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
    "deterministic algorithms": lambda: changed(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "medium precision": lambda: changed(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "convolutions in bfloat16": lambda: precision(torch.backends.mkldnn.conv, "bf16"),
    "convolutions in tf32": lambda: precision(torch.backends.mkldnn.conv, "tf32"),
    "everything in bfloat16": lambda: precision(torch.backends, "bf16"),
    "without oneDNN": lambda: torch.backends.mkldnn.flags(enabled=False),
    "denormals flushed": flushed_denormals,
    "three threads": lambda: changed(torch.get_num_threads, torch.set_num_threads, 3),
    "a function mode": Spoiler,
    "a dispatch mode": Watcher,
    "NumPy's errors": lambda: np.errstate(all="raise"),
}
