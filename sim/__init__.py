"""The cycle-level simulator: exact cycles of a program on real activations, without stepping cycles."""

from sim.simulate import Simulation, simulate

__all__ = ["Simulation", "simulate"]
