"""A model from its source to the RTL, stage by stage: what each computes of the same images, and where they part."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hw.network.dense_products import source_products
from hw.network.exits import DEFAULT, Conditions
from hw.program.program import Program
from models.datasets.sources import Progress
from models.frontends.runtimes import UnableError
from models.integer import golden
from offramp.files.memories import memories_dict
from offramp.intake.by_layer import by_layer
from offramp.intake.model import Model
from offramp.intake.reference import Agreement, named
from offramp.intake.samples import Samples
from offramp.measure.measure import cycle_statistics
from offramp.rtl import run as rtl
from offramp.rtl.waves import Waves
from sim import Simulation, simulate, worst_case

__all__ = ["StageResult", "verify_model"]

#: Stage of a float model's own arithmetic.
_FLOAT = "float"


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One way of computing the images, compared with the golden model.

    Parameters
    ----------
    stage : str
    images : int
    compared : str or None
        What of each image is compared with the golden model; None of that itself.
    accuracy : float or None
        Share of right classes, 0..1; None without labels, or where it was on a sample only.
    equal : float or None
        Share of images that are equal in all that is compared.
    largest, largest_logit : int or None
        As those of :class:`offramp.intake.reference.Agreement`; None where only classes are compared.
    share : float or None
        Of values that differ, 0..1.
    first : str or None
        First layer that differs.
    """

    stage: str
    images: int
    compared: str | None
    accuracy: float | None
    equal: float | None = None
    largest: int | None = None
    largest_logit: int | None = None
    share: float | None = None
    first: str | None = None


def verify_model(
    model: Model,
    program: Program,
    samples: Samples,
    *,
    rtl_images: int,
    simulator: str = "verilator",
    waves: Waves | None = None,
    conditions: Conditions = DEFAULT,
    seed: int = 0,
    netlist: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compute images in every way there is, and compare.

    Parameters
    ----------
    rtl_images : int
        The first of the images that the RTL computes as well; 0: it isn't run.
    netlist : str, optional
        As for :func:`offramp.rtl.simulators.build`.

    Returns
    -------
    dict
        ``notes`` (of the model, and why a runtime couldn't run it), ``stages`` (:class:`StageResult`), ``values_equal``
        and ``cycles_equal`` (of RTL, golden model and simulator; None if the RTL wasn't run), ``reference_equal`` (None
        without a runtime of the source), ``agrees`` (whether all that must be equal is), ``accuracy_float``,
        ``accuracy_reference``, ``accuracy_golden`` (None without labels), ``cycles``, ``share_of_limit``,
        ``macs_per_multiplier_cycle`` (dense ones), ``memories`` (:func:`offramp.files.memories.memories_dict`),
        ``by_layer`` (:func:`offramp.intake.by_layer.by_layer`), ``per_image``, ``rtl`` (all that
        :func:`offramp.rtl.run.verify` says, or None).
    """
    codes = samples.codes(model.network)
    made = golden.run(model.network, codes, keep=False)
    stages, told, equal = _by_class(model, samples, codes, made.classes)
    if not model.has_source:
        told.append("the file holds no source to compare with: verify what it was made of as well")
    agreement, runtime = None, model.runtime
    while agreement is None and runtime is not None:
        try:
            agreement = runtime.compare(codes, progress)
            stages.append(_of_runtime(runtime.name, agreement, samples))
            equal[runtime.name] = agreement.same.tolist()
            if not agreement.equal and not runtime.exact:
                told.append(
                    f"{runtime.name}: an image counts as equal only if every value of every tensor is, so few may be; "
                    "verify --layers says how far each layer is"
                )
        except UnableError as error:
            told.append(str(error))
            runtime = runtime.otherwise
    timing = simulate(program, codes, conditions=conditions)
    usual = timing if conditions == DEFAULT else simulate(program, codes)
    same = (usual.classes == made.classes) & (usual.exit_index == made.exit_index)
    accuracy = {each.stage: each.accuracy for each in stages}
    golden_accuracy, simulated = (_accuracy(found.classes, samples.labels) for found in (made, timing))
    equal["simulator"] = same.tolist()
    stages += [
        StageResult(stage="golden", images=len(codes), compared=None, accuracy=golden_accuracy),
        StageResult(
            stage="simulator",
            images=len(codes),
            compared="class, exit",
            accuracy=simulated,
            equal=float(same.mean()),
        ),
    ]
    ran: dict[str, Any] | None = None
    if rtl_images:
        part = codes[:rtl_images]
        ran = rtl.verify(
            [(program, part)],
            simulator=simulator,
            waves=waves,
            seed=seed,
            conditions=conditions,
            netlist=netlist,
            progress=progress,
        )
        hardware, wrong = rtl.hardware_name(netlist), ran["differing"]
        equal[hardware] = [number not in wrong if number < len(part) else None for number in range(len(codes))]
        stages.append(_of_hardware(hardware, ran, len(part)))
    allowed = agreement is None or agreement.equal or not (runtime and runtime.exact)
    return {
        "notes": [*model.notes, *told],
        "stages": [asdict(stage) for stage in stages],
        "values_equal": bool(ran["values_equal"] and same.all()) if ran else None,
        "cycles_equal": ran["cycles_equal"] if ran else None,
        "reference_equal": None if agreement is None else agreement.equal,
        "agrees": bool((ran is None or (ran["values_equal"] and ran["cycles_equal"])) and same.all() and allowed),
        "accuracy_float": accuracy.get(_FLOAT),
        "accuracy_reference": accuracy[runtime.name] if runtime else None,
        "accuracy_golden": golden_accuracy,
        **_figures(program, timing),
        "by_layer": by_layer(model, samples, codes, agreement),
        "per_image": {
            "label": None if samples.labels is None else samples.labels.tolist(),
            "class": timing.classes.tolist(),
            "exit": timing.exit_index.tolist(),
            "margin": timing.decisions.margin.tolist(),
            "cycles": timing.cycles.tolist(),
            "equal": equal,
        },
        "rtl": ran,
    }


def _by_class(
    model: Model, samples: Samples, codes: np.ndarray, expected: np.ndarray
) -> tuple[list[StageResult], list[str], dict[str, list[bool | None]]]:
    """Stages of which only classes are known, compared with those of the golden model; why others couldn't run; and of
    each stage which images are equal.
    """
    found, told = dict[str, np.ndarray | None](), list[str]()
    if model.floats is not None and samples.in_units:
        found[_FLOAT] = named(model.floats(samples.images))
    for name, classify in model.classifiers.items():
        try:
            found[name] = classify(codes)
        except UnableError as error:
            told.append(str(error))
    stages, equal = [], dict[str, list[bool | None]]()
    for name, classes in found.items():
        same = None if classes is None else classes == expected
        if same is not None:
            equal[name] = same.tolist()
        stages.append(
            StageResult(
                stage=name,
                images=len(codes),
                compared="class",
                accuracy=_accuracy(classes, samples.labels),
                equal=None if same is None else float(same.mean()),
            )
        )
    return stages, told, equal


def _of_hardware(name: str, ran: dict[str, Any], images: int) -> StageResult:
    """What :func:`offramp.rtl.run.verify` found of the first images."""
    return StageResult(
        stage=name,
        images=images,
        compared="all values, cycles",
        accuracy=None,
        equal=1 - len(ran["differing"]) / images,
        first=_first(ran),
    )


def _accuracy(classes: np.ndarray | None, labels: np.ndarray | None) -> float | None:
    return None if classes is None or labels is None else float((classes == labels).mean())


def _of_runtime(name: str, found: Agreement, samples: Samples) -> StageResult:
    return StageResult(
        stage=name,
        images=len(found.same),
        compared="all tensors",
        accuracy=_accuracy(found.classes, samples.labels),
        equal=float(found.same.mean()),
        largest=found.largest,
        largest_logit=found.largest_logit,
        share=found.share,
        first=found.first,
    )


def _first(ran: dict[str, Any]) -> str | None:
    """What the RTL's first difference is of."""
    return None if not ran["mismatches"] else str(ran["mismatches"][0]).split(": RTL")[0]


def _figures(program: Program, timing: Simulation) -> dict[str, Any]:
    """Cycles of a program on images, and how well they use the multipliers."""
    dense = source_products(program.network)
    mean, multipliers = float(timing.cycles.mean()), program.config.multipliers
    return {
        "cycles": cycle_statistics(timing.cycles) | {"bound": worst_case(program)},
        "share_of_limit": float(timing.limit.sum() / timing.cycles.sum()),
        "macs": dense,
        "macs_per_multiplier_cycle": dense / (mean * multipliers),
        "memories": memories_dict(program),
    }
