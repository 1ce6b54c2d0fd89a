"""What a user says of a model, before anything is read."""

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from hw.rules import require
from models.compression.range_rules import Ranges, check_ranges
from offramp.intake.preprocessing import Preprocessing

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
        Images that set the ranges of a float model, or of what a quantized one leaves in float, as
        :func:`offramp.intake.samples.read` takes them; None: random ones of a float model.
    ranges : str
        How the ranges of a float model are chosen: one of :data:`models.compression.range_rules.RANGES`.
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
    ranges: Ranges = "minmax"
    shape: tuple[int, int, int] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    seed: int = 0
    root: Path | None = None

    @property
    def is_module(self) -> bool:
        """Whether a function makes the model."""
        return self.model.rpartition(":")[0].endswith(".py")

    def typed(self, **further: str | None) -> str:
        """The model and its options, and further ones that are given, as one types them in a shell."""
        plain, how = Preprocessing(), self.preprocessing
        options = {
            "output_tensor": self.output_tensor,
            "weights": self.weights,
            "calibrate": self.calibrate,
            "ranges": None if self.ranges == "minmax" else self.ranges,
            "shape": self.shape and ",".join(map(str, self.shape)),
            "scale": None if how.scale == plain.scale else how.scale,
            "mean": None if how.mean == plain.mean else ",".join(map(str, how.mean)),
            "deviation": None if how.deviation == plain.deviation else ",".join(map(str, how.deviation)),
            "data_dir": None if str(self.root) == os.environ.get("OFFRAMP_DATA") else self.root,
        }
        given = {name: value for name, value in (options | further).items() if value is not None}
        words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        return shlex.join([self.model, *words])

    def written(self, file: Path) -> "ModelRequest":
        """That for a network file that was made of the model: it takes the same images."""
        return ModelRequest(model=str(file), root=self.root, preprocessing=self.preprocessing)

    def check(self) -> None:
        """Refuse options that aren't for such a model, by its name.

        Raises
        ------
        ValueError
            Naming the option and the model.
        """
        check_ranges(self.ranges)
        require(
            self.output_tensor is None or self.model.endswith(".tflite"),
            f"--output-tensor must go with a TFLite file, not with {self.model}",
        )
        if self.is_module:
            return
        require(self.weights is None, f"--weights must go with module.py:factory, not with {self.model}")
        if not self.model.endswith((".onnx", ".pt2")):
            self.check_int8()

    def check_int8(self) -> None:
        """Refuse options of float models, of one that is int8 already.

        Raises
        ------
        ValueError
            Naming the option and the model.
        """
        for option, given in (("--calibrate", self.calibrate is not None), ("--ranges", self.ranges != "minmax")):
            require(not given, f"{option} must go with a float model: {self.model} is int8 already")
