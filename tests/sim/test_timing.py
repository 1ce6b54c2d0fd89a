"""The simulator's constants are those of the hardware, which it doesn't import."""

import pytest

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.rtl.control.image_loader import ImageLoader
from hw.rtl.control.sequencer import Sequencer
from hw.rtl.core.core import Core
from hw.rtl.core.dispatcher import Dispatcher
from hw.rtl.core.lane import Lane
from hw.rtl.core.pe import ProcessingElement
from hw.rtl.exchange import Exchange
from hw.rtl.host.host_port import HostPort
from hw.rtl.loader import Loader
from sim import timing

CONSTANTS = {
    "BEGIN": Core.BEGIN,
    "FIRST_PUSH": Dispatcher.FIRST_SLOT + Dispatcher.LATENCY,
    "OUTPUT_LATENCY": ProcessingElement.LATENCY,
    "LANE_LATENCY": Lane.LATENCY,
    "RESIDUAL_LATENCY": Lane.RESIDUAL_LATENCY,
    "RAW_LATENCY": Lane.RAW_LATENCY,
    "FETCH_CYCLES": Sequencer.FETCH_CYCLES,
    "DESCRIPTION_CYCLES": Sequencer.DESCRIPTION_CYCLES,
    "LAYER_CYCLES": Sequencer.LAYER_CYCLES,
    "DECISION_CYCLES": Sequencer.DECISION_CYCLES,
    "LEAD": Dispatcher.LEAD,
    "REQUEST_CYCLES": Loader.REQUEST_CYCLES,
    "WRITE_CYCLES": Loader.WRITE,
    "SELECT_CYCLES": Sequencer.SELECT_CYCLES,
    "PREFETCH_CYCLES": Sequencer.PREFETCH_CYCLES,
    "BETWEEN_RUNS": Sequencer.BETWEEN_RUNS,
    "SWITCH_CYCLES": Sequencer.SWITCH_CYCLES,
    "HEADER_CYCLES": HostPort.HEADER_CYCLES,
    "LOADED_CYCLES": ImageLoader.LOADED_CYCLES,
    "IMAGE_DISTANCE": Exchange.IMAGE_DISTANCE,
}


@pytest.mark.parametrize("name", [name for name in timing.__all__ if name.isupper() and name != "END_OF_TIME"])
def test_simulator_and_hardware_state_the_same_latency(name):
    assert getattr(timing, name) == CONSTANTS[name]


def shortest_layer(config):
    """One position of one word, nothing in it, one dump: whatever a layer does, it does this."""
    dump = timing.BEGIN + timing.FIRST_PUSH + 2  # behind the row and the word
    first_entry = dump + 2
    last_step = first_entry + timing.OUTPUT_LATENCY + WORD_CHANNELS // config.lanes - 1
    return last_step + min(timing.RAW_LATENCY, timing.LANE_LATENCY) + 1 + timing.flush_cycles(config, False)


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize("lanes", [1, 2])
def test_the_next_description_is_there_before_a_layer_ends(cores, lanes):
    assert shortest_layer(AcceleratorConfig(cores=cores, lanes=lanes)) > Sequencer.PREFETCH_CYCLES


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("everywhere", [False, True])
def test_simulator_and_hardware_end_layers_alike(cores, lanes, everywhere):
    config = AcceleratorConfig(cores=cores, lanes=lanes)
    assert timing.flush_cycles(config, everywhere) == Core.flush(config, everywhere)
