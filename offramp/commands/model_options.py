"""Options of every command that takes a model, and of the images for it."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from offramp.commands.common import PROGRAM
from offramp.files import paths
from offramp.files.kinds import MODELS, check_integer, check_model, check_weights, file_of
from offramp.terminal.options import DataFolder, config_name, ranged

if TYPE_CHECKING:
    from offramp.intake.request import ModelRequest

__all__ = [
    "AnyConfig",
    "AnyData",
    "AnyModel",
    "AnyModels",
    "ProgramFile",
    "check_readable",
    "image_source",
    "model_file",
    "runnable_file",
    "takes_model",
]


#: Which command makes a file of such a name.
_MAKES = {
    paths.TRAINED: "offramp train",
    paths.COMPRESSED: "offramp compress",
    paths.PROGRAM: "offramp compile",
}


def _numbers(text: str, option: str) -> tuple[float, ...]:
    """Numbers between commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} must be numbers with commas between them, not {text!r}") from None


def _shape(text: str | None) -> tuple[int, int, int] | None:
    """Height, width and channels; one number is that of a row's values, which are channels of one position."""
    if text is None:
        return None
    parts = text.split(",")
    is_whole = all(part.strip().isascii() and part.strip().isdigit() and int(part) for part in parts)
    if len(parts) not in (1, 3) or not is_whole:
        raise ValueError(
            "--shape must be HEIGHT,WIDTH,CHANNELS, three positive whole numbers, or one, of a network that takes rows "
            f"of values, not {text!r}"
        )
    height, width, channels = map(int, parts if len(parts) == 3 else ("1", "1", *parts))
    return height, width, channels


def check_readable(path: Path) -> None:
    """Refuse a file that can't be read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def model_file(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse a model that can't be read, or is a file of a kind that is no model."""
    if path is not None:
        try:
            check_model(path)
        except ValueError as error:
            if path.name not in _MAKES or path.exists():
                raise
            makes = f"{_MAKES[path.name]} makes it, and offramp zoo lists models that need no file"
            raise ValueError(f"{error}; {makes}") from error
        paths.reads(context, option, file_of(path))
    return path


def runnable_file(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The same, and refuse a trained network, which has no integers yet."""
    if path is not None:
        model_file(context, option, path)
        check_integer(path)
    return path


def _models(context: typer.Context, option: typer.CallbackParam, paths: list[Path] | None) -> list[Path]:
    """The same of several; without any, the program that was compiled last."""
    found = paths or [PROGRAM]
    for path in found:
        runnable_file(context, option, path)
    return found


def _weights(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse weights that can't be read, or are a file of another kind."""
    if path is not None:
        check_weights(path)
        paths.reads(context, option, path)
    return path


def image_source(context: typer.Context, option: typer.CallbackParam, name: str | None) -> str | None:
    """The file of images, or those in a folder, are read; a data set's name is no file."""
    if name is not None:
        from offramp.intake.samples import PICTURES, check

        check(name)
        path = Path(name)
        paths.reads(context, option, path, *(f"*/*{end}" for end in PICTURES if path.is_dir()))
    return name


ProgramFile = Annotated[
    Path, typer.Argument(help="Program file, or zoo:NAME, or zoo:NAME@CONFIG.", callback=model_file)
]
AnyModel = Annotated[Path, typer.Argument(help=f"Model: {MODELS}.", callback=runnable_file)]
AnyModels = Annotated[
    list[Path] | None,
    typer.Argument(help=f"Models: {MODELS}.", show_default="out/program.off", callback=_models),
]
AnyConfig = Annotated[str | None, config_name("a program's own; else the smallest that fits")]
AnyData = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Images: a data set, an .npz or .npy (floats, uint8 pixels, int8 codes), or a folder of images by class.",
        show_default="those the network was trained on; else random ones",
        callback=image_source,
    ),
]
_PANEL: dict[str, Any] = {"rich_help_panel": "Options of models from outside"}


def _model_options(
    *,
    output_tensor: Annotated[
        str | None,
        typer.Option(
            help="The output of a TFLite file that counts.", show_default="all if they can be exits", **_PANEL
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights for module.py:factory, as .safetensors or a state dictionary.",
            show_default="as made",
            callback=_weights,
            **_PANEL,
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="Images that set the ranges of a float model, or of maps left in float, named as for --data.",
            show_default="random ones",
            callback=image_source,
            **_PANEL,
        ),
    ] = None,
    ranges: Annotated[
        str,
        typer.Option(
            metavar="minmax|percentile|mse",
            help="Ranges of a float model: all values, all but the outermost, or those of least squared error.",
            **_PANEL,
        ),
    ] = "minmax",
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="H,W,C",
            help="Of an image of a float model; VALUES of a row.",
            show_default="that of the images",
            **_PANEL,
        ),
    ] = None,
    scale: Annotated[
        float,
        ranged(1e-6, 1e6, "What images are multiplied by first: 255 makes bytes of pixels in 0..1.", float, **_PANEL),
    ] = 1.0,
    mean: Annotated[
        str,
        typer.Option(metavar="M[,M...]", help="What is then subtracted: one number, or one a channel.", **_PANEL),
    ] = "0",
    deviation: Annotated[str, typer.Option(metavar="D[,D...]", help="What it is then divided by.", **_PANEL)] = "1",
    data_dir: DataFolder = None,
) -> None:
    """The options; :func:`takes_model` gives them to a command."""


def takes_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of :func:`_model_options`.

    The command line has these in place of the parameter ``request``, which is made of them, of ``model`` and ``seed``;
    or in place of ``requests``, one for each of ``models``.
    """
    hints = get_type_hints(_model_options, include_extras=True)
    own = inspect.signature(_model_options).parameters
    theirs = inspect.signature(command).parameters
    parameters = [each for name, each in theirs.items() if name not in ("request", "requests")]
    parameters += [each.replace(annotation=hints[name]) for name, each in own.items()]

    @wraps(command)
    def call(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in own}
        if "models" in given:
            command(**given, requests=[_request(model, given["seed"], **chosen) for model in given["models"]])
        else:
            command(**given, request=_request(given["model"], given["seed"], **chosen))

    call.__dict__["__signature__"] = inspect.Signature(parameters)
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def _request(
    model: Path,
    seed: int,
    *,
    shape: str | None,
    scale: float,
    mean: str,
    deviation: str,
    data_dir: Path | None,
    **options: Any,
) -> "ModelRequest":
    """What a user says of a model, checked.

    Raises
    ------
    ValueError
        When an option is no such number.
    """
    sizes, means, deviations = _shape(shape), _numbers(mean, "--mean"), _numbers(deviation, "--deviation")
    from offramp.intake.preprocessing import Preprocessing
    from offramp.intake.request import ModelRequest

    preprocessing = Preprocessing(scale=scale, mean=means, deviation=deviations)
    made = ModelRequest(model=str(model), shape=sizes, preprocessing=preprocessing, seed=seed, root=data_dir, **options)
    made.check()
    return made
