"""Verilog for waveforms: what people see of it, and that it stays the same machine."""

import re

import pytest

from hw.config import PRESETS, preset
from hw.rtl.verilog import TOP, generate, states
from offramp.rtl.readable import Enumeration, readable

_VERILOG = r"""
module top(clk, order, \bank$14 );
  wire \$1 ;
  wire \done$12 ;
  wire \order$3 ;
  wire [3:0] \port$1801$2 ;
  input clk;
  wire clk;
  (* enum_base_type = "_Kind" *)
  (* enum_value_00 = "NONE" *)
  (* enum_value_01 = "SUM" *)
  input [1:0] order;
  wire [1:0] order;
  (* enum_base_type = "_Kind" *)
  (* enum_value_00 = "NONE" *)
  (* enum_value_01 = "SUM" *)
  reg [1:0] \here$2.kind = 2'h0;
  input \bank$14 ;
  wire \bank$14 ;
  assign \$1  = \done$12  & \order$3 ;
  \top.unit  \unit$7  (
    .\bank$5 (\bank$14 ),
    .clk(clk),
    .done(\done$12 )
  );
  \top.unit  other (
    .\bank$5 (\$1 ),
    .clk(clk),
    .done(\order$3 )
  );
endmodule

module \top.unit (clk, \bank$5 , done);
  input \bank$5 ;
  wire \bank$5 ;
  input clk;
  wire clk;
  output done;
  wire done;
  reg [1:0] \fsm_state$4 ;
  assign done = \bank$5 ;
endmodule
"""


def test_made_up_names_are_hidden_and_others_lose_their_dollars():
    text = readable(_VERILOG, {}, "top").text
    assert set(re.findall(r"\\(\S+)", text)) == {
        "_$1",  # made up
        "_done$12",  # done of unit$7
        "_port$1801$2",  # passes through
        "order_3",
        "here_2.kind",
        "_bank$14",  # bank$5 of unit$7
        "bank_5",
        "top.unit",
        "unit_7",
        "fsm_state_4",
    }
    assert r".\bank_5 (\_bank$14 )," in text
    assert r".\bank_5 (\_$1 )," in text
    assert r"\top.unit \unit_7 (" in text
    assert r"module \top.unit (clk, \bank_5 , done);" in text


def test_every_instance_has_the_enumerations_of_its_module():
    found = readable(
        _VERILOG, {"top.unit": {"fsm_state$4": {0: "idle", 1: "read word", 2: "stop"}}}, "top"
    ).enumerations
    kind = Enumeration("Kind", {"00": "NONE", "01": "SUM"})
    state = Enumeration("fsm_state_4", {"00": "idle", "01": "read_word", "10": "stop"})
    assert found == {
        "top": {"order": kind, "here_2.kind": kind},
        "top.unit_7": {"fsm_state_4": state},
        "top.other": {"fsm_state_4": state},
    }


@pytest.mark.parametrize(
    "name", ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("small", "base-85f"))]
)
def test_nothing_but_names_changes(name):
    """With all names taken away, and spaces that Verilog doesn't need, the text is the same."""

    def nameless(text):
        return re.sub(r"\s+", " ", re.sub(r"\\\S+|\b\w+_\d+\b", "NAME", text)).replace("( ", "(").replace(" (", "(")

    verilog = generate(PRESETS[name])
    text = readable(verilog, states(PRESETS[name]), TOP).text
    assert nameless(text) == nameless(verilog)
    # Different names stay different, in each module.
    for before, after in zip(_modules(verilog), _modules(text), strict=True):
        assert len(before) == len(after)
    assert not [each for names in _modules(text) for each in names if "$" in each and not each.startswith("_")]


def _modules(text):
    """Names declared in each module."""
    bodies = re.findall(r"^module .*?^endmodule", text, flags=re.MULTILINE | re.DOTALL)
    declared = r"^  (?:wire|reg) (?:\[\d+:0\] )?\\?(\S+?)\s*(?:=.*)?;"
    return [set(re.findall(declared, body, flags=re.MULTILINE)) for body in bodies]


@pytest.mark.slow
def test_state_machines_and_fields_of_the_accelerator_have_their_names():
    config = preset("tiny,cores=2")
    found = readable(generate(config), states(config), TOP).enumerations
    assert "idle" in found["offramp.sequencer"]["fsm_state"].values.values()
    assert found["offramp.sequencer"]["operation.op"].name == "Opcode"
    for core in ("core_0", "core_1"):
        assert set(found[f"offramp.{core}.dispatcher"]["state"].values.values()) == {"EMPTY", "ROW", "WORD", "DUMP"}
