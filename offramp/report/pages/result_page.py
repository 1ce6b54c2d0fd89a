"""The report of a command's result, whichever command it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from offramp.difference import Change
from offramp.files.kinds import check_result
from offramp.files.result_file import check_schema, read_json
from offramp.report.pages.demo_page import demo_page, layers_section
from offramp.report.pages.methods_page import methods_sections, zoo_sections
from offramp.report.pages.section import Page, Section
from offramp.report.plots.changes import largest_changes
from offramp.report.plots.chart import file_name
from offramp.report.plots.history import training_history
from offramp.report.plots.layer_cycles import layer_cycles, workload_cycles
from offramp.report.plots.roofline import roofline
from offramp.report.plots.security import security_curve
from offramp.report.plots.spread import cycle_distribution, exits_taken, margin_histogram
from offramp.report.plots.timeline import timeline
from offramp.report.plots.tradeoffs import density_curve, exit_curve
from offramp.report.plots.usage import cell_usage, memory_usage
from offramp.report.tables import bench_tables, board_tables, model_tables, result_tables
from offramp.report.tables.columns import Columns
from offramp.report.tables.contents import contents, word_rows
from offramp.report.tables.difference_tables import difference_tables
from offramp.report.tables.explanation import explained

__all__ = ["page_of", "read_result"]

#: What a command for boards was given.
_BOARD = ("program", "config", "images_of", "port", "notes")
#: What every result says of where it comes from.
_ORIGIN = ("command", "seed", "schema", "git", "python", "versions")


def _asked(result: dict[str, Any], *names: str) -> Any:
    """What a command was given, by name; lists in one line."""
    rows = []
    for name in names:
        value = result.get(name)
        if value not in (None, [], {}):
            words = value if isinstance(value, list) else [value]
            rows.append((name.replace("_", " "), ", ".join(map(str, words))))
    return result_tables.key_values(rows)


def _evaluated(result: dict[str, Any]) -> list[Section]:
    charts = _exits(result) if "label" in result["per_image"] else ()
    rows = [*result_tables.evaluation_rows(result), *result_tables.threshold_rows(result)]
    parts = (_asked(result, "program", "config", "images_of"), result_tables.key_values(rows))
    return [Section(title="Accuracy and exits", charts=charts, tables=parts)]


def _exits(result: dict[str, Any]) -> tuple[Any, ...]:
    """Figures of single images whose labels are known."""
    images = result["per_image"]
    return exits_taken(images, len(result["exit_share"])), margin_histogram(images, [*result["thresholds"], None])


def _simulated(result: dict[str, Any]) -> list[Section]:
    board, attack = result["board"], result["attack"]
    clock = board["clock_mhz"] if board else None
    asked = _asked(result, "program", "config", "images_of", "attack", "eps")
    delivered = result_tables.board_rows(result) if board else []
    facts = result_tables.key_values(
        [*delivered, *result_tables.machine_rows(result), *result_tables.decision_rows(result["decisions"])]
    )
    first = Section(
        title="Cycles of an inference",
        charts=(cycle_distribution({result_tables.NAMES[attack]: result}, clock),),
        tables=(asked, result_tables.measurements({attack: result}), facts),
        note=result_tables.board_note(board) if board else "",
    )
    roof = roofline(result["layers"], result["cores"], result["multipliers"])
    found = [first, layers_section(result["layers"], clock), Section(title="What bounds a layer", charts=(roof,))]
    if "label" in result["per_image"]:
        found.append(Section(title="Exits", charts=_exits(result)))
    if "timeline" in result:
        found.append(Section(title=f"Image {result['timeline_image']}", charts=(timeline(result["timeline"], clock),)))
    if "security" in result:
        curve, named = result["security"], result_tables.NAMES[attack]
        shown = (result_tables.security(curve),)
        found.append(Section(title="Reach of the attack", charts=(security_curve(curve, named),), tables=shown))
    return found


def _verified(result: dict[str, Any]) -> list[Section]:
    asked = _asked(result, "programs", "config", "origin", "images_of", "notes")
    if "stages" in result:
        stages = (asked, model_tables.stages(result), model_tables.figures(result))
        found = [Section(title="Stage by stage", tables=stages)]
        if "memories" in result:
            words = (Columns(*word_rows(result["memories"])),)
            found.append(Section(title="Memories", charts=(memory_usage(result["memories"]),), tables=words))
        return found
    return [
        Section(
            title="RTL = golden = simulator", tables=(asked, result_tables.verification(result, result["programs"]))
        )
    ]


def _described(result: dict[str, Any]) -> list[Section]:
    """What holds a network or a program, or both."""
    charts = (memory_usage(result["memories"]),) if "memories" in result else ()
    rows = _asked(result, "model", "file", "origin", "config", "notes")
    found = [Section(title="What it is", charts=charts, tables=(rows, contents(result)))]
    if "explanation" in result:
        found.append(Section(title="How it was compiled", tables=(explained(result["explanation"]),)))
    return found


def _trained(result: dict[str, Any]) -> list[Section]:
    charts = (training_history(result["epochs"]),) if any(result["epochs"].values()) else ()
    rows = _asked(result, "data", "model", "images_of", "config", "file", "notes")
    if "metrics" not in result:  # of a module, which was compared with itself
        tables = rows, model_tables.sparse(result), result_tables.key_values(model_tables.sparse_rows(result))
        return [Section(title="Dense and sparse", charts=charts, tables=tables)]
    metrics = result_tables.key_values(result_tables.metric_rows(result["metrics"]))
    found = [Section(title="The network", charts=charts, tables=(rows, metrics))]
    if result.get("curve"):
        curve = exit_curve(result["curve"], result["metrics"]["threshold"])
        found.append(Section(title="Accuracy against the exit threshold", charts=(curve,)))
    return found


def _extended(result: dict[str, Any]) -> list[Section]:
    compared = model_tables.extension({"as it was": result["before"], "with the exit": result["after"]})
    rows = _asked(result, "model", "images_of", "config", "thresholds", "file", "notes")
    return [Section(title="With another exit", tables=(rows, compared))]


def _built(result: dict[str, Any]) -> list[Section]:
    built = result["build"]
    # Records of before --seeds have none.
    clocks = {each["seed"]: each["fmax_mhz"] for each in result.get("seeds", [])}
    rows = [*result_tables.build_rows(built), *result_tables.seed_rows(clocks)]
    return [
        Section(
            title="Bitstream",
            charts=(cell_usage(built),),
            tables=(_asked(result, "config", "model", "origin", "notes", "file"), result_tables.key_values(rows)),
            folded={"slowest path": built["critical_path"]},
        )
    ]


def _benched(result: dict[str, Any]) -> list[Section]:
    rows, points = result["rows"], result["curve"]
    asked = _asked(result, "config", "multipliers", "origin", "images_of", "notes")
    shown: list[Any] = [asked, bench_tables.workloads(rows, result.get("routed"))]
    if result["peers"]:
        shown.append(bench_tables.peers(rows, result["peers"]))
    if result["rtl"]:
        shown.append(result_tables.key_values(bench_tables.hardware_rows(result["rtl"])))
    charts = (workload_cycles(rows), *([density_curve(points)] if points else []))
    found = [Section(title="How near to the limit", charts=charts, tables=tuple(shown))]
    for row in rows:
        name = Path(row["workload"]).name
        chart = layer_cycles(row["layers"], name=file_name(f"layers-{name}"))
        found.append(Section(title=name, charts=(chart,), tables=(result_tables.layers(row["layers"]),)))
    return found


def _compared(result: dict[str, Any]) -> list[Section]:
    changes = [Change(**each) for each in result["changes"]]
    chart = largest_changes(changes)
    shown = difference_tables(result["first"], result["second"], changes) or ["nothing is different"]
    return [Section(title="What is different", charts=() if chart is None else (chart,), tables=tuple(shown))]


def _told(*names: str) -> Callable[[dict[str, Any]], list[Section]]:
    """A result that is told in a few words."""
    return lambda result: [Section(title="Result", tables=(_asked(result, *names),))]


def _listed(result: dict[str, Any]) -> list[Section]:
    return [Section(title=str(result["program"]), folded={"instructions": "\n".join(result["lines"])})]


def _on_board(result: dict[str, Any]) -> list[Section]:
    asked = _asked(result, *_BOARD)
    return [Section(title="On the board", tables=(asked, result_tables.key_values(board_tables.check_rows(result))))]


def _board_benched(result: dict[str, Any]) -> list[Section]:
    facts = result_tables.key_values(board_tables.bench_rows(result))
    return [Section(title="On the board", tables=(_asked(result, *_BOARD), facts, board_tables.bench(result)))]


#: By command: what makes the sections of its result's report, and what the result must hold.
_SECTIONS: dict[str, tuple[Callable[[dict[str, Any]], list[Section]], tuple[str, ...]]] = {
    "train": (_trained, ("data", "metrics", "epochs")),
    "compress": (_trained, ("epochs",)),
    "import": (_described, ("network",)),
    "export": (_told("model", "origin", "notes", "layers", "integers", "folder", "file"), ("integers",)),
    "exit add": (_extended, ("before", "after")),
    "zoo": (lambda result: zoo_sections(result["networks"]), ("networks",)),
    "compile": (_described, ("config",)),
    "evaluate": (_evaluated, ("images", "accuracy", "exit_share", "per_image", "thresholds")),
    "simulate": (
        _simulated,
        ("attack", "board", "cores", "decisions", "distribution", "layers", "multipliers", "per_image", "thresholds"),
    ),
    "verify": (_verified, ("programs", "values_equal", "cycles_equal")),
    "generate": (_told("config", "digest", "name", "lines", "folder", "files"), ("digest",)),
    "build": (_built, ("build",)),
    "board flash": (_told("board", "file"), ("file",)),
    "board selftest": (_on_board, ("values_equal", "cycles_equal", "per_image")),
    "board run": (_on_board, ("values_equal", "cycles_equal", "per_image")),
    "board bench": (
        _board_benched,
        ("back_to_back", "one_by_one", "expected", "images", "load_seconds", "mean_cycles"),
    ),
    "info": (_described, ("kind",)),
    "diff": (_compared, ("first", "second", "changes")),
    "disasm": (_listed, ("program", "lines")),
    "bench": (_benched, ("rows", "curve", "rtl", "peers")),
    "report": (methods_sections, ("networks", "methods")),
    "clean": (lambda result: [Section(title="Removed", tables=(result_tables.removals(result),))], ("kinds", "left")),
    "demo": (lambda result: list(demo_page(result).sections), ("inputs", "robustness", "verify", "build")),
}


def read_result(path: Path) -> dict[str, Any]:
    """A result that a command wrote.

    Raises
    ------
    ValueError
        When it is anything else; the message says what.
    """
    must = f"{path} must be the result of a command (--json FILE)"
    check_result(path)
    result = read_json(path)
    command = result.get("command")
    if not isinstance(command, str) or command not in _SECTIONS:
        raise ValueError(f"{must}, not " + ("a table without one" if command is None else f"of {command!r}"))
    check_schema(path, result)
    missing = [name for name in (*_SECTIONS[command][1], "seed", "versions") if name not in result]
    if missing:
        raise ValueError(f"{must}: of {command} it must hold {', '.join(missing)}")
    return result


def page_of(result: dict[str, Any]) -> Page:
    """The report of a result (:func:`read_result`)."""
    if result["command"] == "demo":
        return demo_page(result)
    sections, _ = _SECTIONS[result["command"]]
    origin = {name: result[name] for name in _ORIGIN if name in result}
    last = Section(title="Where it comes from", folded={"show": json.dumps(origin, indent=1)})
    revision = f", revision {result['git']}" if result.get("git") else ""
    return Page(
        title=f"offramp {result['command']}",
        subtitle=f"seed {result['seed']}, offramp {result['versions']['offramp']}{revision}",
        sections=(*sections(result), last),
    )
