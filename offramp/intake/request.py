"""What a user says of a model, before anything is read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from offramp.intake.preprocessing import Preprocessing

if TYPE_CHECKING:
    from models.compression.ranges import Ranges

__all__ = ["ModelRequest"]


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """What a user says of a model.

    Parameters
    ----------
    model : str
        A file, ``module.py:factory`` or ``zoo:NAME``.
    output_tensor : str or None
        Of a TFLite file: the output that counts.
    weights : Path or None
        Of a factory's module: safetensors, or a state dictionary that ``torch.save`` wrote.
    calibrate : str or None
        Images that set the ranges of a float model, as :func:`offramp.intake.samples.read` takes them; None: random.
    ranges : str
        How the ranges of a float model are chosen: one of :data:`models.compression.ranges.RANGES`.
    shape : tuple of 3 int, or None
        Height, width, channels of an image of a float module; None: that of the images.
    preprocessing : Preprocessing
        Of the images.
    seed : int
    root : Path or None
        Folder of the data sets.
    """

    model: str
    output_tensor: str | None = None
    weights: Path | None = None
    calibrate: str | None = None
    ranges: "Ranges" = "minmax"
    shape: tuple[int, int, int] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    seed: int = 0
    root: Path | None = None
