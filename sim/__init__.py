"""The cycle-level simulator: exact cycles of a program on real activations, without stepping cycles."""

from hw.weight_source import PROMPT, WeightSource
from sim.batch import BatchTiming, has_known_time, time_batch
from sim.bound import constant_time, layer_bounds, worst_case
from sim.core_times import CoreTimes, core_times
from sim.simulate import Simulation, simulate

__all__ = [
    "PROMPT",
    "BatchTiming",
    "CoreTimes",
    "Simulation",
    "WeightSource",
    "constant_time",
    "core_times",
    "has_known_time",
    "layer_bounds",
    "simulate",
    "time_batch",
    "worst_case",
]
