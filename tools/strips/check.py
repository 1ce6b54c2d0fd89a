"""The recurrence over strips, made to do what the accelerator does today, beside the product's simulator."""

from collections.abc import Mapping

import numpy as np

from hw.compiler.compile import Compilation
from hw.program.program import Program
from sim.simulate import Simulation
from sim.timing import BEGIN, DECISION_CYCLES, flush_cycles
from tools.strips.cut import cut_network
from tools.strips.machine import Machine
from tools.strips.placement import Bench
from tools.strips.recurrence import CORE_FIELDS, STRIP_FIELDS
from tools.strips.work import Work

__all__ = ["compared"]


def compared(
    compilation: Compilation,
    program: Program,
    values: tuple[Mapping[str, np.ndarray], np.ndarray],
    simulated: Simulation,
) -> dict[str, int]:
    """Cycles of layers and products by both, with partitions, walks and lists that the compiler chose, and a barrier
    behind each layer.

    Parameters
    ----------
    values : tensors and exits
        Of the first images that were simulated, as :class:`tools.strips.work.Work` takes them.
    """
    config, images = program.config, len(values[1])
    partitions = [option.expansion.partition for option in compilation.told.chosen.options]
    layers = cut_network(program.network, partitions, config)
    work = Work(layers, program.network, *values, config, host_strips=1)
    latency = STRIP_FIELDS.index("latency")
    for row, strip in zip(work.table[1:], work.strips, strict=True):
        everywhere = bool(program.decoded.layers[strip.layer].cores[0].target.everywhere)
        row[latency] += BEGIN + flush_cycles(config, everywhere) - flush_cycles(config, True)
    bench = Bench(work, Machine.of(config))
    cores = np.array([strip.task.tile.core for strip in work.strips])
    times = bench.time(bench.start(cores), slice(None), barrier=True)
    layer_of = np.array([-1] + [strip.layer for strip in work.strips])
    cycles = 0
    for number, layer in enumerate(layers):
        first = times.started[:, layer_of == number].min(axis=1)
        last = times.done[:, layer_of == number].max(axis=1)
        cycles += int((last - first - DECISION_CYCLES * (layer.exit >= 0))[first >= 0].sum())
    return {
        "images": images,
        "simulator": int(simulated.layer_cycles[:images].sum()),
        "model": cycles,
        "products": int(simulated.products[:images].sum()),
        "model_products": int(times.counted[:, CORE_FIELDS.index("products")].sum()),
    }
