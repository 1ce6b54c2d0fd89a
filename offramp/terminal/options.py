"""What options of the command line mean, and how they are named: the same everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fpga.boards import BAUD, BOARDS, CLOCKS_MHZ, LINKS
from fpga.boards import board as board_of
from fpga.links import HOST_LINKS, link_of
from hw.config import PRESETS, preset
from hw.network.exits import DEFAULT, LARGEST, Conditions
from hw.output import STANDARD_OUTPUT, check_file, check_folder
from hw.rules import check_identifier
from offramp.files import paths
from offramp.terminal.console import diverted

__all__ = [
    "MOST_IMAGES",
    "MOST_SEED",
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
    "LinkName",
    "Seed",
    "WavesFile",
    "board_link",
    "check_baud",
    "check_named",
    "checked_config",
    "checked_link",
    "conditions",
    "config_name",
    "identifier",
    "network_file",
    "off_file",
    "out",
    "out_file",
    "output_file",
    "output_folder",
    "ranged",
    "share",
]

#: What the option for a command's files is called, everywhere.
OUT = ("--out", "-o")
#: Presets with their sizes, in words.
_SIZES = ", ".join(f"{name} ({config.cores}x{config.pes} PEs)" for name, config in PRESETS.items())
#: Of a seed and of images: what every generator and placer takes, and more than any test set has.
MOST_SEED, MOST_IMAGES = (1 << 31) - 1, 1_000_000


def ranged(lowest: float, highest: float, text: str, kind: type[int] | type[float] = int, **options: Any) -> Any:
    """An option that takes a number in a range; anything else is refused in a sentence with option and value."""
    where = f"{lowest:.10g}..{highest:.10g}"

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


def output_file(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse a file that can't be written, before the work; with ``-`` standard output is the file's alone."""
    if path is None:
        return None
    if path == STANDARD_OUTPUT:
        if path in context.params.values():
            raise ValueError("only one option may be -: standard output holds one file")
        context.with_resource(diverted())
    check_file(path)
    paths.writes(context, option, path)
    return path


def check_named(option: typer.CallbackParam, path: Path) -> None:
    """Refuse ``-``, of an option whose files don't go to standard output.

    Raises
    ------
    ValueError
        Naming the option.
    """
    if path == STANDARD_OUTPUT:
        raise ValueError(
            f"{option.opts[0]} must name a file or a folder, not -: the result goes to standard output with --json -"
        )


def network_file(context: typer.Context, option: typer.CallbackParam, path: Path) -> Path | None:
    """Refuse a file for a network that can't be written, before the work; none goes to standard output."""
    check_named(option, path)
    return output_file(context, option, path)


def waves_file(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse a waveform that can't be written, or its layout beside it, before the work."""
    if path is not None:
        if path.suffix != ".fst":
            raise ValueError(f"--waves must name a file that ends in .fst, not {str(path)!r}")
        check_file(path.with_suffix(".gtkw"))
        paths.writes(context, option, path.with_suffix(".gtkw"))
    return output_file(context, option, path)


def identifier(name: str) -> str:
    """Refuse a name that a module of Verilog can't have."""
    check_identifier(name)
    return name


def output_folder(text: str, *names: str, **given: Any) -> Any:
    """An option that takes a folder for files of such names (:func:`offramp.files.paths.writes`).

    A folder that can't be written into is refused before the work, and so is the name of a file of ours.
    """

    def checked(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
        if path is not None:
            check_named(option, path)
            if paths.is_ours(path):
                raise ValueError(f"{option.opts[0]} must name a folder, not {path}: the files in it have fixed names")
            check_folder(path)
            paths.writes(context, option, path, *names)
        return path

    return typer.Option(*given.pop("called", ()), help=text, callback=checked, **given)


def out(*names: str, text: str = "Folder for the files it writes.") -> Any:
    """The option for the folder of a command that writes files of such names."""
    return output_folder(text, *names, called=OUT)


def out_file(text: str, check: Callable[..., Path | None] = output_file) -> Any:
    """The option for what a command writes: a file, or what the check takes."""
    return typer.Option(*OUT, help=text, callback=check)


def off_file(*names: str, beside: str | None = None) -> Any:
    """The option of a command that writes one file of ours: the file, or a folder where it has the first of the names
    that suits; ``beside`` are further files in the folder.
    """

    def checked(context: typer.Context, option: typer.CallbackParam, path: Path) -> Path:
        check_named(option, path)
        if paths.is_ours(path):
            check_file(path)
            paths.writes(context, option, path)
        else:
            check_folder(path)
            paths.writes(context, option, path, *names)
        if beside is not None:
            paths.writes(context, option, path.parent if paths.is_ours(path) else path, beside)
        return path

    return out_file(f"File to write, ending in {paths.OURS}; or a folder for {' or '.join(names)}.", checked)


def checked_config(name: str | None) -> str | None:
    """Refuse a config that there isn't."""
    if name is not None:
        preset(name)
    return name


def config_name(default: bool | str = True) -> Any:
    """The option that names an accelerator config; ``default`` says in words which one is taken without it."""
    return typer.Option(
        "--config",
        help=f"Accelerator config, cores x PEs: {_SIZES}; sizes may follow: base-85f,lanes=2.",
        show_default=default,
        callback=checked_config,
    )


def checked_board(name: str) -> str:
    """Refuse a board that there isn't."""
    board_of(name)
    return name


def board_link(name: str) -> str:
    """Refuse a link that no bitstream has."""
    if name not in LINKS:
        raise ValueError(f"--link must be one of {', '.join(LINKS)}, not {name!r}")
    return name


def check_baud(link: str, baud: int) -> None:
    """Refuse a rate for USB, which is as fast as its bus."""
    if link != "serial" and baud != BAUD:
        raise ValueError(f"--baud is for serial links, and {link} is as fast as its bus: leave out --baud {baud}")


def checked_link(name: str) -> str:
    """Refuse a link that there isn't."""
    link_of(name, BAUD)
    return name


def checked_data(name: str) -> str:
    """Refuse a data set that there isn't."""
    from models.datasets.splits import NAMES

    if name not in NAMES:
        raise ValueError(f"data must be one of {', '.join(NAMES)}, not {name!r}")
    return name


def data_folder(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The files of data sets in it are read."""
    from models.datasets.sources import DATA_FILES
    from models.datasets.sources import data_folder as folder_of

    paths.reads(context, option, folder_of(path), *DATA_FILES)
    return path


Data = Annotated[str, typer.Option(help="Data set: digits, fashion-mnist or cifar10.", callback=checked_data)]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="OFFRAMP_DATA",
        help="Data folder.",
        show_default="data in the current folder",
        callback=data_folder,
    ),
]
Seed = Annotated[int, ranged(0, MOST_SEED, "Of everything that is drawn at random.")]
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
ConfigName = Annotated[str, config_name()]
BoardName = Annotated[str, typer.Option(help=f"Board: {', '.join(BOARDS)}.", callback=checked_board)]
Clock = Annotated[
    float, ranged(*CLOCKS_MHZ, "Clock of the bitstream, MHz; the board's PLL must be able to make it.", float)
]
LinkName = Annotated[
    str,
    typer.Option(
        help=f"Link between host and board: {', '.join(HOST_LINKS)}; usb-high for ECPIX-5, usb-full for other boards.",
        callback=checked_link,
    ),
]
Baud = Annotated[int, ranged(1200, 12_000_000, "Bits per second of the bitstream's serial line.")]
Deadline = Annotated[
    int,
    ranged(
        0,
        LARGEST["deadline"],
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
    most = LARGEST["audit"]
    runs = round(most * audit)
    if audit and not runs:
        raise ValueError(f"--audit must be 0 or nearer to 1/{most} than to 0, not {audit}")
    return Conditions(deadline=deadline, audit=runs, seed=seed % (1 << 16), constant=constant)
