"""What units say to each other: records that streams carry, and layouts that several units share.

Words that software writes or reads have their layouts in :mod:`hw.program`, and come from :mod:`hw.rtl.structs`.
"""

from amaranth import signed
from amaranth.lib import data, enum

from hw.config import LIST_WORD_BITS, WORD_CHANNELS, AcceleratorConfig
from hw.program.bits import bits_of, words_of
from hw.rtl.structs import ErrorCode, FixedPoint, LayerRecord, Reply, RunResult, Source

__all__ = [
    "PAIR",
    "PLACE",
    "TALLY_BITS",
    "WORD",
    "ArrivingWord",
    "ChannelParameters",
    "LoadWord",
    "MaskWrite",
    "Order",
    "OrderKind",
    "OrderValue",
    "ReplyRecord",
    "WordWrite",
    "job_layout",
    "list_row",
    "offer_record",
    "strides_layout",
]

#: A word of activations, ``q - zero_point`` of each channel.
WORD = data.ArrayLayout(signed(9), WORD_CHANNELS)
#: Two neighbouring activations of a word, on their way to the host.
PAIR = data.ArrayLayout(signed(9), 2)
#: Bits of a scanner's accumulator: magnitudes of a channel over all positions of a bank.
TALLY_BITS = 20
#: Where an activation lies: number of its word in the map, and channel in the word.
PLACE = data.StructLayout({"word": 16, "channel": range(WORD_CHANNELS)})
#: Payload words of the longest record.
_RECORD_WORDS = max(words_of(LayerRecord), words_of(RunResult))


class WordWrite(data.Struct):
    """A word of a map, by its number in the map."""

    index: 16
    values: WORD


class ArrivingWord(data.Struct):
    """A word on its way into the cores' memories."""

    of_image: 1  # of an image; else of the map that the layer makes
    word: WordWrite


class LoadWord(data.Struct):
    """A word for one of the memories that a program fills."""

    core: 8
    memory: 8
    address: 16
    data: 32


class ChannelParameters(data.Struct):
    """What the channel memories hold of a channel."""

    bias: signed(32)
    scale: FixedPoint


class MaskWrite(data.Struct):
    """The winners among the channels of a word, by the word's number at its position."""

    channels: WORD_CHANNELS
    word: 8


class OrderKind(enum.Enum, shape=3):
    """What the cores shall do, all at the same time."""

    NONE = 0
    COUNT = 1  #: count the magnitudes that begin with the prefix, by their next digit ``index``
    SUM = 2  #: add the magnitudes of the channels of word ``block`` of each position up
    FIND = 3  #: find activation ``rank`` of those whose magnitude is the prefix, in the core called for
    LIMIT = 4  #: the last tie that wins is in word ``word`` of the map, channel ``index``; the prefix is its magnitude
    MASK = 5  #: keep ``mask``
    FILL = 6  #: take the masks of the layer memory


class OrderValue(data.Union):
    """What an order is about, as its kind says."""

    block: 16  # SUM
    rank: 16  # FIND: from 1
    word: 16  # LIMIT
    mask: MaskWrite  # MASK


class Order(data.Struct):
    """From the selector to all cores."""

    kind: OrderKind
    index: 4  # as the kind says; at all times the accumulator whose content is asked for, too
    value: OrderValue
    prefix: 8


class ReplyRecord(data.Struct):
    """Something to tell the host."""

    reply: Reply
    code: ErrorCode
    length: 4
    payload: 32 * _RECORD_WORDS


def offer_record(target, reply, layout, whole=None, **fields):
    """Assignments that offer a record with these fields, those not named as in ``whole`` if that is given, else 0."""
    record = target.payload
    view = data.View(layout, record.payload[: bits_of(layout)])
    return [
        record.reply.eq(reply),
        record.length.eq(words_of(layout)),
        *([] if whole is None else [view.eq(whole)]),
        *(view[name].eq(value) for name, value in fields.items()),
        target.valid.eq(1),
    ]


def strides_layout(bits: int) -> data.StructLayout:
    """How a map lies in a memory with addresses of so many bits."""
    source = Source.as_shape()
    pitches = {name: source[name].shape for name in ("row_pitch", "column_pitch", "columns")}
    return data.StructLayout({"base": bits} | pitches)


def job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What the dispatcher tells a PE: an activation for a list, or (``dump``) a finished output position.

    Of split lists, entries with one of the marks ``skip`` have no product.
    """
    skip = {"skip": 2} if config.split_lists else {}
    return data.StructLayout({"dump": 1, "value": signed(9), "accumulator": config.accumulator_address_bits} | skip)


def list_row(config: AcceleratorConfig) -> data.StructLayout:
    """A word for the list memory of each PE, at one address, in all cores whose bit in ``cores`` is set."""
    words = data.ArrayLayout(LIST_WORD_BITS, config.pes)
    return data.StructLayout({"cores": 8, "address": config.start_bits, "words": words})
