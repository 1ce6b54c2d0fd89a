"""What a network does on images that nothing was learnt from or chosen by."""

from typing import Any

import numpy as np

from hw.network.network import Network
from models.integer import golden
from models.integer.activity import activity
from offramp.intake.model import Model
from offramp.intake.programs import program_of
from offramp.intake.samples import Samples
from offramp.measure.measure import cycle_statistics
from sim import simulate, worst_case

__all__ = ["outcome", "shares_of"]

#: Images that are simulated, and whose activations count for the PEs' work.
_SIMULATED = 1000


def shares_of(network: Network, chosen: Samples) -> dict[str, np.ndarray]:
    """Share of nonzero activations by tensor and channel, 0..1, on the first images."""
    return activity(network, chosen.codes(network)[:_SIMULATED])


def outcome(network: Network, chosen: Samples, test: Samples, config: str) -> dict[str, Any]:
    """``accuracy`` and ``exit_share`` on all test images, which have labels; ``cycles`` on the first of them.

    ``chosen`` are images by whose activations channels are dealt to the PEs.

    Raises
    ------
    ValueError
        When the network doesn't fit the config; the message has one that it fits.
    """
    codes = test.codes(network)
    assert test.labels is not None
    model = Model(network=network, origin=network.name, activity=shares_of(network, chosen))
    program, _ = program_of(model, config)
    found = golden.run(network, codes, keep=False)
    return {
        "accuracy": found.accuracy(test.labels),
        "exit_share": found.exit_share().tolist(),
        "cycles": cycle_statistics(simulate(program, codes[:_SIMULATED]).cycles) | {"bound": worst_case(program)},
    }
