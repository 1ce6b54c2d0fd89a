"""The cycle-level simulator: exact cycles of a program on real activations, without stepping cycles."""

from sim.bound import layer_bounds, worst_case
from sim.loading import PROMPT, WeightSource
from sim.simulate import Simulation, simulate

__all__ = ["PROMPT", "Simulation", "WeightSource", "layer_bounds", "simulate", "worst_case"]
