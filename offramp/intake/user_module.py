"""A PyTorch module that a function in a user's file makes, and weights from a file of its own."""

import importlib.util
import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from hw.rules import first_line, require, shown

__all__ = ["of_request"]

#: Differences that a message names.
_NAMED = 8


def of_request(model: str, weights: Path | None) -> nn.Module:
    """The module of ``file.py:factory``, in evaluation mode, with weights from a file if there is one.

    Raises
    ------
    ValueError
        When there is no such file or function, the user's code fails, what it returns is no module, or the file of
        weights can't be read, is damaged, or holds anything but the module's tensors.
    """
    path, _, factory = model.rpartition(":")
    require(path.endswith(".py"), f"{model}: must be module.py:factory, a function in a Python file")
    module = _unwrapped(_made(Path(path), factory), model)
    if weights is not None:
        _load_weights(module, weights)
    return module.eval()


def _made(path: Path, factory: str) -> nn.Module:
    """What a function in a Python file returns; the file is run, with its folder on the path."""
    require(path.is_file(), f"{path}: there must be such a Python file")
    spec = importlib.util.spec_from_file_location(f"offramp_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(loaded)
        make = getattr(loaded, factory, None)
        made: Any = make() if callable(make) else None
    except (Exception, SystemExit) as error:  # the user's own code
        raise ValueError(f"{path}:{factory}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    require(callable(make), f"{path}: must have a function or class {factory!r} that makes the module")
    require(isinstance(made, nn.Module), f"{path}:{factory} must return a torch.nn.Module, not {type(made).__name__}")
    return made


def _unwrapped(module: Any, name: str) -> nn.Module:
    """A module without what ``torch.compile`` and ``DataParallel`` put around it and around modules in it."""
    inner = _inner(module)
    for inside, each in list(inner.named_modules()):
        what = f"module {inside!r} of {name} must be" if inside else f"{name} must return"
        require(
            not isinstance(each, torch.jit.ScriptModule),
            f"{what} the module itself, not one of torch.jit, which torch.export can't follow",
        )
        each._compiled_call_impl = None  # what Module.compile() sets
        for child, value in list(each._modules.items()):
            each._modules[child] = None if value is None else _inner(value)
    return inner


def _inner(module: Any) -> nn.Module:
    """What is in the wrappers around one module."""
    while hasattr(module, "_orig_mod") or isinstance(module, nn.DataParallel):
        module = module._orig_mod if hasattr(module, "_orig_mod") else module.module
    inner: nn.Module = module
    return inner


def _load_weights(module: nn.Module, path: Path) -> None:
    """Put weights from a file into a module: all of them, and no others; prefixes of wrappers are left out."""
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ValueError(f"{path}: must be a safetensors file: {error}") from error
    except Exception as error:  # pickle's and zip's have no common type
        raise ValueError(
            f"{path}: must be weights that torch.load reads with weights_only: {first_line(error)}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    right = isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values())
    require(right, f"{path}: must be a dictionary of tensors by name, not {type(state).__name__}")
    wanted = module.state_dict()
    state = {_unprefixed(name, wanted): value for name, value in state.items()}
    problems = [f"lacks {shown(name)}" for name in wanted if name not in state]
    problems += [f"has {shown(name)}, which the module hasn't" for name in state if name not in wanted]
    problems += [
        f"{name} is {tuple(state[name].shape)} and must be {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    require(not problems, f"{path}: {'; '.join(problems[:_NAMED])}{' ...' if len(problems) > _NAMED else ''}")
    module.load_state_dict(state)


def _unprefixed(name: str, wanted: Container[str]) -> str:
    """A tensor's name without the wrappers of modules that it was saved with."""
    name = name if name in wanted else ".".join(part for part in name.split(".") if part != "_orig_mod")
    while name not in wanted and name.startswith("module."):
        name = name.removeprefix("module.")
    return name
