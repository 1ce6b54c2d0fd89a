"""A program, and what an ideal accelerator would report of it."""

import numpy as np
import pytest

from fpga.runs import RunOutcome
from hw.compiler.compile import compile_network
from hw.config import preset
from models.integer.golden import run
from sim import simulate
from tests.random_networks import random_codes, random_network

_SEED = 6
#: What is said of a decision.
FLAGS = ("early_label", "early_exit", "out_of_range", "forced", "passed", "differs", "overrun")


def ideal_output(program, golden, image, index):
    """What is in the memories after a layer: nonsense where it made nothing."""
    command = program.commands[index]
    tensor = program.network.tensors()[command.tensor]
    values = golden.tensors[command.tensor][image].astype(np.int64)
    values = values.reshape(-1, values.shape[-1]) - tensor.zero_point
    if any(head.logits == command.tensor for head in program.network.exits):
        return [values[0]]
    stored = np.pad(values, ((0, 0), (0, -values.shape[1] % 8)), constant_values=0)
    made = np.arange(stored.shape[1]) // 8 * 8
    stored[:, (made < command.channels[0]) | (made >= command.channels[1])] = 999
    words = stored.reshape(-1, 8)
    layer = program.decoded.layers[index]
    windows = [core.window for core in layer.cores]
    return [words[window.low :][: window.count] for window in windows]


@pytest.fixture(scope="package")
def case():
    """A program, its images, golden results, timing, and the reports that an ideal accelerator would send."""
    program = compile_network(random_network(_SEED), preset("tiny").replace(cores=2))
    codes = random_codes(program.network, 3, _SEED)
    golden = run(program.network, codes)
    timing = simulate(program, codes, golden=golden)
    outcomes = []
    for image in range(len(codes)):
        layers, outputs = [], []
        for index in np.flatnonzero(timing.layer_cycles[image]):
            outputs.append(ideal_output(program, golden, image, index))
            layers.append(
                {
                    "index": int(index),
                    "cycles": int(timing.layer_cycles[image, index]),
                    "products": int(timing.products[image, index]),
                    "stalls": int(timing.stalls[image, index]),
                    "waited": int(timing.waited[image, index]),
                }
            )
        leave = int(golden.exit_index[image])
        outcomes.append(
            RunOutcome(
                label=int(golden.classes[image]),
                exit=leave,
                margin=int(golden.margins[image, leave]),
                cycles=int(timing.cycles[image]),
                flags=dict.fromkeys(FLAGS, 0),
                layers=layers,
                outputs=outputs,
            )
        )
    return program, golden, timing, outcomes
