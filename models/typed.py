"""Settings that people write, checked against the functions and dataclasses that take them."""

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["call", "checked", "said", "settings_of"]

_T = TypeVar("_T")


def settings_of(taker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword settings of a function or a class."""
    return {
        name: parameter
        for name, parameter in inspect.signature(taker).parameters.items()
        if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    }


def call(taker: Callable[..., _T], settings: Mapping[str, Any], what: str, *given: Any) -> _T:
    """Call a function or class with settings from a file.

    Parameters
    ----------
    taker : function or class
        Its type hints say what each setting must be: float (also a whole number, or a fraction as ``"8/255"``), int,
        bool, str, tuple of one kind, dict from str to one kind, or one of these or None.
    settings : dict
    what : str
        What the settings are, for messages.
    given : objects
        First positional arguments, which no setting may name.

    Raises
    ------
    ValueError
        When a setting is unknown, missing, of another kind, or refused by the taker.
    """
    known = settings_of(taker)
    for name in list(known)[: len(given)]:
        del known[name]
    for name in settings:
        if name not in known:
            raise ValueError(f"{what}: {name!r} is unknown: settings are {', '.join(known) or 'none'}")
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in settings:
            raise ValueError(f"{what}: {name} must be given")
    hints = get_type_hints(taker.__init__ if inspect.isclass(taker) else taker)
    values = {name: checked(value, hints[name], f"{what}: {name}") for name, value in settings.items()}
    try:
        return taker(*given, **values)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def checked(value: Any, hint: Any, what: str) -> Any:
    """A value as the type hint wants it.

    Raises
    ------
    ValueError
        When it is of another kind; the message names the setting and the kind.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        if value is None and type(None) in parts:
            return None
        (hint,) = (part for part in parts if part is not type(None))
        return checked(value, hint, what)
    if origin is tuple:
        if not isinstance(value, list | tuple) or (parts[-1] is not Ellipsis and len(value) != len(parts)):
            wanted = "numbers or names" if parts[-1] is Ellipsis else f"{len(parts)} values"
            raise ValueError(f"{what} must be a list of {wanted}, not {value!r}")
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        return tuple(checked(part, kind, what) for part, kind in zip(value, kinds, strict=True))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise ValueError(f"{what} must be a table of names and values, not {value!r}")
        return {key: checked(part, parts[1], f"{what}.{key}") for key, part in value.items()}
    return _plain(value, hint, what)


def _plain(value: Any, hint: Any, what: str) -> Any:
    if hint is float and isinstance(value, str):
        above, slash, below = value.partition("/")
        if not (slash and above.strip().isdigit() and below.strip().isdigit() and int(below)):
            raise ValueError(f'{what} must be a number or a fraction such as "8/255", not {value!r}')
        return int(above) / int(below)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if isinstance(value, int) else value
    if hint in (int, bool, str) and type(value) is hint:
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    raise ValueError(f"{what} must be {names.get(hint, str(hint))}, not {value!r}")


def said(value: Any) -> Any:
    """Settings in dataclasses, tuples and dicts as JSON can hold them, without what is as it is by default."""
    if is_dataclass(value):
        own = {entry.name: (getattr(value, entry.name), entry.default) for entry in fields(value)}
        return {name: said(found) for name, (found, default) in own.items() if found != default}
    if isinstance(value, tuple | list):
        return [said(part) for part in value]
    return value
