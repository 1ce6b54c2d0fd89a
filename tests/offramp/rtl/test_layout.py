"""The layout for GTKWave."""

from pathlib import Path

from offramp.rtl.layout import groups, layout

_SIGNALS = {
    "offramp.clk": "",
    "offramp.i__payload": "[31:0]",
    "offramp.sequencer.fsm_state": "[4:0]",
    "offramp.core_0.state__done": "",
    "offramp.core_10.state__done": "",
    "offramp.core_2.state__done": "",
    "offramp.core_2.pe_1.accumulators.write__data": "[27:0]",
    "offramp.core_2.pe_1.dispatcher__wanted": "",
}


def test_groups_follow_the_units_in_the_order_of_their_numbers():
    titles = [(title, closed) for title, closed, _ in groups(_SIGNALS)]
    assert titles == [
        ("host", False),
        ("run", False),
        ("core_0", False),
        ("core_2", False),
        ("core_10", False),
        ("core_2.pe_1", True),
    ]


def test_signals_that_there_are_not_are_left_out():
    lines = layout(Path("/somewhere/run.fst"), _SIGNALS).splitlines()
    assert lines[:2] == ['[dumpfile] "/somewhere/run.fst"', '[savefile] "/somewhere/run.gtkw"']
    traces = [line for line in lines if line.startswith("offramp.")]
    assert traces == [
        "offramp.clk",
        "offramp.i__payload[31:0]",
        "offramp.sequencer.fsm_state[4:0]",
        "offramp.core_0.state__done",
        "offramp.core_2.state__done",
        "offramp.core_10.state__done",
        "offramp.core_2.pe_1.dispatcher__wanted",
        "offramp.core_2.pe_1.accumulators.write__data[27:0]",
    ]
    # Names of values where there are any; accumulators with their sign.
    assert lines[lines.index(traces[2]) - 1] == "@20"
    assert lines[lines.index(traces[-1]) - 1] == "@420"
