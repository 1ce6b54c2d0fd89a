"""A program takes the images of its network, with columns side by side or not."""

from math import prod

from hw.network.network import INPUT, Network
from hw.network.packing import pack_columns
from hw.network.zero_points import storage_zero_points
from hw.program.instructions import HeaderFields

__all__ = ["packed_as"]


def packed_as(network: Network, header: HeaderFields) -> Network:
    """The network on the image as the program's header says that words hold it.

    Raises
    ------
    ValueError
        When these are no images of the network; the message says what they are.
    """
    channels, zero_point = network.input.shape[2], storage_zero_points(network)[INPUT]
    together, rest = divmod(header.image_channels, channels)
    found = (header.image_bytes, header.image_channels, header.image_zero_point)
    wanted = (prod(network.input.shape), channels, zero_point)
    if (header.image_bytes, rest, header.image_zero_point) != (wanted[0], 0, zero_point):
        raise ValueError(f"program image takes images of (codes, channels, zero point) {found}, the network {wanted}")
    return pack_columns(network, together)
