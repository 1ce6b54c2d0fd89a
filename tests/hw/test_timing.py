"""The simulator's constants are those of the hardware. Here, because sim imports no RTL."""

import pytest

from hw.dispatcher import Dispatcher
from hw.lane import Lane
from hw.pe import ProcessingElement
from hw.sequencer import Sequencer
from sim import timing

CONSTANTS = {
    "FIRST_PUSH": Dispatcher.FIRST_SLOT + Dispatcher.LATENCY,
    "OUTPUT_LATENCY": ProcessingElement.LATENCY,
    "LANE_LATENCY": Lane.LATENCY,
    "RESIDUAL_LATENCY": Lane.RESIDUAL_LATENCY,
    "RAW_LATENCY": Lane.RAW_LATENCY,
    "LAYER_OVERHEAD": Sequencer.LAYER_OVERHEAD,
    "BRANCH_CYCLES": Sequencer.BRANCH_CYCLES,
    "STOP_CYCLES": Sequencer.STOP_CYCLES,
}


@pytest.mark.parametrize("name", timing.__all__)
def test_simulator_and_hardware_state_the_same_latency(name):
    assert getattr(timing, name) == CONSTANTS[name]
