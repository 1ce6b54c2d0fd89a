"""Settings that people write, checked against the functions and dataclasses that take them."""

import inspect
import math
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hw.rules import shown

__all__ = ["call", "checked", "said", "settings_of", "settled"]

_T = TypeVar("_T")

#: Whole numbers lie within plus and minus this one.
_LARGEST = (1 << 63) - 1
#: Most characters of a fraction.
_LONGEST = 40


def settings_of(taker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword settings of a function or a class."""
    return {
        name: parameter
        for name, parameter in inspect.signature(taker).parameters.items()
        if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    }


def call(taker: Callable[..., _T], settings: Mapping[str, Any], what: str, *given: Any, **made: Any) -> _T:
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
    made : objects
        Arguments by name, which no setting may name either.

    Raises
    ------
    ValueError
        When a setting is unknown, missing, of another kind, or refused by the taker.
    """
    values = settled(taker, settings, what, len(given), made)
    try:
        return taker(*given, **values, **made)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def settled(
    taker: Callable[..., Any], settings: Mapping[str, Any], what: str, given: int = 0, made: Collection[str] = ()
) -> dict[str, Any]:
    """Settings as a function or class takes them beside so many given arguments and those made, without calling it.

    Parameters and errors are those of :func:`call`.
    """
    known = settings_of(taker)
    for name in (*list(known)[:given], *made):
        del known[name]
    for name in settings:
        if name not in known:
            raise ValueError(f"{what}: {shown(name)} is unknown: settings are {', '.join(known) or 'none'}")
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in settings:
            raise ValueError(f"{what}: {name} must be given")
    hints = get_type_hints(taker.__init__ if inspect.isclass(taker) else taker)
    return {name: checked(value, hints[name], f"{what}: {name}") for name, value in settings.items()}


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
            raise ValueError(f"{what} must be a list of {wanted}, not {shown(value)}")
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        return tuple(checked(part, kind, what) for part, kind in zip(value, kinds, strict=True))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise ValueError(f"{what} must be a table of names and values, not {shown(value)}")
        return {
            checked(key, parts[0], f"{what}: a name"): checked(part, parts[1], f"{what}.{key}")
            for key, part in value.items()
        }
    return _plain(value, hint, what)


def _plain(value: Any, hint: Any, what: str) -> Any:
    if hint is float:
        return _number(value, what)
    names = {int: "a whole number", bool: "true or false", str: "a text"}
    if type(value) is not hint or hint not in names:
        raise ValueError(f"{what} must be {names.get(hint, str(hint))}, not {shown(value)}")
    if hint is int and not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{what} must be a whole number of at most 63 bits, not {shown(value)}")
    if hint is str and not all(letter.isprintable() or letter in "\n\t" for letter in value):
        raise ValueError(f"{what} must be a text of characters that can be printed, not {shown(value)}")
    return value


def _number(value: Any, what: str) -> float:
    """A finite number, also as a fraction."""
    above, below = value, 1
    if isinstance(value, str):
        parts = [part.strip() for part in value.partition("/")]
        if len(value) > _LONGEST or not (parts[1] and parts[0].isdecimal() and parts[2].isdecimal() and int(parts[2])):
            raise ValueError(f'{what} must be a number or a fraction such as "8/255", not {shown(value)}')
        above, below = int(parts[0]), int(parts[2])
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} must be a number, not {shown(value)}")
    try:
        number: float = above / below
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, not {shown(value)}")
    return number


def said(value: Any) -> Any:
    """Settings in dataclasses, tuples and dicts as JSON can hold them, without what is as it is by default."""
    if is_dataclass(value):
        own = {entry.name: (getattr(value, entry.name), entry.default) for entry in fields(value)}
        return {name: said(found) for name, (found, default) in own.items() if found != default}
    if isinstance(value, tuple | list):
        return [said(part) for part in value]
    return value
