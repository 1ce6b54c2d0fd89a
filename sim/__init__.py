"""The cycle-level simulator: exact cycles of a program on real activations, without stepping cycles."""

from sim.bound import layer_bounds, worst_case
from sim.simulate import Simulation, simulate

__all__ = ["Simulation", "layer_bounds", "simulate", "worst_case"]
