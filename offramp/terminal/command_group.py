"""Commands that are imported when they are called, and read their values without long imports."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib import import_module
from inspect import getdoc, signature
from pathlib import Path
from typing import Any, ClassVar, get_args

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from offramp.terminal.errors import named_stream

__all__ = ["CommandGroup", "PlainValues", "command"]


class _Plain:
    """Reads the values of a parameter: they stay what they are, or text becomes a path.

    Typer would import Pydantic for it, which takes longer than most commands; the values become the same.
    """

    def __init__(self, kind: Callable[[Any], Any]) -> None:
        self._kind = kind

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """One value, None, or a list of values of a parameter that takes several."""
        if param.multiple or param.nargs == -1:
            return [self._read(each, param) for each in value or ()]
        return None if value is None else self._read(value, param)

    def _read(self, value: Any, param: Any) -> Any:
        if self._kind is Path and not str(value):  # which would be the current folder
            raise ValueError(f"{param.opts[0]} must name a file or a folder, not ''")
        return self._kind(value)


def _plain(command: Any, parameters: list[Any]) -> list[Any]:
    """Let the parameters of a command be read plainly: as its function has them, the others are flags."""
    hints = signature(command.callback).parameters
    for parameter in parameters:
        types = _types(hints[parameter.name].annotation) if parameter.name in hints else {bool}
        parameter.display_type_rich = partial(_type_of, parameter)
        parameter.get_runtime_param = partial(_Plain, next((kind for kind in (bool, Path) if kind in types), str))
    return parameters


#: How help calls the types of values that Typer names as Python does.
_WORDS = {"<bool>": "", "<str>": "<text>", "<list[str]>": "<text>", "<list[Path]>": "<path>"}


def _type_of(parameter: Any, ctx: Any) -> str:
    """What help says of a parameter's type: nothing of a flag, which takes no value."""
    found = type(parameter).display_type_rich(parameter, ctx)
    return _WORDS.get(found, found)


def _types(hint: Any) -> set[Any]:
    """A type and all that it is made of."""
    return {hint}.union(*map(_types, get_args(hint)))


class _OnDemand(Mapping[str, Any]):
    """Values that are made when they are asked for, once; ``makers`` are functions that make them, by name."""

    def __init__(self, makers: Mapping[str, Callable[[], Any]]) -> None:
        self._makers = {name: cache(maker) for name, maker in makers.items()}

    def __getitem__(self, name: str) -> Any:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def command(name: str, path: str, kind: type[TyperCommand], panel: str | None = None) -> Any:
    """The command of a function, which is imported now.

    Parameters
    ----------
    path : str
        File and name of the function, in ``offramp.commands``, with a dot between them.
    kind : type
        Of the command.
    panel : str or None
        In which help shows it.
    """
    module, function = path.split(".")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    called = getattr(import_module(f"offramp.commands.{module}"), function)
    alone.command(name, cls=kind, help=_flowing(getdoc(called) or ""), rich_help_panel=panel)(called)
    return get_command(alone)


def _flowing(text: str) -> str:
    """Paragraphs without the line breaks of the source, which help would keep."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _fold_help() -> None:
    """Let help say every word whole: where there is no room for one, Rich's tables would cut it."""
    from rich.columns import Columns
    from typer import rich_utils

    def folded(texts: list[Any]) -> Columns:
        for text in texts:
            text.overflow = "fold"
        return Columns(texts)

    vars(rich_utils)["Columns"] = folded


#: Commands and groups have no class in common that Typer shows.
_Base: Any = object


class PlainValues(_Base):
    """A command or a group whose values are read plainly, and whose help says what it can't be written to."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters."""
        return _plain(self, super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        _fold_help()
        with named_stream():
            super().format_help(ctx, formatter)


class CommandGroup(PlainValues, TyperGroup):
    """Commands that are made when they are called.

    Attributes
    ----------
    makers : dict of str to function
        What makes each command, by its name; of every subclass.
    """

    makers: ClassVar[dict[str, Callable[[], Any]]]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = _OnDemand(self.makers)
