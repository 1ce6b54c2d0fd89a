"""The simulator's constants are those of the hardware. Here, because sim imports no RTL."""

import pytest

from hw.config import AcceleratorConfig
from hw.core import Core
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


@pytest.mark.parametrize("name", [name for name in timing.__all__ if name.isupper()])
def test_simulator_and_hardware_state_the_same_latency(name):
    assert getattr(timing, name) == CONSTANTS[name]


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize("lanes", [1, 2])
def test_simulator_and_hardware_end_layers_alike(cores, lanes):
    config = AcceleratorConfig(cores=cores, lanes=lanes)
    assert timing.flush_cycles(config) == Core.flush(config)
