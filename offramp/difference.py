"""What is different between two results, models or configs: every figure that isn't the same, by where it stands."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.config import PRESETS, preset
from hw.rules import require
from offramp.files.kinds import check_result, what_is
from offramp.files.result_file import check_schema, read_json

if TYPE_CHECKING:
    from models.datasets.sources import Progress

__all__ = ["CONFIG", "MODEL", "RESULT", "Change", "changes", "described", "sort_of", "sort_of_both"]

#: What can be compared, each with its like.
RESULT, CONFIG, MODEL = "a result", "a config", "a model"

#: Parts of results that say where and when, or are of single images: not compared.
_LEFT_OUT = {"schema", "git", "python", "versions", "file", "log", "bitstream", "seconds"}
_LEFT_OUT |= {"per_image", "distribution", "timeline"}
#: Keys by which the entries of a list are told apart, and tables that are rows by their keys.
_NAMES = ("name", "layer", "workload", "stage", "logits")
_ROWS = {"memories", "inputs"}
#: Of figures whose names say too little.
_WORDS = {
    "back_to_back": "cycles per image, back to back",
    "cycles worst": "cycles, worst found",
    "limit": "limit, cycles",
    "network name": "network",
    "network weights": "weights",
    "network nonzero_weights": "weights that aren't zero",
    "nonzero_weights": "weights that aren't zero",
    "share_of_limit": "of limit",
    "used": "used words",
    "available": "words",
}
#: Words of names of shares, which are shown in percent.
_SHARES = {"accuracy", "density", "share"}
#: In place of the last exit's number, which depends on how many there are before it.
_LAST = "last"
#: Images that models are measured on.
_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Change:
    """A figure that isn't the same.

    Parameters
    ----------
    table, row : str
        The list that it stands in, and which entry of it: ``layers``, ``stem.conv``; both empty where it isn't in one.
    what : str
        What it is of.
    first, second : Any
        None where it isn't there.
    """

    table: str
    row: str
    what: str
    first: Any
    second: Any

    @property
    def is_share(self) -> bool:
        """Whether it is shown in percent."""
        named = not _SHARES.isdisjoint(self.what.replace("_", " ").split())
        return named and all(_is_share(value) for value in (self.first, self.second) if value is not None)

    @property
    def figure(self) -> str:
        """What it is of, in words and with its unit."""
        if self.what in _WORDS:
            name = _WORDS[self.what]
        elif self.what.startswith("exit_share "):
            place = self.what.split()[1]
            name = "leave at the last exit" if place == _LAST else f"leave at exit {place}"
        elif self.what.startswith("loss "):
            name = f"cycles lost: {self.what.removeprefix('loss ')}"
        elif self.what.startswith("cycles "):
            name = f"cycles, {self.what.removeprefix('cycles ')}"
        else:
            name = self.what.replace("_", " ")
        return f"{name}, %" if self.is_share else name


def sort_of(what: str) -> str:
    """Whether a preset with or without sizes, what a command wrote (``.json``, or a file that says so), or else a model
    is meant.
    """
    if what.split(",", maxsplit=1)[0] in PRESETS:
        return CONFIG
    return RESULT if what.endswith(".json") or (Path(what).is_file() and what_is(Path(what)) == "result") else MODEL


def sort_of_both(first: str, second: str) -> str:
    """What both are.

    Raises
    ------
    ValueError
        When one is something else than the other.
    """
    one, other = sort_of(first), sort_of(second)
    require(one == other, f"diff compares two models, two configs or two results: {first} is {one}, {second} {other}")
    return one


def described(
    what: str,
    config: str | None,
    data: str | None,
    root: Path | None,
    seed: int,
    progress: "Progress | None" = None,
) -> dict[str, Any]:
    """A result file, a config or a model (:func:`sort_of`) as values by name.

    A model is compiled and measured on images: accuracy, exits, cycles in all and by layer, memories, weights.

    Parameters
    ----------
    config, data : str or None
        Of models: the config that they are compiled for, and images; by default their own.

    Raises
    ------
    ValueError
        When it can't be read, or a model doesn't fit.
    """
    sort = sort_of(what)
    if sort == RESULT:
        check_result(Path(what))
        result = read_json(Path(what))
        if not isinstance(result.get("command"), str):
            raise ValueError(f"{what} must be the result of a command (--json FILE), which says which command")
        check_schema(Path(what), result)
        return result
    if sort == CONFIG:
        return asdict(preset(what))
    from offramp.files import inspect
    from offramp.intake.model import read
    from offramp.intake.programs import images_of, program_of
    from offramp.intake.request import ModelRequest
    from offramp.measure.measure import measure

    request = ModelRequest(model=what, seed=seed, root=root)
    model = read(request)
    program, name = program_of(model, config, progress)
    images = images_of(model, request, data, _IMAGES, progress)
    found = measure(program, images.codes(model.network), images.labels, progress=progress, text=what).to_dict()
    sizes = inspect.program_dict(program)
    kept = {key: found[key] for key in ("images", "accuracy", "exit_share", "cycles", "back_to_back", "layers")}
    return {
        "config": name,
        "images of": images.origin,
        **kept,
        "network": sizes["network"],
        "memories": sizes["memories"],
    }


def changes(first: dict[str, Any], second: dict[str, Any]) -> list[Change]:
    """Every value that isn't the same in both, in the order of the first.

    Raises
    ------
    ValueError
        When they are results of different commands.
    """
    one, other = (each.get("command") for each in (first, second))
    require(one == other, f"diff compares results of one command, not of {one} and {other}")
    values = [dict(_leaves(each)) for each in (first, second)]
    pairs = {path: [each.get(path) for each in values] for path in dict.fromkeys([*values[0], *values[1]])}
    return [
        Change(table=table, row=row, what=what, first=before, second=after)
        for (table, row, what), (before, after) in pairs.items()
        if before != after
    ]


def _leaves(found: Any, table: str = "", row: str = "", what: str = "") -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Everything that isn't a table or a list, with where it stands; entries of lists by their names or numbers.

    Lists of numbers are sizes, and stay whole: 16x16x32.
    """
    if isinstance(found, dict):
        for name, value in found.items():
            if name in _LEFT_OUT or (row and what == "" and name in _NAMES and value == row):
                continue
            path = f"{what} {name}".strip()
            if name in _ROWS and isinstance(value, dict):
                for key, inner in value.items():
                    yield from _leaves(inner, _joined(table, row, path), key)
            else:
                yield from _leaves(value, table, row, path)
    elif isinstance(found, list):
        if found and all(type(value) is int for value in found):
            yield (table, row, what), "x".join(map(str, found))
            return
        for number, value in enumerate(found):
            place = f"{_LAST if what == 'exit_share' and number == len(found) - 1 else number}"
            name = next((value[key] for key in _NAMES if key in value), None) if isinstance(value, dict) else None
            if name is None:
                yield from _leaves(value, table, row, f"{what} {place}".strip())
            else:
                yield from _leaves(value, _joined(table, row, what), str(name))
    else:
        yield (table, row, what), found


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1


def _joined(*parts: str) -> str:
    return " ".join(filter(None, parts))
