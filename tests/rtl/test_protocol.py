"""The host protocol on RTL: malformed commands, broken programs, stepping, runs that overlap, reset at any time."""

import json

import pytest

from hw.compiler.compile import compile_network
from hw.network.exits import DEFAULT
from hw.program.program import Program
from models.integer.golden import run
from offramp.rtl.job import JOB, Job
from offramp.rtl.simulators import build, run_test
from sim import simulate
from tests.random_networks import random_codes, random_network
from tests.rtl.design import QUICK

_SEED = 11
#: A small one: it is loaded again and again.
_NETWORK = 406


CASES = {
    "protocol_bench": (
        "malformed_commands",
        "while_stepping",
        "broken_programs",
        "headers_that_no_run_can_serve",
        "an_accelerator_that_says_nothing",
        "reset_at_any_time",
    ),
    "overlap_bench": (
        "next_images_under_stalls",
        "malformed_while_running",
        "abandoned_behind_a_run_that_is_given_up",
        "reset_with_two_runs_under_way",
    ),
}


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_network(random_network(_NETWORK), QUICK)


#: Cases beside others of the same kind.
SLOW = {"headers_that_no_run_can_serve", "abandoned_behind_a_run_that_is_given_up"}


@pytest.mark.parametrize(
    ("bench", "case"),
    [
        pytest.param(bench, case, marks=[pytest.mark.slow] if case in SLOW else [])
        for bench, cases in CASES.items()
        for case in cases
    ],
)
def test_protocol(program, bench, case, tmp_path, simulator, waves):
    codes = random_codes(program.network, 3, _NETWORK)
    golden = run(program.network, codes)
    cycles = simulate(program, codes, golden=golden).cycles
    rows = zip(golden.classes, golden.exit_index, golden.margins, cycles, strict=True)
    expected = [[int(label), int(leave), int(margins[leave]), int(count)] for label, leave, margins, count in rows]
    Job(work=[(program, codes)], conditions=[DEFAULT]).save(tmp_path)
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    run_test(
        build(QUICK, simulator, waves=waves is not None),
        simulator,
        f"tests.rtl.{bench}",
        case,
        tmp_path,
        variables={JOB: str(tmp_path)},
        waves=waves is not None,
        seed=_SEED,
    )
