"""What checks of values share."""

import keyword
import math
import re
from typing import Any

__all__ = [
    "MisfitError",
    "ShortageError",
    "StructureError",
    "check_identifier",
    "check_image",
    "first_line",
    "integer",
    "integers",
    "require",
    "shown",
    "text",
]

#: Most characters of a value in a message.
_LONGEST = 80
#: Most characters of what an exception of others says.
_LINE = 300
#: Of an image; many times what any accelerator takes.
_MOST_VALUES = 1 << 24
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
#: Reserved words of SystemVerilog (IEEE 1800-2017, annex B), all of Verilog's among them: many tools read both as one.
_VERILOG = """
accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind bins
binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos config const
constraint context continue cover covergroup coverpoint cross deassign default defparam design disable dist do edge
else end endcase endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface endmodule
endpackage endprimitive endprogram endproperty endsequence endspecify endtable endtask enum event eventually expect
export extends extern final first_match for force foreach forever fork forkjoin function generate genvar global highz0
highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir include initial inout input inside
instance int integer interconnect interface intersect join join_any join_none large let liblist library local
localparam logic longint macromodule matches medium modport module nand negedge nettype new nexttime nmos nor
noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive priority program
property protected pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0 rtranif1
s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled signed small
soft solve specify specparam static string strong strong0 strong1 struct super supply0 supply1 sync_accept_on
sync_reject_on table tagged task this throughout time timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand
trior trireg type typedef union unique unique0 unsigned until until_with untyped use uwire var vectored virtual void
wait wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor
"""
_RESERVED = frozenset(keyword.kwlist) | frozenset(_VERILOG.split())


def require(condition: Any, message: str) -> None:
    """Raise a ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, its first characters; the exception's type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_LINE].rstrip(".")


def integer(value: Any) -> bool:
    """Whether a value is an integer, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def integers(value: Any, count: int) -> bool:
    """Whether a value is a tuple of so many integers."""
    return isinstance(value, tuple) and len(value) == count and all(integer(n) for n in value)


def check_image(shape: Any) -> None:
    """Refuse a shape that no image has, before anything of its size is made.

    Raises
    ------
    ValueError
        When it isn't height, width and channels, or has too many values.
    """
    require(
        integers(shape, 3) and min(shape) >= 1,
        f"shape must be a tuple of 3 positive integers (height, width, channels of an image), not {shown(shape)}",
    )
    require(
        math.prod(shape) <= _MOST_VALUES,
        f"shape must be of an image of at most {_MOST_VALUES:,} values, not {shown(shape)}",
    )


def text(value: Any) -> bool:
    """Whether a value is a text, not empty and of characters that can be printed."""
    return isinstance(value, str) and bool(value) and value.isprintable()


def check_identifier(name: str) -> None:
    """Refuse a name that a module of Verilog or Python, or a file, can't have.

    Raises
    ------
    ValueError
        When it is such a name.
    """
    require(
        _IDENTIFIER.fullmatch(name) and name not in _RESERVED,
        "name must be letters, digits and _, at most 64, no digit first and no reserved word of SystemVerilog or "
        f"Python, not {shown(name)}",
    )


def shown(value: Any) -> str:
    """A value as a message shows it: whatever a file holds, a few characters."""
    try:
        found = repr(value)
    except ValueError:  # Python shows no integer of more than some thousand digits.
        found = "a number of too many digits"
    return found if len(found) <= _LONGEST else f"{found[:_LONGEST]}..."


class MisfitError(ValueError):
    """A network doesn't fit an accelerator: in a certain way, or in no way at all."""


class StructureError(MisfitError):
    """No config runs a network, whatever its sizes: the network must be changed."""


class ShortageError(MisfitError):
    """A network doesn't fit list or activation memories.

    Parameters
    ----------
    message : str
        Names the memory, and by how much it is too small.
    words : int
        How many words are missing.
    """

    def __init__(self, message: str, words: int):
        super().__init__(message)
        self.words = words
