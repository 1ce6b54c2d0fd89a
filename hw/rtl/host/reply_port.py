"""Sends what is to be said to the host: replies of the host port, records of the sequencer, words read."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.records import ReplyRecord
from hw.rtl.structs import ReplyHeader

__all__ = ["ReplyPort"]


class ReplyPort(wiring.Component):
    """Makes one stream of replies of three sources; a record is taken at once and sent word by word.

    Members
    -------
    answer, record : In(stream of ReplyRecord)
        Of the host port and of the sequencer. Where both wait, the host port's goes first.
    data : In(stream of 32 bits)
        Words sent as they are, before any record. From the first to the last word of a reply no record may come.
    o : Out(stream of 32 bits)
        Replies.

    Latency: one cycle from a record to its header, none for ``data``. Throughput: a word a cycle, and a cycle for each
    record. Back-pressure: on all sources, nothing is lost. Reset: what isn't sent yet is forgotten.
    """

    answer: In(stream.Signature(ReplyRecord))
    record: In(stream.Signature(ReplyRecord))
    data: In(stream.Signature(32))
    o: Out(stream.Signature(32))

    def elaborate(self, platform):
        m = Module()
        record, header = Signal(ReplyRecord), Signal(ReplyHeader)
        sent = Signal(range(ReplyRecord.as_shape()["payload"].width // 32 + 1))
        m.d.comb += [header.reply.eq(record.reply), header.code.eq(record.code), header.length.eq(record.length)]
        with m.FSM():
            with m.State("take"):
                m.d.comb += [
                    self.o.valid.eq(self.data.valid),
                    self.o.payload.eq(self.data.payload),
                    self.data.ready.eq(self.o.ready),
                    self.answer.ready.eq(~self.data.valid),
                    self.record.ready.eq(~self.data.valid & ~self.answer.valid),
                ]
                chosen = Mux(self.answer.valid, self.answer.payload.as_value(), self.record.payload.as_value())
                m.d.sync += [record.eq(chosen), sent.eq(0)]
                with m.If(~self.data.valid & (self.answer.valid | self.record.valid)):
                    m.next = "send"

            with m.State("send"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(header),
                ]
                with m.If(sent != 0):
                    m.d.comb += self.o.payload.eq(record.payload.word_select((sent - 1)[: len(sent)], 32))
                with m.If(self.o.ready):
                    m.d.sync += sent.eq(sent + 1)
                    with m.If(sent == record.length):
                        m.next = "take"
        return m
