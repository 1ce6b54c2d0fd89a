"""The part of :mod:`hw.program.isa` that selections need."""

from hw.program.bits import FieldEnum, Layout, signed

__all__ = ["MAX_MASKS", "SelectKind", "SelectUse", "Selection"]

#: Masks of 8 channels that a core keeps: most words of a position that channels are selected of.
MAX_MASKS = 64


class SelectKind(FieldEnum, bits=2):
    """What a SELECT chooses; 0 is nothing."""

    MASK = 1  #: channels that the layer memory names
    ELEMENTS = 2  #: the largest magnitudes of the map, of equal ones those with the lowest word and channel
    CHANNELS = 3  #: the channels with the largest sums of magnitudes, of equal ones the lowest


class SelectUse(FieldEnum, bits=2):
    """What of the choices made before counts in a layer."""

    ALL = 0  #: nothing: all activations
    ELEMENTS = 1  #: magnitudes above the last SELECT's, and those of its ties that won
    CHANNELS = 2  #: channels in the masks


class Selection(Layout):
    """Description of a SELECT in a core's layer memory, in the last words of the space of a LayerDescription.

    Every word of the map belongs to the slice of one core. Kind, pitch, length and count are the same in all cores.
    """

    kind: SelectKind  # what is chosen
    bank: 1  # that holds the map
    base: 12  # first word of this core's slice
    words: 13  # scanned at a time: of ELEMENTS the words of the slice, of CHANNELS its positions
    pitch: 8  # from one of them to the next: 1, or the words of a position; MASK: words of a position
    length: 13  # words of the longest slice
    count: 20  # winners
    shift: signed(17)  # from a word's number in the map to its address in the bank
    table: 12  # MASK: layer memory address of the masks, one of 8 channels in each word
