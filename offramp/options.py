"""What options of the command line mean, and how they are named: the same everywhere."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fpga.boards import CLOCKS_MHZ
from hw.config import PRESETS, preset
from hw.network.exits import DEFAULT, LIMITS, Conditions
from hw.output import STANDARD_OUTPUT, check_file, check_folder
from hw.rules import check_identifier
from offramp.console import diverted

__all__ = [
    "MOST_IMAGES",
    "MOST_SEED",
    "SIZES",
    "Audit",
    "Baud",
    "BoardName",
    "Clock",
    "ConfigName",
    "ConstantTime",
    "Count",
    "Data",
    "DataFolder",
    "Deadline",
    "Json",
    "Out",
    "ProgramFile",
    "Seed",
    "WavesFile",
    "checked_config",
    "checked_file",
    "conditions",
    "identifier",
    "optional_folder",
    "output_file",
    "output_folder",
    "ranged",
    "share",
]

#: Of a seed and of images: what every generator and placer takes, and more than any test set has.
MOST_SEED, MOST_IMAGES = (1 << 31) - 1, 1_000_000


def ranged(lowest: float, highest: float, text: str, kind: type[int] | type[float] = int, **options: Any) -> Any:
    """An option that takes a number in a range; anything else is refused in a sentence with option and value."""
    where = f"{lowest}..{highest}"

    def checked(option: typer.CallbackParam, value: Any) -> float | None:
        if value is None:
            return None
        try:
            number = kind(value)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{option.opts[0]} must be {what} in {where}, not {value!r}") from None
        if not lowest <= number <= highest:
            raise ValueError(f"{option.opts[0]} must be in {where}, not {number}")
        return number

    return typer.Option(help=text, metavar=where, parser=str, callback=checked, **options)


def share(text: str, option: str) -> float:
    """A share above 0 and at most 1, given as a number or in percent.

    Raises
    ------
    ValueError
        When it is none.
    """
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = float("nan")
    if not 0 < found <= 1:
        raise ValueError(f"{option} must be above 0 and at most 1, or in percent, not {text!r}")
    return found


def output_file(context: typer.Context, path: Path | None) -> Path | None:
    """Refuse a file that can't be written, before the work; with ``-`` standard output is the file's alone."""
    if path is None:
        return None
    if path == STANDARD_OUTPUT:
        if path in context.params.values():
            raise ValueError("only one option may be -: standard output holds one file")
        context.with_resource(diverted())
    check_file(path)
    return path


def waves_file(context: typer.Context, path: Path | None) -> Path | None:
    """Refuse a waveform that can't be written, or its layout beside it, before the work."""
    if path is not None:
        if path.suffix != ".fst":
            raise ValueError(f"--waves must name a file that ends in .fst, not {str(path)!r}")
        check_file(path.with_suffix(".gtkw"))
    return output_file(context, path)


def identifier(name: str) -> str:
    """Refuse a name that a module of Verilog can't have."""
    check_identifier(name)
    return name


def output_folder(path: Path) -> Path:
    """Refuse a folder that can't be written into, before the work."""
    check_folder(path)
    return path


def optional_folder(path: Path | None) -> Path | None:
    """The same for a folder that may be left out."""
    return None if path is None else output_folder(path)


def checked_file(path: Path) -> Path:
    """Refuse a file that can't be read, or is none of ours and no model of a kind that is known."""
    from offramp.kinds import OUTSIDE, is_factory, kind_of

    if kind_of(path) == OUTSIDE and not is_factory(path):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    return path


def checked_config(name: str | None) -> str | None:
    """Refuse a config that there isn't."""
    if name is not None:
        preset(name)
    return name


def checked_data(name: str) -> str:
    """Refuse a data set that there isn't."""
    from models.datasets.splits import NAMES

    if name not in NAMES:
        raise ValueError(f"data must be one of {', '.join(NAMES)}, not {name!r}")
    return name


Data = Annotated[str, typer.Option(help="Data set: digits, fashion-mnist or cifar10.", callback=checked_data)]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="OFFRAMP_DATA", help="Data folder.", show_default="data in the current folder"),
]
Seed = Annotated[int, ranged(0, MOST_SEED, "Of everything that is drawn at random.")]
Out = Annotated[Path, typer.Option(help="Folder for the files it writes.", callback=output_folder)]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Write the result to this file as well; -: to standard output, tables go to standard error.",
        show_default="no file",
        callback=output_file,
    ),
]
WavesFile = Annotated[
    Path | None,
    typer.Option(
        "--waves",
        metavar="FILE.fst",
        help="Record the RTL in this file; a layout for GTKWave, FILE.gtkw, goes beside it.",
        show_default="nothing is recorded",
        callback=waves_file,
    ),
]
#: Presets with their sizes, in words.
SIZES = ", ".join(f"{name} ({config.cores}x{config.pes} PEs)" for name, config in PRESETS.items())
ConfigName = Annotated[
    str,
    typer.Option(
        "--config",
        help=f"Accelerator config, cores x PEs: {SIZES}; sizes may follow: base,lanes=1.",
        callback=checked_config,
    ),
]
ProgramFile = Annotated[
    Path, typer.Argument(help="Program file, or zoo:NAME, or zoo:NAME@CONFIG.", callback=checked_file)
]
BoardName = Annotated[str, typer.Option(help="Board to build for.")]
Clock = Annotated[
    float, ranged(*CLOCKS_MHZ, "Clock of the bitstream, MHz; the board's PLL must be able to make it.", float)
]
Baud = Annotated[int, ranged(1200, 12_000_000, "Bits per second of the bitstream's serial line.")]
Deadline = Annotated[
    int,
    ranged(
        0,
        LIMITS["deadline"],
        "Cycles after which a run leaves at the next exit, whatever its margin; 0: none. In constant time: cycles that "
        "every run takes; 0: those of the worst case.",
    ),
]
Audit = Annotated[float, ranged(0, 1, "Share of the runs that go on past their first exit, in steps of 1/256.", float)]
ConstantTime = Annotated[
    bool, typer.Option("--constant-time", help="All runs go on to the last exit and take equally long.")
]
Count = Annotated[int, ranged(1, MOST_IMAGES, "Test images.")]


def conditions(deadline: int, audit: float, constant: bool, seed: int) -> Conditions:
    """Under what conditions images run; which ones are audited follows from the seed."""
    if not (deadline or audit or constant):
        return DEFAULT
    most = LIMITS["audit"]
    runs = round(most * audit)
    if audit and not runs:
        raise ValueError(f"--audit must be 0 or nearer to 1/{most} than to 0, not {audit}")
    return Conditions(deadline=deadline, audit=runs, seed=seed % (1 << 16), constant=constant)
