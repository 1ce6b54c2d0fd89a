"""Decides at an exit whether the run ends there, and keeps what it will report: :mod:`hw.network.exits` for one run."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.interfaces import HeadResult
from hw.rtl.structs import Decision, RunResult

__all__ = ["ExitRule"]


class ExitRule(wiring.Component):
    """The rule of :class:`hw.program.protocol.RunOptions` in two cycles: the margin is compared, then the exit is
    judged.

    Members
    -------
    begin : In(1)
        Forget the run before.
    constant, drawn : In(1)
        The run is in constant time; it is audited. Stable throughout the run.
    compare : In(1)
        A BRANCH or STOP is reached; the inputs below are stable in this cycle and the next.
    stop : In(1), index : In(8), decision : In(Decision)
        Of the instruction.
    head : In(HeadResult)
        What the exit unit found.
    expired : In(1)
        The deadline has passed; it forces no run in constant time.
    judge : In(1)
        In the cycle after ``compare``.
    ends : Out(1)
        With ``judge``: the run ends here.
    result : Out(RunResult)
        What is to be reported, without cycles, overrun and tag; complete from the cycle after the one in which the run
        ends.

    Reset: no run.
    """

    begin: In(1)
    constant: In(1)
    drawn: In(1)
    compare: In(1)
    stop: In(1)
    index: In(8)
    decision: In(Decision)
    head: In(HeadResult())
    expired: In(1)
    judge: In(1)
    ends: Out(1)
    result: Out(RunResult)

    def elaborate(self, platform):
        m = Module()
        result, head = self.result, self.head
        wants, outside, leaves = Signal(), Signal(), Signal()
        with m.If(self.begin):
            m.d.sync += result.eq(0)
        with m.If(self.compare):
            m.d.sync += [
                wants.eq(~self.stop & ~result.passed & (head.margin >= self.decision.threshold)),
                outside.eq((head.margin < self.decision.low) | (head.margin > self.decision.high)),
            ]
        m.d.comb += [
            leaves.eq(self.stop | (wants & ~self.constant & ~self.drawn)),
            self.ends.eq(leaves | (self.expired & ~self.constant)),
        ]
        with m.If(self.judge):
            # What is reported: the exit passed, until another one ends the run; in constant time to the end.
            with m.If(Mux(self.ends, ~(result.passed & self.constant), wants)):
                m.d.sync += [
                    result.label.eq(head.label),
                    result.exit.eq(self.index),
                    result.margin.eq(head.margin),
                    result.out_of_range.eq(outside),
                ]
            with m.If(self.ends):
                m.d.sync += [
                    result.forced.eq(~leaves),
                    result.differs.eq(result.passed & (head.label != result.early_label)),
                ]
            with m.Elif(wants):
                m.d.sync += [
                    result.passed.eq(1),
                    result.early_label.eq(head.label),
                    result.early_exit.eq(self.index),
                ]
        return m
