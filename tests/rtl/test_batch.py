"""Several programs loaded together; images in turn and back to back: values, cycles, and when each result comes."""

import pytest

from hw.compile import compile_network
from hw.config import preset
from offramp.rtl import verify
from tests.random_networks import random_codes, random_network


@pytest.mark.parametrize(("cores", "lanes"), [(2, 2), (4, 1)])
def test_programs_together_do_what_they_do_alone(simulator, waves, cores, lanes):
    config = preset("tiny").replace(cores=cores, lanes=lanes)
    programs = [compile_network(random_network(seed), config) for seed in (6, 11)]
    work = [(program, random_codes(program.network, 4, seed)) for seed, program in enumerate(programs)]
    result = verify(work, simulator=simulator, waves=waves)
    assert (result["values_equal"], result["cycles_equal"], result["mismatches"]) == (True, True, [])
    assert result["images"] == 8
