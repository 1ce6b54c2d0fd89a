"""How far a simulation is, as those who wait are told."""

from hw.program.protocol import Reply
from offramp.rtl.bench_side import RunsDone
from offramp.rtl.job import PROGRESS
from offramp.rtl.run import runs_done


def test_layers_are_shares_of_the_run_under_way(tmp_path):
    path, seen = tmp_path / PROGRESS, []
    assert runs_done(path, 3, "verilator") is None
    done = RunsDone(tmp_path)
    done.layers = 4
    layer, result = Reply.LAYER, Reply.RESULT
    # The second run leaves early; the third, back to back, says nothing of its layers.
    for reply in (layer, layer, layer, layer, result, Reply.DATA, layer, result, result):
        done.told(reply)
        seen.append(runs_done(path, 3, "verilator"))
    assert seen == [(number, 300, "RTL on verilator") for number in (25, 50, 75, 99, 100, 100, 125, 200, 300)]
    path.write_text("")  # being written
    assert runs_done(path, 3, "verilator") is None
