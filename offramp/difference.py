"""What is different between two results, models or configs: every figure that isn't the same, by name."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hw.config import PRESETS, preset
from offramp import inspect
from offramp.intake.model import read
from offramp.intake.programs import images_of, program_of
from offramp.intake.request import ModelRequest
from offramp.measure.measure import measure
from offramp.result_file import check_schema, read_json

__all__ = ["Change", "changes", "described"]

#: Parts of results that say where and when, or are of single images: not compared.
_LEFT_OUT = {"schema", "git", "python", "versions", "per_image", "distribution", "file", "log", "bitstream", "seconds"}
#: Keys by which the entries of a list are told apart.
_NAMES = ("name", "layer", "workload", "stage", "logits")
#: Images that models are measured on.
_IMAGES = 256

#: Where something stands, and what it is in the first and in the second; None where it isn't there.
Change = tuple[str, Any, Any]


def described(what: str, config: str | None, data: str | None, root: Path | None, seed: int) -> dict[str, Any]:
    """A result file, a config or a model as values by name.

    A model is compiled and measured on images: accuracy, exits, cycles in all and by layer, memories, weights.

    Parameters
    ----------
    what : str
        A ``.json`` that a command wrote, a preset with or without sizes, or a model.
    config, data : str or None
        Of models: the config that they are compiled for, and images; by default their own.

    Raises
    ------
    ValueError
        When it is none of these, or a model doesn't fit.
    """
    if what.endswith(".json"):
        result = read_json(Path(what))
        check_schema(Path(what), result)
        return result
    if what.split(",", maxsplit=1)[0] in PRESETS:
        return asdict(preset(what))
    request = ModelRequest(model=what, seed=seed, root=root)
    model = read(request)
    program, name = program_of(model, config)
    images = images_of(model, request, data, _IMAGES)
    found = measure(program, images.codes(model.network), images.labels).to_dict()
    sizes = inspect.program_dict(program) | inspect.worst_case_dict(program)
    kept = {key: found[key] for key in ("accuracy", "exit_share", "cycles", "back_to_back", "layers")}
    return {"config": name, **kept, **{key: sizes[key] for key in ("network", "memories", "worst_case_cycles")}}


def changes(first: dict[str, Any], second: dict[str, Any]) -> list[Change]:
    """Every value that isn't the same in both, in the order of the first."""
    values = [dict(_leaves(each)) for each in (first, second)]
    names = list(dict.fromkeys([*values[0], *values[1]]))
    pairs = [(name, values[0].get(name), values[1].get(name)) for name in names]
    return [(name, one, other) for name, one, other in pairs if one != other]


def _leaves(found: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that isn't a table or a list, with its place; entries of lists by their names or numbers."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name not in _LEFT_OUT:
                yield from _leaves(value, f"{place} {name}".strip())
    elif isinstance(found, list):
        for number, value in enumerate(found):
            name = next((value[key] for key in _NAMES if key in value), number) if isinstance(value, dict) else number
            yield from _leaves(value, f"{place} {name}".strip())
    else:
        yield place, found
