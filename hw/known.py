"""What is known of the activation memories while a program is replayed without an image."""

from typing import Any

import numpy as np

from hw.config import BANKS, MASK_CHANNELS, AcceleratorConfig

__all__ = ["Memories", "require"]


def require(condition: Any, message: str) -> None:
    """Raise a ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


class Memories:
    """Which activations are written, which may be nonzero, and up to which channel each mask word may have a bit.

    The methods raise ValueError, naming the instruction, when a program leaves the memories or reads what it has not
    written.
    """

    def __init__(self, config: AcceleratorConfig):
        self._written = np.zeros((BANKS, config.activation_bytes), dtype=bool)
        self._active = np.zeros((BANKS, config.activation_bytes), dtype=bool)
        #: Channels of a mask word up to the last that may be nonzero; -1 where nothing has been written.
        self._told = np.full((BANKS, config.mask_words), -1, dtype=np.int64)

    def write(self, where: str, target: dict[str, int], positions: int, active: np.ndarray) -> np.ndarray:
        """Write a map (fields of :class:`hw.isa.Target`); returns the addresses.

        Parameters
        ----------
        active : bool array (channels,)
            Whether a channel may be nonzero.
        """
        channels, bank = target["channels"], target["bank"]
        words = -(-channels // MASK_CHANNELS)
        require(
            positions == 1 or (target["pitch"] >= channels and target["mask_pitch"] >= words),
            f"{where}: {channels} channels a position must not overlap at pitch {target['pitch']} "
            f"and mask pitch {target['mask_pitch']}",
        )
        steps = np.arange(positions)[:, None]
        places = target["base"] + steps * target["pitch"] + np.arange(channels)
        masks = target["mask_base"] + steps * target["mask_pitch"] + np.arange(words)
        self._inside(where, "activation", places)
        self._inside(where, "mask", masks)
        self._written[bank, places] = True
        self._active[bank, places] = active
        bits = np.pad(active, (0, words * MASK_CHANNELS - channels)).reshape(words, MASK_CHANNELS)
        self._told[bank, masks] = (bits * np.arange(1, MASK_CHANNELS + 1)).max(axis=1)
        return places

    def read(self, where: str, source: dict[str, int]) -> tuple[int, np.ndarray]:
        """Walk a map (fields of :class:`hw.isa.Source`): channels that may be nonzero, and the addresses met."""
        bank = source["bank"]
        y, x = np.arange(source["rows"])[:, None, None], np.arange(source["columns"])[:, None]
        words = np.arange(source["mask_words"])
        masks = source["mask_base"] + y * source["mask_row_pitch"] + x * source["mask_column_pitch"] + words
        self._inside(where, "mask", masks)
        told = self._told[bank, masks]
        require((told >= 0).all(), f"{where}: it reads mask words that nothing before it writes")
        depth = int((words * MASK_CHANNELS + told)[told > 0].max(initial=0))
        first = source["base"] + y * source["row_pitch"] + x * source["column_pitch"]
        places = first + np.arange(depth)
        self.take(where, bank, places)
        return depth, places

    def take(self, where: str, bank: int, places: np.ndarray) -> np.ndarray:
        """Whether the activations at some addresses may be nonzero."""
        self._inside(where, "activation", places)
        require(self._written[bank, places].all(), f"{where}: it reads activations that nothing before it writes")
        return self._active[bank, places]

    def _inside(self, where: str, kind: str, places: np.ndarray) -> None:
        size = (self._told if kind == "mask" else self._written).shape[1]
        last = places.max(initial=0)
        require(last < size, f"{where}: {kind} {last} is beyond the {size} words of a bank")
