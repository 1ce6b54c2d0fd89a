"""The program of a model: for the config that is asked for, or the smallest preset that it fits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hw.compiler.compile import Balanced, Compilation
from hw.compiler.fitting import changes, fitting
from hw.config import PRESETS, AcceleratorConfig, preset
from hw.program.program import Program
from hw.rules import MisfitError, StructureError, require
from models.datasets.sources import Progress
from models.integer.activity import activity
from offramp.intake import samples
from offramp.intake.model import Model, read
from offramp.intake.request import ModelRequest
from offramp.intake.samples import Samples
from offramp.measure.workloads import Workload

__all__ = ["TRIED", "ConfigChoice", "chosen", "images_of", "of_model", "program_of"]

#: Presets that are tried, the smallest first: by multipliers, then by memories.
TRIED = ("single", "small", "small-85f", "medium-85f", "base-85f")
#: What to do about a network that no config runs.
_EVERY_CONFIG = "that holds for every config: change the network"


def program_of(
    model: Model, config: str | None, progress: Progress | None = None, *, among: Sequence[str] | None = None
) -> tuple[Program, str]:
    """A model's program, and the name of its config.

    Parameters
    ----------
    config : str or None
        A preset, also with other sizes; None: the one that the model was made for, else the first of ``among`` that
        it fits.
    progress : Progress, optional
        Told what is tried.
    among : sequence of str
        Presets that are tried; :data:`TRIED` if nothing is said.

    Raises
    ------
    ValueError
        When the model is a program for another config, or the network doesn't fit: the message has the reason of
        each preset that was tried, and a config that it fits (:func:`advice`). What no config runs is refused by the
        first.
    """
    if model.program is not None:
        name = config or _name(model.program.config)
        require(
            config is None or preset(config) == model.program.config,
            f"{model.origin} is for the config {_name(model.program.config)}, not {config}: compile its network again",
        )
        return model.program, name
    found = chosen(model, config, progress, among=among)
    if found.refusal is not None:
        raise found.refusal
    return found.compilation.program(), found.config


@dataclass(frozen=True, kw_only=True)
class ConfigChoice:
    """What came of compiling a model's network for a config that was asked for, or for the smallest that it fits.

    Attributes
    ----------
    config : str
        Its name; where no config fits, the last that was tried.
    compilation : Compilation
        For this config.
    refusal : MisfitError or None
        Why the network doesn't fit: the reason of each config that was tried, and what to do about it.
    advice : str
        What to do about it; empty where it fits.
    """

    config: str
    compilation: Compilation
    refusal: MisfitError | None = None
    advice: str = ""


def chosen(
    model: Model, config: str | None, progress: Progress | None = None, *, among: Sequence[str] | None = None
) -> ConfigChoice:
    """Compile a model's network; the parameters are those of :func:`program_of`, and no misfit is raised."""

    def report(text: str) -> None:
        if progress is not None:
            progress(0, 0, text)

    config = config or model.config
    balanced, refusals = Balanced(model.network, model.activity), dict[str, MisfitError]()
    for name in (among or TRIED) if config is None else (config,):
        found = balanced.compilation(preset(name), report)
        refusal = found.refusal
        if refusal is None:
            return ConfigChoice(config=name, compilation=found)
        if isinstance(refusal, StructureError):
            told = StructureError(f"{refusal}; {_EVERY_CONFIG}")
            return ConfigChoice(config=name, compilation=found, refusal=told, advice=_EVERY_CONFIG)
        refusals[name] = refusal
    reasons = "; ".join(f"{name}: {error}" for name, error in refusals.items())
    hint = advice(model, config or TRIED[-1], refusals[name], report)
    tried = f"none of {', '.join(among)}" if among else "no preset"
    missed = "" if config is not None else f"{model.network.name} fits {tried}; "
    return ConfigChoice(config=name, compilation=found, refusal=MisfitError(f"{missed}{reasons}; {hint}"), advice=hint)


def advice(
    model: Model | Workload, config: str, refusal: MisfitError, report: Callable[[str], None] = lambda text: None
) -> str:
    """What to do about a model that doesn't fit a config: the smallest preset that it fits; without one, the config
    or else the largest preset with what it lacks; to change the network where no config runs it.

    Parameters
    ----------
    config : str
        A preset, also with other sizes.
    refusal : MisfitError
        Why the model doesn't fit it.
    report : function
        Called with what begins.
    """
    if isinstance(refusal, StructureError):
        return _EVERY_CONFIG
    base = config.partition(",")[0]
    balanced = Balanced(model.network, model.activity)
    for name in TRIED[TRIED.index(base) + 1 :] if base in TRIED else TRIED:
        report(f"a larger config: {name}")
        if balanced.compilation(preset(name)).refusal is None:
            return f"it fits --config {name}"
    # What the memories of a few PEs can't hold, those of many may.
    bases = {base: config}
    bases.setdefault(TRIED[-1].partition(",")[0], TRIED[-1])
    for base, name in bases.items():
        lacking = preset(name)
        found = fitting(model.network, lacking, model.activity, report)
        if found is not None:
            fits = f"it fits --config {','.join([base, *changes(PRESETS[base], found)])}"
            reads = found.loader > lacking.loader
            return f"{fits}: a loader reads weights from external memory during the run" if reads else fits
    tried = " or ".join(bases)
    return f"nor does it fit {tried} with the largest memories that a config may have: make the network smaller"


def images_of(
    model: Model, request: ModelRequest, data: str | None, count: int, progress: Progress | None = None
) -> Samples:
    """Images for a model: those that are asked for, else of the data set it was trained on, else random ones.

    Raises
    ------
    ValueError
        As :func:`offramp.intake.samples.read`, or when labels are of classes that the network doesn't have.
    """
    found = samples.read(
        data or model.data,
        model.network.input.shape,
        count=count,
        seed=request.seed,
        root=request.root,
        preprocessing=request.preprocessing,
        progress=progress,
    )
    found.check_labels(model.network.classes)
    return found


def of_model(
    request: ModelRequest, data: str | None, images: int, progress: Progress | None = None
) -> tuple[Model, Samples, Workload]:
    """A model, its images, and both to be measured."""
    model = read(request)
    samples = images_of(model, request, data, images, progress)
    codes = samples.codes(model.network)
    return model, samples, Workload(network=model.network, codes=codes, activity=activity(model.network, codes))


def _name(config: AcceleratorConfig) -> str:
    """Of a preset, or what tells a config apart from others."""
    return next((name for name, known in PRESETS.items() if known == config), config.digest()[:12])
