"""The benches run on the simulator that SIM names; WAVES=1 keeps their waveforms."""

import os

import pytest

from offramp.rtl.simulators import SIMULATORS


@pytest.fixture
def simulator() -> str:
    """Verilator, unless SIM says otherwise."""
    name = os.environ.get("SIM", "verilator")
    assert name in SIMULATORS, f"SIM must be one of {', '.join(SIMULATORS)}, not {name!r}"
    return name


@pytest.fixture
def waves() -> bool:
    """Whether waveforms are recorded."""
    return os.environ.get("WAVES") == "1"
