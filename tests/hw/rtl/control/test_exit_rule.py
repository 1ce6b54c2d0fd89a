"""The rule in hardware against :class:`hw.network.exits.Decisions`, run after run."""

from random import Random

import numpy as np
import pytest

from hw.network.exits import Conditions, Decisions
from hw.network.network import Exit
from hw.rtl.control.exit_rule import ExitRule
from tests.hw.simulate import Bench, reused, simulate

WORD = (1 << 32) - 1
FLAGS = ("out_of_range", "forced", "passed", "differs")


def random_head(rng: Random, last: bool) -> tuple[Exit, int, int, bool]:
    """An exit, what its head finds there, and whether the deadline has passed: often at a bound, or next to it."""
    low, high = sorted(rng.choice((0, WORD, rng.randrange(1 << 32), rng.randrange(1 << 10))) for _ in range(2))
    threshold = rng.choice((0, 1, WORD, rng.randrange(1 << 32)))
    near = rng.choice((threshold, threshold, low, high, 0, WORD)) + rng.choice((-1, 0, 1))
    head = Exit(logits="", threshold=None if last else threshold, low=low, high=high)
    return head, rng.randrange(4), min(max(near, 0), WORD), rng.random() < 0.2


@pytest.mark.parametrize("seed", range(4))
def test_runs_end_where_the_rule_says_and_report_what_it_says(tmp_path, seed):
    def build(rng: Random) -> Bench:
        dut = reused(ExitRule)
        seen = {name: set() for name in FLAGS}

        def shake(ctx):
            """What isn't asked for may be anything."""
            for port in (dut.control.stop, dut.control.index, dut.head.label, dut.head.margin, dut.control.expired):
                ctx.set(port, rng.randrange(1 << len(port)))

        async def idle(ctx):
            for _ in range(rng.randrange(3)):
                shake(ctx)
                await ctx.tick()

        async def run(ctx):
            constant, drawn = rng.random() < 0.3, rng.random() < 0.3
            decisions = Decisions(1, Conditions(audit=256 * drawn, constant=constant))
            ctx.set(dut.control.begin, 1)
            ctx.set(dut.control.constant, constant)
            ctx.set(dut.control.drawn, drawn)
            await ctx.tick()
            ctx.set(dut.control.begin, 0)
            count = rng.randint(1, 5)
            for number in range(count):
                await idle(ctx)
                last = number == count - 1
                head, label, margin, expired = random_head(rng, last)
                ctx.set(dut.control.stop, last)
                ctx.set(dut.control.index, number)
                ctx.set(dut.control.decision, {"threshold": head.threshold or 0, "low": head.low, "high": head.high})
                ctx.set(dut.head.label, label)
                ctx.set(dut.head.margin, margin)
                ctx.set(dut.control.expired, expired)
                ctx.set(dut.control.compare, 1)
                await ctx.tick()
                ctx.set(dut.control.compare, 0)
                ctx.set(dut.control.judge, 1)
                found = np.array([label]), np.array([margin])
                if last:
                    decisions.stop(number, head, *found)
                else:
                    decisions.branch(number, head, *found, np.array([expired]))
                assert ctx.get(dut.control.ends) == (not decisions.running[0])
                await ctx.tick()
                ctx.set(dut.control.judge, 0)
                if not decisions.running[0]:
                    break
            await idle(ctx)
            reported, result = ctx.get(dut.control.result), decisions.result(0)
            for name, value in result.items():
                assert (name, getattr(reported, name)) == (name, value)
            assert (reported.cycles, reported.tag, reported.reserved) == (0, 0, 0)
            for name in FLAGS:
                seen[name].add(result[name])

        async def drive(ctx):
            for _ in range(150):
                await run(ctx)

        def check():
            assert all(values == {0, 1} for values in seen.values()), f"runs without some of the cases: {seen}"

        return Bench(dut=dut, testbenches=[drive], check=check)

    simulate(build, seed=seed, folder=tmp_path)
