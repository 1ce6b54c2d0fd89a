"""Programs and their files: made, written, found by a name."""

from pathlib import Path

import numpy as np

from hw.config import AcceleratorConfig, preset
from hw.network.network import Network
from hw.program.program import Program, load
from hw.rules import require
from models import zoo
from offramp.files.cache_folder import cache_root
from offramp.files.kinds import expect

__all__ = ["compiled", "program", "reread"]


def compiled(
    network: Network, config: AcceleratorConfig, path: Path, activity: dict[str, np.ndarray] | None = None
) -> Program:
    """Balance for the config, compile, write the program file and read it again: what follows runs what is in the file.

    ``activity`` is the share of nonzero activations by tensor and channel.
    """
    from hw.compiler.compile import compile_balanced

    return reread(compile_balanced(network, config, activity or {}), path)


def program(path: Path) -> Program:
    """A program's file; or ``zoo:NAME``, compiled for the config of its figures or, as ``zoo:NAME@CONFIG``, another.

    Raises
    ------
    ValueError
        When there is no such file, network or config, or the network doesn't fit.
    """
    if not str(path).startswith(zoo.PREFIX):
        expect(path, "program")
        return load(path)
    name, at, config = str(path).partition("@")
    require(config or not at, f"{path} must be {zoo.PREFIX}NAME or {zoo.PREFIX}NAME@CONFIG, with a config behind @")
    found = zoo.entry(name)
    network, activity = zoo.part(found, zoo.load(found))
    chosen = preset(config or found.config)
    file = cache_root() / "zoo" / f"{found.name}-{found.sha256[:12]}-{chosen.digest()[:12]}.off"
    return compiled(network, chosen, file, activity)


def reread(program: Program, path: Path) -> Program:
    """Write the program file and read it again."""
    program.save(path)
    return load(path, program.config)
