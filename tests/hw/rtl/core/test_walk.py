import pytest

from hw.rtl.core.walk import Walk
from tests.hw.maps import random_view
from tests.hw.simulate import Bench, always, reused, seldom, simulate

#: Cycles from ``start`` to the first item.
FIRST_ITEM = 1


def expected(view):
    """Item fields with the addresses that belong to them, in order."""
    source = view.source
    for y, x, word, address in view.words():
        if x < 0:
            yield {"row": 1, "table": source["row_table"] + y}
            continue
        fields = {
            "row": 0,
            "table": source["column_table"] + x,
            "blank": int(address is None),
            "word": word,
            "column_end": int(view.ends(y, word)),
        }
        yield fields if address is None else fields | {"address": address}


def bench(rng, go, views):
    """Walks one map after the other."""
    dut = reused(Walk)
    records = []

    async def drive(ctx):
        for view in views:
            wanted = list(expected(view))
            ctx.set(dut.source, view.source)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            found, cycles = [], []
            # Longer than the walk could take, to see that it ends.
            cycle = 0
            while len(found) < len(wanted) or cycle < cycles[-1] + 5:
                cycle += 1
                ready = next(go)
                ctx.set(dut.o.ready, ready)
                _, _, valid, item, table, address = await ctx.tick().sample(
                    dut.o.valid, dut.o.payload, dut.table_address, dut.word_address
                )
                if valid and ready:
                    fields = {"row": item.row, "table": table}
                    if not item.row:
                        fields |= {"blank": item.blank, "word": item.word, "column_end": item.column_end}
                    if not (item.row or item.blank):
                        fields |= {"address": address}
                    found.append(fields)
                    cycles.append(cycle)
            assert found == wanted
            records.append(cycles)

    return dut, drive, records


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_items_and_addresses_with_random_stalls(tmp_path, seed):
    def build(rng):
        views = [random_view(rng, lists=256, accumulators=64, pes=8) for _ in range(6)]
        dut, drive, _ = bench(rng, seldom(rng, 0.6), views)
        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=seed, folder=tmp_path)


def test_one_item_per_cycle(tmp_path):
    def build(rng):
        views = [random_view(rng, lists=256, accumulators=64, pes=8) for _ in range(4)]
        dut, drive, records = bench(rng, always(), views)

        def check():
            for cycles in records:
                assert cycles == list(range(FIRST_ITEM, FIRST_ITEM + len(cycles)))

        return Bench(dut=dut, testbenches=[drive], check=check)

    simulate(build, seed=5, folder=tmp_path)
