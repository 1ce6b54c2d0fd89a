"""The study's modules as plain Python: tests are done before they would be compiled."""

import sys
from importlib import import_module

import numba
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from sim import simulate
from tests.random_networks import random_codes
from tests.tools.strips.networks import exiting


def _forget():
    for name in [name for name in sys.modules if name.startswith("tools.strips.")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def plain():
    """A function that imports one of them by its name."""
    # What the study takes from the product stays compiled: it is, before nothing is any more.
    network = exiting()
    simulate(compile_network(network, preset("base-85f")), random_codes(network, 1, 1))
    before = numba.config.DISABLE_JIT
    _forget()
    numba.config.DISABLE_JIT = True
    yield lambda name: import_module(f"tools.strips.{name}")
    numba.config.DISABLE_JIT = before
    _forget()
