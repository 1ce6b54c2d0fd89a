"""Latencies of the hardware's units, in cycles. Each is a constant of an RTL component; a test holds them together."""

import numpy as np

from hw.config import AcceleratorConfig

__all__ = [
    "BEGIN",
    "BETWEEN_RUNS",
    "DECISION_CYCLES",
    "DESCRIPTION_CYCLES",
    "END_OF_TIME",
    "FETCH_CYCLES",
    "FIRST_PUSH",
    "HEADER_CYCLES",
    "IMAGE_DISTANCE",
    "LANE_LATENCY",
    "LAYER_CYCLES",
    "LEAD",
    "LOADED_CYCLES",
    "OUTPUT_LATENCY",
    "PREFETCH_CYCLES",
    "RAW_LATENCY",
    "REQUEST_CYCLES",
    "RESIDUAL_LATENCY",
    "SELECT_CYCLES",
    "SWITCH_CYCLES",
    "WRITE_CYCLES",
    "flush_cycles",
    "takes_images",
]

#: Later than anything.
END_OF_TIME = np.int64(1) << 60
#: From the start of a layer to that of the units in all cores.
BEGIN = 1
#: From that to the push stage of the first issue slot.
FIRST_PUSH = 12
#: Cycles before it in which the dispatcher, if held, comes later to that.
LEAD = 7
#: From the issue of a dump entry to its accumulator's place at the lane.
OUTPUT_LATENCY = 7
#: From the lane taking an accumulator to its activation, plain, with residual, and raw.
LANE_LATENCY = 13
RESIDUAL_LATENCY = 32
RAW_LATENCY = 3
#: Sequencer cycles to fetch an instruction, and to decode a LAYER and fetch its description; none behind a LAYER.
FETCH_CYCLES = 4
DESCRIPTION_CYCLES = 20
#: Sequencer cycles of a LAYER besides these and the layer's own, of a BRANCH or STOP.
LAYER_CYCLES = 1
DECISION_CYCLES = 9
#: From one request of the loader to the next, and from a row's last beat to its write.
REQUEST_CYCLES = 5
WRITE_CYCLES = 3
#: Sequencer cycles between the start of a selection and the next instruction besides the selector's, and the fewest in
#: all: the next instruction and its description are fetched meanwhile.
SELECT_CYCLES = 3
PREFETCH_CYCLES = 26

#: From the transfer of a RUN's header to the run being handed over, where no other one waits; and what is added where
#: the program is not the one of the run before.
HEADER_CYCLES = 3
SWITCH_CYCLES = 18
#: Cycles between two words of an image while a run is at work.
IMAGE_DISTANCE = 4
#: From an image's last code to the cycle before the run's first.
LOADED_CYCLES = 2
#: From a run's last cycle, it excluded, to the cycle before the next one's first.
BETWEEN_RUNS = 2


def takes_images(config: AcceleratorConfig, everywhere: bool) -> bool:
    """Whether words of an image find room in a layer."""
    return not (config.neighbour_exchange and everywhere)


def flush_cycles(config: AcceleratorConfig, everywhere: bool) -> int:
    """Cycles from the lanes' end to the layer's: until every core that needs their last word can read it."""
    return config.cores + 6 if everywhere or not config.neighbour_exchange else 9
