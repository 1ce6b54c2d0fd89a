"""What is in a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hw.network.layers import select_of
from hw.network.network import Network
from hw.program.program import MAGIC, Program
from models import zoo
from models.recipes import checkpoint
from offramp import stages
from sim import worst_case

__all__ = ["describe", "kind_of", "network_dict", "program_dict", "program_rows"]


def network_dict(network: Network) -> dict[str, Any]:
    """Layers, sizes and exits of an integer network."""
    weights = {name: array for name, array in network.arrays() if name.endswith("/weight")}
    return {
        "name": network.name,
        "input": list(network.input.shape),
        "classes": network.classes,
        "layers": [
            {"name": layer.name, "kind": layer.kind, "output": list(layer.output.shape)}
            | ({} if (select := select_of(layer)) is None else {"select": select.to_dict()})
            for layer in network.layers
        ],
        "exits": [{"logits": head.logits, "threshold": head.threshold} for head in network.exits],
        "weights": sum(array.size for array in weights.values()),
        "nonzero_weights": sum(int(np.count_nonzero(array)) for array in weights.values()),
    }


def program_dict(program: Program) -> dict[str, Any]:
    """A program's network, config and memories."""
    sizes = {name: {"used": used, "available": size} for name, (used, size) in program.size_words().items()}
    return {
        "config_digest": program.config.digest(),
        "cores": program.config.cores,
        "pes": program.config.pes,
        "network": network_dict(program.network),
        "commands": [
            {"name": command.name, "bands": command.bands, "groups": command.groups} for command in program.commands
        ],
        "worst_case_cycles": worst_case(program),
        "memories": sizes,
    }


def _selections(network: Network) -> list[str]:
    """What layers select of their input."""
    found = []
    for layer in network.layers:
        select = select_of(layer)
        if select is not None:
            shape = network.tensors()[layer.inputs[0]].shape
            count, what = select.count or len(select.channels), "elements" if select.kind == "elements" else "channels"
            most = int(np.prod(shape)) if select.kind == "elements" else shape[2]
            fixed = ", always the same" if select.kind == "mask" else ""
            found.append(f"{layer.name}: {count:,} of {most:,} {what}{fixed}")
    return found


def _network_rows(network: Network) -> list[tuple[str, str]]:
    found = network_dict(network)
    conditions = ["always" if head.threshold is None else f"margin from {head.threshold:,}" for head in network.exits]
    exits = ", ".join(f"{head.logits} ({text})" for head, text in zip(network.exits, conditions, strict=True))
    return [
        ("network", f"{found['name']}: {len(found['layers'])} layers, {found['classes']} classes"),
        ("input", "x".join(map(str, found["input"]))),
        *(("selects", text) for text in _selections(network)),
        ("weights", f"{found['nonzero_weights']:,} of {found['weights']:,} are not zero"),
        ("exits", exits),
    ]


def program_rows(program: Program) -> list[tuple[str, str]]:
    """A program in lines."""
    memories = ", ".join(f"{name} {used:,}/{size:,}" for name, (used, size) in program.size_words().items())
    config = program.config
    return [
        *_network_rows(program.network),
        ("config", f"{config.cores} x {config.pes} PEs, digest {config.digest()[:16]}"),
        ("commands", f"{len(program.commands)}"),
        ("memory words", memories),
        ("worst case", f"{worst_case(program):,} cycles, whatever the image"),
    ]


def kind_of(path: Path) -> str:
    """What a file is, by its first bytes: ``program``, ``trained``, ``compressed``; of the zoo, ``network of the zoo``.

    Raises
    ------
    ValueError
        When it can't be read or is no file of Offramp's.
    """
    if str(path).startswith(zoo.PREFIX):
        return "program" if "@" in str(path) else "network of the zoo"
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    return "program" if magic == MAGIC else checkpoint.stage_of(path)


def describe(path: Path) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Lines and JSON form of what a file holds.

    Raises
    ------
    ValueError
        When it can't be read or is no file of Offramp's.
    """
    kind = kind_of(path)
    if kind == "program":
        program = stages.program(path)
        return [("kind", kind), *program_rows(program)], {"kind": kind, **program_dict(program)}
    if kind == "network of the zoo":
        entry = zoo.entry(str(path))
        network, _ = zoo.part(entry, zoo.load(entry))
        lines = [(name.replace("_", " "), str(value)) for name, value in asdict(entry).items()]
        found_network = {"kind": kind, **asdict(entry), "network": network_dict(network)}
        return [("kind", kind), *_network_rows(network), *lines], found_network
    found = checkpoint.load(path) if kind == "trained" else checkpoint.load_compressed(path)
    metrics = [(name.replace("_", " "), f"{value:,.4g}") for name, value in found.metrics.items()]
    common = {"data": found.data, "seed": found.seed, "metrics": found.metrics}
    head = [("data", found.data), ("seed", str(found.seed))]
    if isinstance(found, checkpoint.Compressed):
        rows = [("kind", "compressed network"), *head, *_network_rows(found.network), *metrics]
        return rows, {"kind": "compressed", **common, "network": network_dict(found.network)}
    return [("kind", "trained network"), *head, *metrics], {"kind": "trained", **common}
