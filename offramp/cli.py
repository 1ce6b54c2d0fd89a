"""The command line. Every command: options in, one call, a table and maybe a JSON file out."""

import os
import signal
import sys
import traceback
import warnings
from functools import cache, partial
from io import TextIOWrapper
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand
from typer.main import get_command

# Before torch and numba are imported: spinning OpenMP threads slow each other down when anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from offramp.files import paths
from offramp.terminal.command_group import CommandGroup, PlainValues, command
from offramp.terminal.errors import named_stream, sentence
from offramp.terminal.stopping import Stopped, stoppable

__all__ = ["app", "command_line", "commands", "main"]

#: The functions in ``offramp.commands`` that are commands, by the panel in which help shows them.
_PANELS = {
    "All at once": {"demo": "demo.demo"},
    "Make a network": {
        "train": "network.train",
        "compress": "network.compress",
        "import": "network.import_",
        "export": "network.export",
        "zoo": "zoo.zoo",
    },
    "Make and run its program": {
        "compile": "network.compile_",
        "evaluate": "runs.evaluate",
        "simulate": "runs.simulate",
        "verify": "runs.verify",
    },
    "Make the hardware": {"generate": "hardware.generate", "build": "hardware.build"},
    "Look closer": {
        "info": "files.info",
        "diff": "compare.diff",
        "disasm": "files.disasm",
        "bench": "bench.bench",
        "report": "report.report",
    },
    "Tidy up": {"clean": "files.clean"},
}
_EXIT = {"add": "exits.add"}
_BOARD = {"flash": "board.flash", "selftest": "board.selftest", "run": "board.run", "bench": "board.bench"}


class KnownOptions(PlainValues, TyperCommand):
    """A command that knows which other ones have an option that it hasn't."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse options of other commands, and those that would write over what is read.

        Raises
        ------
        ValueError
            Naming the commands that have it; or as :func:`offramp.files.paths.check`.
        """
        words, own = args[: args.index("--")] if "--" in args else args, _options_of(self)
        for name in (word.partition("=")[0] for word in words if word.startswith("--")):
            having = [] if name in own else [other for other, found in commands().items() if name in _options_of(found)]
            if having:
                raise ValueError(f"{name} is no option of {_called(ctx)}, but of {', '.join(having)}")
        try:
            left = list(super().parse_args(ctx, args))
            paths.check(ctx)
            return left
        except BaseException:
            ctx.close()  # Nobody else ends what options have begun, if the context isn't made.
            raise


class _Exits(CommandGroup):
    """Those of exits."""

    makers: ClassVar = {name: partial(command, name, path, KnownOptions) for name, path in _EXIT.items()}


class _Boards(CommandGroup):
    """Those of boards."""

    makers: ClassVar = {name: partial(command, name, path, KnownOptions) for name, path in _BOARD.items()}


class _Program(CommandGroup):
    """All commands."""

    makers: ClassVar = {
        **{
            name: partial(command, name, path, KnownOptions, panel)
            for panel, functions in _PANELS.items()
            for name, path in functions.items()
        },
        "exit": lambda: get_command(_exits),
        "board": lambda: get_command(_boards),
    }


@cache
def command_line() -> Any:
    """The whole command line as Click's command; made once a process."""
    return get_command(app)


@cache
def commands() -> dict[str, Any]:
    """Every command by its name, with its group's; all of them are made."""
    found = dict(command_line().commands)
    groups = {name: found.pop(name) for name in ("exit", "board")}
    return found | {f"{name} {of_it}": each for name, group in groups.items() for of_it, each in group.commands.items()}


def _called(ctx: Any) -> str:
    """The name of the command that is called, with its group's."""
    grouped = ctx.parent is not None and ctx.parent.parent is not None
    return f"{ctx.parent.info_name} {ctx.info_name}" if grouped else str(ctx.info_name)


def _options_of(found: Any) -> set[str]:
    """The options of a command."""
    return {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}


def _version(wanted: bool) -> None:
    """Say the version, and nothing else."""
    if wanted:
        from offramp import __version__

        with named_stream():
            print(f"offramp {__version__}")
        raise typer.Exit


def _tell(text: str) -> None:
    """Say it on standard error; where that can't be written to, only the exit code tells."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # for what Python still has to write


_SETTINGS: dict[str, Any] = {"no_args_is_help": True, "add_completion": False, "pretty_exceptions_enable": False}
app = typer.Typer(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]}, **_SETTINGS)
_exits: typer.Typer = typer.Typer(name="exit", cls=_Exits, **_SETTINGS)
_boards: typer.Typer = typer.Typer(name="board", cls=_Boards, **_SETTINGS)


@app.callback()
def _program(
    *,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    """Sparse, int8, early-exiting neural networks on an open two-sided sparse accelerator."""


@_exits.callback(rich_help_panel="Make a network")
def _exit() -> None:
    """Change the early exits of a finished network."""


@_boards.callback(rich_help_panel="Make the hardware")
def _board() -> None:
    """Use a board: load its bitstream, test it, run programs on it."""


def main() -> None:
    """Run a command.

    Exit codes: 0 done; 1 done, and something differs or timing is not met; 2 a user's mistake, a tool that fails or a
    place that can't be written to, in one sentence; 3 our mistake, with a traceback; 128 + N stopped by signal N, which
    is SIGPIPE when nobody reads the output any more.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # As of standard error: not every encoding has all characters
    try:
        with stoppable():
            code = command_line()(
                prog_name="offramp", standalone_mode=False
            )  # Typer's own way ends in a box of several lines
            if sys.stdout is not None:
                with named_stream():
                    sys.stdout.flush()
    except Stopped as stop:
        warnings.simplefilter("ignore")  # of hardware that is half described, which Amaranth warns of when it is gone
        _tell(f"offramp: {stop}")
        sys.exit(stop.code)
    except (SystemExit, BrokenPipeError) as error:  # The former of Rich and Typer, which saw the latter
        if not isinstance(error.__context__ if isinstance(error, SystemExit) else error, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python still has to write
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        text = sentence(error)
        if text is None:
            _tell(traceback.format_exc().rstrip("\n"))
            sys.exit(3)
        if text:  # None of a command line without arguments, whose help was shown
            _tell(f"offramp: {text}")
        sys.exit(2)
    sys.exit(code or 0)  # None of a command that returned
