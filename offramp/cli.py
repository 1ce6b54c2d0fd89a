"""The command line. Every command: options in, one call, a table and maybe a JSON file out."""

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

# Before torch and numba are imported: spinning OpenMP threads slow each other down when anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from offramp.commands import bench, board, compare, demo, exits, files, hardware, network, report, runs, zoo
from offramp.errors import sentence
from offramp.stopping import Stopped, stoppable

__all__ = ["app", "command_line", "main"]

app = typer.Typer(
    help="Sparse, int8, early-exiting neural networks on an open two-sided sparse accelerator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_GROUPS: dict[str, dict[str, Callable[..., None]]] = {
    "All at once": {"demo": demo.demo},
    "Make a network": {
        "train": network.train,
        "compress": network.compress,
        "import": network.import_,
        "export": network.export,
        "exit": exits.exit_,
        "zoo": zoo.zoo,
    },
    "Make and run its program": {
        "compile": network.compile_,
        "evaluate": runs.evaluate,
        "simulate": runs.simulate,
        "verify": runs.verify,
    },
    "Make the hardware": {"generate": hardware.generate, "build": hardware.build},
    "Look closer": {
        "info": files.info,
        "diff": compare.diff,
        "disasm": files.disasm,
        "bench": bench.bench,
        "report": report.report,
    },
    "Tidy up": {"clean": files.clean},
}
_BOARD: dict[str, Callable[..., None]] = {
    "flash": board.flash,
    "selftest": board.selftest,
    "run": board.run,
    "bench": board.bench,
}


class KnownOptions(TyperCommand):
    """A command that knows which other ones have an option that it hasn't."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse options of other commands.

        Raises
        ------
        ValueError
            Naming the commands that have it.
        """
        words = args[: args.index("--")] if "--" in args else args
        for name in (word.partition("=")[0] for word in words if word.startswith("--")):
            having = [command for command, options in _options().items() if name in options]
            if having and (called := _called(ctx)) not in having:
                raise ValueError(f"{name} is no option of {called}, but of {', '.join(having)}")
        try:
            return list(super().parse_args(ctx, args))
        except BaseException:
            ctx.close()  # Nobody else ends what options have begun, if the context isn't made.
            raise


@cache
def command_line() -> Any:
    """The whole command line as Click's command; made once a process."""
    return get_command(app)


def _called(ctx: Any) -> str:
    """The name of the command that is called, with its group's."""
    grouped = ctx.parent is not None and ctx.parent.parent is not None
    return f"{ctx.parent.info_name} {ctx.info_name}" if grouped else str(ctx.info_name)


@cache
def _options() -> dict[str, set[str]]:
    """The options of every command."""
    commands: dict[str, Any] = dict(getattr(command_line(), "commands"))  # noqa: B009
    for group in [name for name, found in commands.items() if hasattr(found, "commands")]:
        commands |= {f"{group} {name}": found for name, found in commands.pop(group).commands.items()}
    return {
        name: {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for name, found in commands.items()
    }


def _version(wanted: bool) -> None:
    """Say the version, and nothing else."""
    if wanted:
        from offramp import __version__

        print(f"offramp {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    *,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    """Sparse, int8, early-exiting neural networks on an open two-sided sparse accelerator."""


for _panel, _commands in _GROUPS.items():
    for _name, _command in _commands.items():
        app.command(_name, cls=KnownOptions, rich_help_panel=_panel)(_command)

_boards = typer.Typer(help="Use a board: load its bitstream, test it, run programs on it.", no_args_is_help=True)
for _name, _command in _BOARD.items():
    _boards.command(_name, cls=KnownOptions)(_command)
app.add_typer(_boards, name="board", rich_help_panel="Make the hardware")


def main() -> None:
    """Run a command.

    Exit codes: 0 done; 1 done, and something differs or timing is not met; 2 a user's mistake, in one sentence; 3 our
    mistake, with a traceback; 128 + N stopped by signal N.
    """
    try:
        with stoppable():
            command_line()()
    except Stopped as stop:
        warnings.simplefilter("ignore")  # of hardware that is half described, which Amaranth warns of when it is gone
        print(f"offramp: {stop}", file=sys.stderr)
        sys.exit(stop.code)
    except Exception as error:
        text = sentence(error)
        if text is None:
            traceback.print_exc()
            sys.exit(3)
        print(f"offramp: {text}", file=sys.stderr)
        sys.exit(2)
