"""Several programs loaded together; images in turn and back to back: values, cycles, and when each result comes."""

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.layers import select_of
from offramp.rtl.run import verify
from tests.random_networks import random_codes, random_network, with_selects
from tests.rtl.design import QUICK


@pytest.mark.parametrize(
    ("config", "seed"),
    [(QUICK, 402), *(pytest.param(preset(f"tiny,cores={n},lanes=2"), 6, marks=pytest.mark.slow) for n in (2, 4))],
    ids=["quick", "2", "4"],
)
def test_programs_together_do_what_they_do_alone(simulator, waves, config, seed):
    """One of them selects, the other doesn't."""
    selecting = with_selects(random_network(seed), np.random.default_rng(seed), 0.8)
    assert any(map(select_of, selecting.layers))
    programs = [compile_network(network, config) for network in (selecting, random_network(11))]
    work = [(program, random_codes(program.network, 4, seed)) for seed, program in enumerate(programs)]
    result = verify(work, simulator=simulator, waves=waves)
    assert (result["values_equal"], result["cycles_equal"], result["mismatches"]) == (True, True, [])
    assert result["images"] == 8
