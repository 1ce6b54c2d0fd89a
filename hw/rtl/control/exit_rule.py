"""Decides at an exit whether the run ends there, and keeps what it will report: :mod:`hw.network.exits` for one run."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.rtl.interfaces import ExitControl, HeadResult

__all__ = ["ExitRule"]


class ExitRule(wiring.Component):
    """The rule of :class:`hw.program.protocol.RunOptions` in two cycles: the margin is compared, then the exit is
    judged.

    Members
    -------
    control : In(ExitControl)
        The sequencer's question.
    head : In(HeadResult)
        What the exit unit found; stable from ``compare`` until ``judge``.

    Latency: one cycle from ``compare``. Throughput: an exit in two cycles. Takes no back-pressure. Reset: no run.
    """

    control: In(ExitControl())
    head: In(HeadResult())

    def elaborate(self, platform):
        m = Module()
        control, result, head = self.control, self.control.result, self.head
        wants, outside, leaves = Signal(), Signal(), Signal()
        with m.If(control.begin):
            m.d.sync += result.eq(0)
        with m.If(control.compare):
            m.d.sync += [
                wants.eq(~control.stop & ~result.passed & (head.margin >= control.decision.threshold)),
                outside.eq((head.margin < control.decision.low) | (head.margin > control.decision.high)),
            ]
        m.d.comb += [
            leaves.eq(control.stop | (wants & ~control.constant & ~control.drawn)),
            control.ends.eq(leaves | (control.expired & ~control.constant)),
        ]
        with m.If(control.judge):
            # What is reported: the exit passed, until another one ends the run; in constant time to the end.
            with m.If(Mux(control.ends, ~(result.passed & control.constant), wants)):
                m.d.sync += [
                    result.label.eq(head.label),
                    result.exit.eq(control.index),
                    result.margin.eq(head.margin),
                    result.out_of_range.eq(outside),
                ]
            with m.If(control.ends):
                m.d.sync += [
                    result.forced.eq(~leaves),
                    result.differs.eq(result.passed & (head.label != result.early_label)),
                ]
            with m.Elif(wants):
                m.d.sync += [
                    result.passed.eq(1),
                    result.early_label.eq(head.label),
                    result.early_exit.eq(control.index),
                ]
        return m
