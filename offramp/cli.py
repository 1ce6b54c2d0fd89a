"""The command line. Every command: options in, one call, a table and maybe a JSON file out."""

import os
import sys
import traceback

import typer

# Before torch and numba are imported: spinning OpenMP threads slow each other down when anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from offramp.commands import bench, demo, files, hardware, methods, network, runs
from offramp.errors import sentence
from offramp.stopping import Stopped, stoppable

__all__ = ["app", "main"]

app = typer.Typer(
    help="Sparse, int8, early-exiting neural networks on an open two-sided sparse accelerator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(network.train)
app.command()(network.compress)
app.command("compile")(network.compile_)
app.command()(runs.evaluate)
app.command()(runs.simulate)
app.command()(runs.verify)
app.command()(hardware.generate)
app.command()(hardware.build)
app.command()(bench.bench)
app.command()(files.info)
app.command()(files.disasm)
app.command()(demo.demo)
app.command()(methods.zoo)
app.command()(methods.report)


def main() -> None:
    """Run a command.

    Exit codes: 0 done; 1 done, and something differs or timing is not met; 2 a user's mistake, in one sentence; 3 our
    mistake, with a traceback; 128 + N stopped by signal N.
    """
    try:
        with stoppable():
            app()
    except Stopped as stop:
        print(f"offramp: {stop}", file=sys.stderr)
        sys.exit(stop.code)
    except Exception as error:
        text = sentence(error)
        if text is None:
            traceback.print_exc()
            sys.exit(3)
        print(f"offramp: {text}", file=sys.stderr)
        sys.exit(2)
