"""What is in a file."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hw.network import network_file
from hw.network.layers import select_of
from hw.network.network import Network
from models import zoo
from models.recipes import checkpoint
from offramp.files.kinds import kind_of

if TYPE_CHECKING:
    from hw.program.program import Program

__all__ = ["check_layer", "describe", "network_dict", "network_of", "program_dict", "worst_case_dict"]


#: What names of instructions have behind a layer's: strip, output channels, input channels.
_PART = re.compile(r"(@\d+)?(\[\d+:\d+\])?(<\d+:\d+>)?$")


def network_dict(network: Network) -> dict[str, Any]:
    """Layers, sizes and exits of an integer network."""
    weights = {name.removesuffix("/weight"): array for name, array in network.arrays() if name.endswith("/weight")}
    layers: list[dict[str, Any]] = []
    for layer in network.layers:
        found: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "output": list(layer.output.shape)}
        if layer.name in weights:
            found |= _counted(weights[layer.name])
        select = select_of(layer)
        if select is not None:
            height, width, channels = network.tensors()[layer.inputs[0]].shape
            most = height * width * channels if select.kind == "elements" else channels
            found["select"] = {**select.to_dict(), "selected": select.count or len(select.channels), "of": most}
        layers.append(found)
    return {
        "name": network.name,
        "input": list(network.input.shape),
        "classes": network.classes,
        "layers": layers,
        "exits": [{"logits": head.logits, "threshold": head.threshold} for head in network.exits],
        "weights": sum(array.size for array in weights.values()),
        "nonzero_weights": sum(int(np.count_nonzero(array)) for array in weights.values()),
    }


def _counted(weights: np.ndarray) -> dict[str, int]:
    return {"weights": weights.size, "nonzero_weights": int(np.count_nonzero(weights))}


def program_dict(program: "Program") -> dict[str, Any]:
    """A program's network, config and memories."""
    from offramp.files.memories import memories_dict

    return {
        "config_digest": program.config.digest(),
        "cores": program.config.cores,
        "pes": program.config.pes,
        "network": network_dict(program.network),
        "commands": [
            {"name": command.name, "bands": command.bands, "groups": command.groups} for command in program.commands
        ],
        "memories": memories_dict(program),
    }


def worst_case_dict(program: "Program") -> dict[str, int]:
    """The most cycles that any image can take; the simulator, which knows, is long to load."""
    from sim import worst_case

    return {"worst_case_cycles": worst_case(program)}


def network_of(path: Path) -> Network | None:
    """The integer network of a model of ours, which is quick to read; None of others, and of a trained network."""
    kind = kind_of(path)
    if str(path).startswith(zoo.PREFIX):
        entry = zoo.entry(str(path).partition("@")[0])
        return zoo.part(entry, zoo.load(entry))[0]
    if kind == "program":
        from offramp.files import program_files

        return program_files.program(path).network
    if kind == "network":
        return network_file.load(path).network
    return checkpoint.load_compressed(path).network if kind == "compressed" else None


def check_layer(models: Sequence[Path], name: str) -> None:
    """Refuse a name that is no layer's and no part's of one (``conv@1[0:8]``), where all models are quick to read.

    Raises
    ------
    ValueError
        When it is none; the message names those that there are.
    """
    networks = [network_of(path) for path in models]
    names = dict.fromkeys(layer.name for network in networks if network for layer in network.layers)
    if None not in networks and _PART.sub("", name) not in names:
        raise ValueError(f"--layer must be one of {', '.join(names)}, not {name!r}")


def describe(path: Path, *, bound: bool = False) -> dict[str, Any]:
    """What a file holds, for a result file; :func:`offramp.report.tables.contents.contents` makes tables of it.

    Parameters
    ----------
    path : Path
    bound : bool
        Whether to say the most cycles that any image can take, too, if it is a program.

    Raises
    ------
    ValueError
        When it can't be read or is no file of Offramp's.
    """
    kind = kind_of(path)
    if kind == "program":
        from offramp.files import program_files

        program = program_files.program(path)
        return {"kind": kind, **program_dict(program), **(worst_case_dict(program) if bound else {})}
    if kind == "network of the zoo":
        entry = zoo.entry(str(path))
        network, _ = zoo.part(entry, zoo.load(entry))
        return {"kind": kind, **asdict(entry), "network": network_dict(network)}
    if kind == "network":
        held = network_file.load(path)
        return {"kind": kind, "origin": held.origin, "network": network_dict(held.network)}
    found = checkpoint.load(path) if kind == "trained" else checkpoint.load_compressed(path)
    common = {"kind": kind, "data": found.data, "seed": found.seed, "metrics": found.metrics}
    return common | ({"network": network_dict(found.network)} if isinstance(found, checkpoint.Compressed) else {})
