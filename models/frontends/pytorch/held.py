"""What a module holds beside what it computes: it is found again as it was, and what a call changes is named."""

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["attributes", "differing", "kept"]

#: Attributes that every module has.
_OWN = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}
#: Values that never change.
_FIXED = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
#: What has no state that a call would change, or none that could be looked at.
_OPAQUE = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)
#: Most values of a module's attributes that are looked at.
_MOST = 100_000


@contextmanager
def kept(model: nn.Module) -> Iterator[list[str]]:
    """Afterwards parameters, buffers and attributes are what they were.

    The list then names parameters and buffers that were written or replaced.
    """
    tensors = [
        (prefix, module, name, value, value.clone())
        for prefix, module in model.named_modules()
        for name, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    ]
    plain = [(module, _attributes(module)) for module in model.modules()]
    contents = [(value, value.copy()) for _, held in plain for value in held.values() if _is_container(value)]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for module, held in plain:
            for name in _attributes(module).keys() - held.keys():
                del vars(module)[name]
            vars(module).update(held)
        for value, before in contents:
            value.clear()
            (value.extend if isinstance(value, list) else value.update)(before)
        for prefix, module, name, value, before in tensors:
            is_same = _are_equal(value, before)
            if not is_same or getattr(module, name, None) is not value:
                changed.append(f"{prefix}.{name}" if prefix else name)
            setattr(module, name, value)
            if value.shape != before.shape:
                value.data = before
            elif not is_same:
                value.copy_(before)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Those that a user's code has set."""
    return {name: value for name, value in vars(module).items() if name not in _OWN}


def _is_container(value: Any) -> bool:
    return type(value) in (list, dict, set)


def _are_equal(value: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether all numbers are the same; NaN is NaN."""
    return value.shape == before.shape and bool(((value == before) | (value.isnan() & before.isnan())).all())


def attributes(model: nn.Module) -> dict[str, Any]:
    """What a call could count in or draw from: attributes of modules and of their classes, random numbers of Python's
    and NumPy's; by name, as values that can be compared.
    """
    look = _Look()
    found = {"the state of random": random.getstate(), "the state of numpy.random": look.at(np.random.get_state())}
    for prefix, module in model.named_modules():
        for name, value in _attributes(module).items():
            found[f"{prefix}.{name}" if prefix else name] = look.at(value)
        for kind in type(module).__mro__:
            if not kind.__module__.startswith("torch.") and kind is not object:
                values = {name: value for name, value in vars(kind).items() if not name.startswith("__")}
                found |= {f"{kind.__name__}.{name}": look.at(value) for name, value in values.items()}
    return found


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of what isn't the same, in the order in which it was found."""
    names = dict.fromkeys([*before, *after])
    return [name for name in names if name not in before or name not in after or before[name] != after[name]]


class _Look:
    """Makes values that can be compared of any; objects are looked into once, and so many values in all."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # by identity; they are held, so that no other one gets it
        self._left = _MOST

    def at(self, value: Any) -> Any:
        """What is in a value."""
        self._left -= 1
        if isinstance(value, float | complex):
            return repr(value)  # NaN is NaN
        if isinstance(value, _FIXED):
            return value
        if id(value) in self._seen or self._left < 0 or isinstance(value, _OPAQUE):
            return id(value)
        self._seen[id(value)] = value
        if isinstance(value, torch.Tensor | np.ndarray):
            return _bytes(value)
        if isinstance(value, dict):
            return "dict", [(self.at(key), self.at(each)) for key, each in value.items()]
        if isinstance(value, list | tuple | deque):
            return type(value).__name__, [self.at(each) for each in value]
        if isinstance(value, set | frozenset):
            return "set", {each if isinstance(each, _FIXED) else id(each) for each in value}
        inner = getattr(value, "__dict__", None)
        return (id(value), self.at(inner)) if isinstance(inner, dict) else id(value)


def _bytes(value: torch.Tensor | np.ndarray) -> Any:
    """The contents of an array."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return id(value)
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
    return str(value.dtype), tuple(value.shape), plain.view(torch.uint8).numpy().tobytes()
