"""What a network does on images that nothing was learnt from or chosen by."""

from typing import Any

import numpy as np

from hw.compiler.compile import compile_balanced
from hw.config import AcceleratorConfig
from hw.network.network import Network
from models.integer import golden
from models.integer.activity import activity
from offramp.intake.samples import Samples
from offramp.measure.measure import cycle_statistics
from sim import simulate, worst_case

__all__ = ["outcome", "shares_of"]

#: Images that are simulated, and whose activations count for the PEs' work.
_SIMULATED = 1000


def shares_of(network: Network, chosen: Samples) -> dict[str, np.ndarray]:
    """Share of nonzero activations by tensor and channel, 0..1, on the first images."""
    return activity(network, chosen.codes(network)[:_SIMULATED])


def outcome(network: Network, chosen: Samples, test: Samples, config: AcceleratorConfig) -> dict[str, Any]:
    """``accuracy`` and ``exit_share`` on all test images, which have labels; ``cycles`` on the first of them.

    ``chosen`` are images by whose activations channels are dealt to the PEs.
    """
    codes = test.codes(network)
    assert test.labels is not None
    program = compile_balanced(network, config, shares_of(network, chosen))
    found = golden.run(network, codes, keep=False)
    return {
        "accuracy": found.accuracy(test.labels),
        "exit_share": found.exit_share().tolist(),
        "cycles": cycle_statistics(simulate(program, codes[:_SIMULATED]).cycles) | {"bound": worst_case(program)},
    }
