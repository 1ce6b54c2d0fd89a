"""What the sequencer tells the host, by way of the host port."""

from amaranth.lib import data

from hw.isa import ErrorCode, LayerRecord, Reply, Result
from hw.words import words_of

__all__ = ["Record"]

#: Payload words of the longest record.
_RECORD_WORDS = max(words_of(LayerRecord), words_of(Result))


class Record(data.Struct):
    """Something to tell the host."""

    reply: Reply
    code: ErrorCode
    length: 4
    payload: 32 * _RECORD_WORDS
