"""The benches run on the simulator that SIM names; WAVES=1 keeps their waveforms."""

import os

import pytest

from offramp.files.cache_folder import SIMULATORS
from offramp.rtl.waves import Waves


@pytest.fixture
def simulator() -> str:
    """Verilator, unless SIM says otherwise."""
    name = os.environ.get("SIM", "verilator")
    assert name in SIMULATORS, f"SIM must be one of {', '.join(SIMULATORS)}, not {name!r}"
    return name


@pytest.fixture
def waves() -> Waves | None:
    """What is recorded: everything, into the cache directory, with WAVES=1."""
    return Waves() if os.environ.get("WAVES") == "1" else None
