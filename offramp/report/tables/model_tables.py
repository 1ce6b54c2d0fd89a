"""Tables of models from outside, and of networks that were changed."""

from typing import Any

from rich.table import Table

from models.datasets.splits import NAMES
from offramp.report.tables.columns import Columns
from offramp.report.tables.result_tables import equality, key_values, waveform_rows
from offramp.report.tables.units import count, percent, points

__all__ = ["checked", "extension", "figures", "layers", "source_rows", "sparse", "sparse_rows", "stages"]


def source_rows(model: Any, samples: Any, config: str) -> list[tuple[str, str]]:
    """What ran (:class:`offramp.intake.model.Model`), on which images (:class:`offramp.intake.samples.Samples`)."""
    notes = [("note", note) for note in model.notes]
    return [("model", model.origin), ("config", config), ("images of", samples.origin), *notes]


def checked(found: dict[str, Any]) -> str:
    """What a network was compared with when it was read (:func:`offramp.intake.source_check.check_source`)."""
    if found["against"] is None:
        return f"not against a source: {found['reason']}"
    how = "all equal"
    if not found["equal"]:
        how = f"{percent(found['differing'])} of the values differ, codes by at most {found['largest']}"
    return f"against {found['against']}, {found['tensors']} tensors of {found['images']} random images: {how}"


def stages(result: dict[str, Any]) -> Columns:
    """Every way in which a model was computed (:func:`offramp.intake.verification.verify_model`).

    Logits have a column of their own where some are compared as accumulators.
    """
    logits = [each.get("largest_logit") for each in result["stages"]]
    has_logits = any(each is not None for each in logits)
    head = [
        "stage",
        "images",
        "accuracy, %",
        "equal to golden, %",
        "compared",
        "largest difference, codes",
        *(["largest difference of logits, accumulator steps"] if has_logits else []),
        "values that differ, %",
        "first to differ",
    ]
    rows = [
        [
            each["stage"],
            count(each["images"]),
            points(each["accuracy"]),
            points(each["equal"]),
            each.get("compared") or "-",
            count(each["largest"]),
            *([count(logit)] if has_logits else []),
            points(each["share"]),
            each["first"] or "-",
        ]
        for each, logit in zip(result["stages"], logits, strict=True)
    ]
    return Columns(head, rows)


def layers(result: dict[str, Any]) -> Columns:
    """Every layer that was compared with the source (:func:`offramp.intake.by_layer.by_layer`)."""
    rows = []
    for each in result["by_layer"]:
        unit = "-" if each["rounded"] is None else "codes" if each["rounded"] else "accumulator steps"
        figures = [points(each["differing"]), count(each["largest"]), unit, count(each["sqnr_db"], 1)]
        rows.append([each["layer"], each["kind"], *figures])
    head = ["layer", "kind", "values that differ, %", "largest difference", "in", "SQNR, dB"]
    return Columns(head, rows)


def figures(result: dict[str, Any]) -> Table:
    """What a model that was verified takes of the accelerator."""
    cycles, ran, reference = result["cycles"], result["rtl"], result["reference_equal"]
    tensors = f"all tensors {equality(bool(reference))}"
    if reference is False and result["agrees"]:
        tensors = "codes differ, as those of such a source may: the table above counts them"
    shown = {"mean": "mean", "p50": "p50", "p99": "p99", "worst": "worst found", "bound": "bound"}
    rate = f"{result['macs_per_multiplier_cycle']:.2f} a multiplier and cycle"
    rows = [
        _equality_row(result),
        *([] if reference is None else [("source = golden", tensors)]),
        *(("difference", text) for text in (ran["mismatches"] if ran else ())),
        ("cycles per image", ", ".join(f"{name} {count(cycles[key])}" for key, name in shown.items())),
        ("of limit", percent(result["share_of_limit"])),
        ("dense multiply-accumulates", f"{count(result['macs'])}; {rate}"),
    ]
    if ran:
        rows.append(("back to back, on the RTL", f"{count(ran['back_to_back'][0], 1)} cycles per image"))
        rows.append(("simulator", f"{ran['simulator']}, seed {ran['seed']}, {count(ran['seconds'], 1)} s"))
        rows += waveform_rows(ran)
    return key_values(rows)


def _equality_row(result: dict[str, Any]) -> tuple[str, str]:
    if result["rtl"] is None:
        (simulated,) = (each["equal"] for each in result["stages"] if each["stage"] == "simulator")
        return "golden = simulator", f"classes and exits {equality(simulated == 1)}; the RTL wasn't run (--rtl 0)"
    values, timing = equality(result["values_equal"]), equality(result["cycles_equal"])
    return "RTL = golden = simulator", f"values {values}, cycles {timing}"


def extension(networks: dict[str, dict[str, Any]]) -> Columns:
    """A network before and after a change, by what it is called: accuracy, exits, cycles."""
    names = {"mean": "mean", "p50": "p50", "p99": "p99", "worst": "worst found", "bound": "bound"}
    head = ["network", "accuracy, %", "leave at each exit, %", *(f"cycles, {name}" for name in names.values())]
    rows = []
    for name, found in networks.items():
        shares = ", ".join(map(points, found["exit_share"]))
        cycles = [count(found["cycles"][which]) for which in names]
        rows.append([name, points(found["accuracy"]), shares, *cycles])
    return Columns(head, rows)


def sparse(result: dict[str, Any]) -> Columns:
    """A module that was compressed, beside what it was (:class:`offramp.intake.compression.Sparse`)."""
    return extension({"dense, int8": result["before"], "sparse, int8": result["after"]})


def sparse_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What :func:`sparse` doesn't say: accuracy before it was quantized, and how many weights are left."""
    named = result["measured_on"].split(",")[0] in NAMES
    unknown = "" if named else "; whether the module was trained on them isn't known"
    left, all_ = (count(result[which]["weights"]) for which in ("after", "before"))
    return [
        ("accuracy as it came, float", percent(result["accuracy_float"])),
        ("accuracies are on", f"{result['measured_on']}{unknown}"),
        ("weights that aren't zero", f"{left} of {all_}; {100 * result['keep']:g} % were to stay"),
    ]
