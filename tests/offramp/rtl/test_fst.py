"""Waveforms in FST, read by the library that the viewer Surfer reads them with."""

import pytest
from pywellen import Waveform

from offramp.rtl.fst import write_fst
from offramp.rtl.readable import Enumeration

#: As simulators write it: two names of one signal, a hidden one, leading zeros left out, and at the end cut off.
_VCD = """$version Someone's $end
$timescale
    1ps
$end
$scope module top $end
$var wire 1 ! clk $end
$var wire 4 " count [3:0] $end
$var wire 1 # _hidden $end
$var wire 1 # \\_$1 $end
$scope module unit_0 $end
$var wire 2 $ state [1:0] $end
$var wire 4 " \\order.kind [3:0] $end
$upscope $end
$upscope $end
$enddefinitions $end
#0
$dumpvars
0!
b0 "
0#
bx $
$end
#5
1!
b1 "
#10
0!
b10 $
#15
1!
b10 "
#20
0!
#25
1!
b11 "
b1 $
#30
0!
b1"""
_STATE = Enumeration("State", {"00": "IDLE", "01": "RUN", "10": "STOP"})
_TIMES = (0, 5, 10, 15, 20, 25, 30)


@pytest.fixture
def recorded(tmp_path):
    def write(windows=None):
        (tmp_path / "dump.vcd").write_text(_VCD)
        signals = write_fst(tmp_path / "dump.vcd", tmp_path / "waves.fst", {"top.unit_0": {"state": _STATE}}, windows)
        return signals, Waveform(str(tmp_path / "waves.fst"))

    return write


def values(waveform, name):
    return [waveform[name].signal.value_at(time) for time in _TIMES]


def test_names_values_and_enumerations_are_those_of_the_simulator(recorded):
    signals, found = recorded()
    assert signals == {
        "top.clk": "",
        "top.count": "[3:0]",
        "top.unit_0.state": "[1:0]",
        "top.unit_0.order.kind": "[3:0]",
    }
    assert [each.full_name for each in found.all_vars()] == list(signals)
    assert values(found, "top.clk") == [0, 1, 0, 1, 0, 1, 0]
    assert values(found, "top.count") == values(found, "top.unit_0.order.kind") == [0, 1, 1, 2, 2, 3, 3]
    assert values(found, "top.unit_0.state") == ["xx", "xx", 2, 2, 2, 1, 1]
    name, names = found["top.unit_0.state"].enum_type
    assert (name, dict(names)) == _STATE
    assert found["top.count"].enum_type is None


def test_only_windows_are_recorded_and_begin_with_the_values_of_before(recorded):
    _, found = recorded([(5, 10), (25, 30)])
    assert values(found, "top.count") == [None, 1, 1, 1, 1, 3, 3]
    assert values(found, "top.unit_0.state") == [None, "xx", 2, 2, 2, 1, 1]
    assert values(found, "top.clk") == [None, 1, 0, 0, 0, 1, 0]


def test_a_window_is_what_lies_in_it(recorded):
    """Its ends need not be times of changes; one that comes after all recorded is empty."""
    _, found = recorded([(12, 17), (40, 50)])
    assert values(found, "top.count") == [None, None, None, 2, 2, 2, 2]
    assert values(found, "top.unit_0.state") == [None, None, None, 2, 2, 2, 2]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "dump.vcd").write_text(_VCD)
    with pytest.raises(OSError, match=r"missing/waves\.fst: cannot be written"):
        write_fst(tmp_path / "dump.vcd", tmp_path / "missing" / "waves.fst", {})
