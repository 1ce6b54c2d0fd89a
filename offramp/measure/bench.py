"""Measures how near to the physical limit the accelerator works, and how fast the simulator says so.

The limit of a workload is its nonzero products divided by the multipliers; everything an inference takes counts against
it: first layer, requantization, barriers, pooling, classifier, control.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from hw.compiler.compile import compile_balanced
from hw.config import AcceleratorConfig
from hw.program.program import Program
from models.datasets.sources import Progress
from models.integer import golden
from offramp.files.cache_folder import cache_root
from offramp.measure import peers
from offramp.measure.measure import layer_statistics
from offramp.measure.recorded import recorded_build
from offramp.measure.workloads import Workload, make
from offramp.rtl import run as rtl
from sim import simulate

__all__ = ["against_peers", "against_rtl", "density_sweep", "measure_workload", "routed"]

#: Images simulated before time is taken: caches fill, the kernel is compiled.
_WARM_UP = 8
#: Images simulated while time is taken.
_TIMED = 512
#: Images whose own cycles are kept, to be checked again.
_FIRST = 4


def routed(config: str) -> dict[str, Any] | None:
    """The highest clock that is recorded of a config, and whether the same would be built today; None without one."""
    build = recorded_build(config)
    if build is None:
        return None
    return {"board": build.report["board"], "fmax_mhz": build.fmax_mhz, "current": build.is_current()}


def measure_workload(
    name: str,
    config: AcceleratorConfig,
    *,
    images: int,
    seed: int,
    workload: Workload | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """One workload on one config: means over the images.

    Parameters
    ----------
    workload : Workload or None
        What is measured under this name; None: the one that is known by it.

    Returns
    -------
    dict
        ``products``, ``cycles``, ``share_of_limit``, ``loss`` (cycles by cause), ``layers`` (the same for each layer),
        ``partition`` of each layer, ``first_cycles`` of the first images, ``simulator_images_per_second`` of
        golden model and simulator, on 512 images.

    Raises
    ------
    ValueError
        When there is no such workload, or it doesn't fit the config.
    """
    workload = workload or make(name, images, seed)
    images = len(workload.codes)
    program = compile_balanced(workload.network, config, workload.activity)
    values = golden.run(program.network, workload.codes)
    found = simulate(
        program,
        workload.codes,
        golden=values,
        progress=None if progress is None else lambda done, total, _: progress(done, total, name),
    )
    cycles, rate = float(found.cycles.mean()), _rate(program, workload.codes)
    loss = {cause: float(lost.sum(axis=1).mean()) for cause, lost in found.loss.items()}
    return {
        "workload": name,
        "images": images,
        "products": float(found.products.sum(axis=1).mean()),
        "cycles": cycles,
        "limit": float(found.limit.sum(axis=1).mean()),
        "share_of_limit": found.share_of_limit,
        "loss": loss | {"control": cycles - float(found.layer_cycles.sum(axis=1).mean())},
        "layers": layer_statistics(found),
        "partition": [[command.name, command.bands, command.groups] for command in program.commands],
        "memory": {name: list(words) for name, words in program.size_words().items()},
        "first_cycles": found.cycles[:_FIRST].tolist(),
        "simulator_images_per_second": rate,
        "simulated_cycles_per_second": rate * cycles,
    }


def _rate(program: Program, codes: np.ndarray) -> float:
    """Images a second of golden model and simulator, of these images again and again."""
    many = np.resize(codes, (_TIMED, *codes.shape[1:]))
    simulate(program, many[:_WARM_UP])
    begin = time.perf_counter()
    simulate(program, many)
    return _TIMED / (time.perf_counter() - begin)


def against_rtl(
    name: str, config: AcceleratorConfig, *, images: int, seed: int, progress: Progress | None = None
) -> dict[str, Any]:
    """A workload on the RTL (Verilator), compared with golden model and simulator, and how much faster these are.

    Time is taken of a second run, in which the compiled RTL is found; it includes loading the program.
    """
    workload = make(name, images, seed)
    program = compile_balanced(workload.network, config, workload.activity)
    found = rtl.verify([(program, workload.codes)], seed=seed, progress=progress)
    begin = time.perf_counter()
    rtl.run_work([(program, workload.codes)], seed=seed, progress=progress)
    hardware = time.perf_counter() - begin
    many = make(name, _WARM_UP * images, seed).codes
    simulate(program, many[:_WARM_UP])
    begin = time.perf_counter()
    simulate(program, many)
    simulated = time.perf_counter() - begin
    return {
        "workload": name,
        "images": images,
        "values_equal": found["values_equal"],
        "cycles_equal": found["cycles_equal"],
        "layers": found["layers"],
        "rtl_images_per_second": images / hardware,
        "simulator_images_per_second": len(many) / simulated,
        "ratio": len(many) / simulated / (images / hardware),
    }


def against_peers(names: Sequence[str], *, seed: int, progress: Progress | None = None) -> list[dict[str, Any]]:
    """What each peer says of each workload, and how fast; of workloads with equal shapes only the first is modelled.

    Raises
    ------
    RuntimeError
        When a peer can't be installed or fails.
    """
    networks: dict[str, Any] = {}
    for name in names:
        network = make(name, _WARM_UP, seed).network
        if all(peers.shapes(network) != peers.shapes(other) for other in networks.values()):
            networks[name] = network
    runs = [(name, peer) for name in networks for peer in peers.PEERS.values()]
    rows = []
    for done, (name, peer) in enumerate(runs):
        if progress is not None:
            progress(done, len(runs), f"{peer.name}, {name}")
        rows.append({"workload": name, **peers.measure(peer, networks[name], cache_root())})
    return rows


def density_sweep(
    config: AcceleratorConfig,
    *,
    workload: str,
    weights: Sequence[float],
    active: Sequence[float],
    images: int,
    seed: int,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Cycles and limit of a workload's shapes over the densities of weights and activations."""
    points = [(w, a) for w in weights for a in active]
    rows = []
    for done, (weight, density) in enumerate(points):
        if progress is not None:
            progress(done, len(points), f"{workload}, weights {weight:g}, activations {density:g}")
        made = make(workload, images, seed, weights=weight, active=density)
        found = simulate(compile_balanced(made.network, config, made.activity), made.codes)
        rows.append(
            {
                "weights": weight,
                "activations": density,
                "cycles": float(found.cycles.mean()),
                "limit": float(found.limit.sum(axis=1).mean()),
                "share_of_limit": found.share_of_limit,
            }
        )
    return rows
