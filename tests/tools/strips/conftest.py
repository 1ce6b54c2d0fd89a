"""The study's modules as plain Python: tests are done before they would be compiled."""

import sys
from importlib import import_module

import numba
import pytest

# What the study takes from the product stays compiled: it is imported before.
import models.integer.golden  # noqa: F401
import sim.simulate  # noqa: F401


def _forget():
    for name in [name for name in sys.modules if name.startswith("tools.strips.")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def plain():
    """A function that imports one of them by its name."""
    before = numba.config.DISABLE_JIT
    _forget()
    numba.config.DISABLE_JIT = True
    yield lambda name: import_module(f"tools.strips.{name}")
    numba.config.DISABLE_JIT = before
    _forget()
