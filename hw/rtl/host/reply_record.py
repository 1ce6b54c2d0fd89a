"""What the sequencer tells the host, by way of the host port."""

from amaranth.lib import data

from hw.program.bits import bits_of, words_of
from hw.rtl.structs import ErrorCode, LayerRecord, Reply, RunResult

__all__ = ["ReplyRecord", "offer_record"]

#: Payload words of the longest record.
_RECORD_WORDS = max(words_of(LayerRecord), words_of(RunResult))


class ReplyRecord(data.Struct):
    """Something to tell the host."""

    reply: Reply
    code: ErrorCode
    length: 4
    payload: 32 * _RECORD_WORDS


def offer_record(stream, reply, layout, whole=None, **fields):
    """Assignments that offer a record of a layout: of a ``whole`` one, if that is given, with these fields instead."""
    record = stream.payload
    view = data.View(layout, record.payload[: bits_of(layout)])
    return [
        record.reply.eq(reply),
        record.length.eq(words_of(layout)),
        *([] if whole is None else [view.eq(whole)]),
        *(view[name].eq(value) for name, value in fields.items()),
        stream.valid.eq(1),
    ]
