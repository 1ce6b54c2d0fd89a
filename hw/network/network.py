"""The integer network: what the importers and the quantizer produce, what the compiler and the golden model read.

A network is a list of layers in execution order. Tensors are named by the layer that writes them; ``INPUT`` is the
image. The layers themselves: :mod:`hw.network.layers`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from hw.network.base_layer import Layer, Tensor
from hw.network.layers import Add, Conv2D, DepthwiseConv2D, Linear, is_raw
from hw.network.pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from hw.network.selection import Select
from hw.numerics import Rounding
from hw.rules import integer, require, shown, text

__all__ = [
    "INPUT",
    "NEVER",
    "Add",
    "AveragePool2D",
    "Conv2D",
    "DepthwiseConv2D",
    "Exit",
    "GlobalAveragePool",
    "Layer",
    "Linear",
    "MaxPool2D",
    "Network",
    "Select",
    "Tensor",
]

#: Name of the image tensor.
INPUT = "input"
#: Threshold that no margin reaches: the exit isn't taken.
NEVER = (1 << 32) - 1


@dataclass(frozen=True, kw_only=True)
class Exit:
    """A classifier head at which inference may end.

    Parameters
    ----------
    logits : str
        Name of a raw linear layer.
    threshold : int or None
        Leave when the margin of the two largest logits is at least this; None at the last exit, which is always taken.
    low, high : int
        Margins that are to be expected; others are reported as out of range.
    """

    logits: str
    threshold: int | None = None
    low: int = 0
    high: int = (1 << 32) - 1


_KINDS: dict[str, type[Layer]] = {
    kind.kind: kind for kind in (Conv2D, DepthwiseConv2D, Linear, Add, AveragePool2D, MaxPool2D, GlobalAveragePool)
}


@dataclass(frozen=True, kw_only=True)
class Network:
    """An integer network with its exits.

    Parameters
    ----------
    name : str
    input : Tensor
        The image.
    layers : tuple of Layer
        In execution order; a layer reads the input or earlier layers.
    exits : tuple of Exit
        In order of their heads; the last one has no threshold and reads the last layer.
    classes : int
        At least 2.

    Raises
    ------
    ValueError
        When anything contradicts anything else; the message names the layer, the rule and the value.
    """

    name: str
    input: Tensor
    layers: tuple[Layer, ...]
    exits: tuple[Exit, ...]
    classes: int

    def __post_init__(self) -> None:
        require(text(self.name), f"a network's name must be a text that can be printed, not {shown(self.name)}")
        require(
            integer(self.classes) and self.classes >= 2,
            f"{self.name}: classes must be an integer of at least 2, not {self.classes!r}",
        )
        self.input.check(INPUT)
        tensors = {INPUT: self.input}
        for layer in self.layers:
            require(text(layer.name), f"a layer's name must be a text that can be printed, not {shown(layer.name)}")
            require(layer.name not in tensors, f"{layer.name}: names must be unique")
            for source in layer.inputs:
                require(source in tensors, f"{layer.name}: reads {source!r}, which no earlier layer writes")
                require(not is_raw(self._find(source)), f"{layer.name}: reads the raw logits {source!r}")
            layer.check(tuple(tensors[source] for source in layer.inputs))
            tensors[layer.name] = layer.output
        require(bool(self.exits), f"{self.name}: a network needs an exit")
        position = -1
        for number, head in enumerate(self.exits):
            layer_ = self._find(head.logits)
            require(is_raw(layer_), f"exit {number}: {head.logits!r} must be a raw linear layer")
            assert layer_ is not None
            require(
                layer_.output.shape[2] == self.classes,
                f"exit {number}: {head.logits} has {layer_.output.shape[2]} outputs, "
                f"the network {self.classes} classes",
            )
            index = self.layers.index(layer_)
            require(index > position, f"exit {number}: exits must be in execution order")
            position = index
            last = number == len(self.exits) - 1
            require(
                (head.threshold is None) == last,
                f"exit {number}: only the last exit, and always that, goes without a threshold",
            )
            require(
                head.threshold is None or (integer(head.threshold) and 0 <= head.threshold < 1 << 32),
                f"exit {number}: threshold must be an integer in 0..{(1 << 32) - 1}, not {head.threshold!r}",
            )
            require(
                integer(head.low) and integer(head.high) and 0 <= head.low <= head.high < 1 << 32,
                f"exit {number}: low and high must be ordered integers in 0..{(1 << 32) - 1}, "
                f"not {head.low!r} and {head.high!r}",
            )
        require(position == len(self.layers) - 1, f"{self.name}: the last exit must read the last layer")

    def _find(self, name: str) -> Layer | None:
        return next((layer for layer in self.layers if layer.name == name), None)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, the image first."""
        return {INPUT: self.input} | {layer.name: layer.output for layer in self.layers}

    def layer(self, name: str) -> Layer:
        """The layer of that name."""
        found = self._find(name)
        require(found is not None, f"{self.name} has no layer {name!r}")
        assert found is not None
        return found

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every array as ``layer/field``, for files."""
        for layer in self.layers:
            for entry in fields(layer):
                value = getattr(layer, entry.name)
                if isinstance(value, np.ndarray):
                    yield f"{layer.name}/{entry.name}", value

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON can hold it."""
        return {
            "name": self.name,
            "classes": self.classes,
            "input": _tensor_to_dict(self.input),
            "exits": [asdict(head) for head in self.exits],
            "layers": [_layer_to_dict(layer) for layer in self.layers],
        }

    @classmethod
    def from_dict(cls, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> "Network":
        """The inverse of :meth:`to_dict` and :meth:`arrays`.

        Raises
        ------
        ValueError
            When a key is missing or unknown, or a value impossible.
        """
        try:
            found = cls(
                name=manifest["name"],
                classes=manifest["classes"],
                input=_tensor_from_dict(manifest["input"]),
                exits=tuple(Exit(**head) for head in manifest["exits"]),
                layers=tuple(layer_from_dict(layer, arrays) for layer in manifest["layers"]),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"network description is incomplete or has unknown keys: {error}") from error
        unknown = sorted(arrays.keys() - {name for name, _ in found.arrays()})
        require(not unknown, f"{found.name}: arrays must be of its layers' fields, not {shown(unknown)}")
        return found


def _tensor_to_dict(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "scale": tensor.scale, "zero_point": tensor.zero_point}


def _tensor_from_dict(manifest: dict[str, Any]) -> Tensor:
    return Tensor(**{**manifest, "shape": tuple(manifest["shape"])})


def _layer_to_dict(layer: Layer) -> dict[str, Any]:
    manifest: dict[str, Any] = {"kind": layer.kind}
    for entry in fields(layer):
        value = getattr(layer, entry.name)
        if isinstance(value, Tensor):
            value = _tensor_to_dict(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Select):
            value = value.to_dict()
        if not isinstance(value, np.ndarray):
            manifest[entry.name] = value
    return manifest


def layer_from_dict(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> Layer:
    """One layer from its description and the arrays ``layer/field``.

    Raises
    ------
    ValueError
        When its kind isn't supported; the message names the layer and the kinds that are.
    """
    values = dict(manifest)
    kind, name = values.pop("kind"), values["name"]
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"{name}: layer kind must be one of {', '.join(_KINDS)}, not {shown(kind)}")
    values["output"] = _tensor_from_dict(values["output"])
    for entry in fields(_KINDS[kind]):
        if entry.name in ("inputs", "clamp", "stride", "pads", "window"):
            values[entry.name] = tuple(values[entry.name])
        elif entry.name == "rounding":
            if values[entry.name] not in list(Rounding):
                raise ValueError(
                    f"{name}: rounding must be one of {', '.join(Rounding)}, not {shown(values[entry.name])}"
                )
            values[entry.name] = Rounding(values[entry.name])
        elif entry.name == "select" and values.get("select") is not None:
            values["select"] = Select(**{**values["select"], "channels": tuple(values["select"]["channels"])})
        elif f"{name}/{entry.name}" in arrays:
            values[entry.name] = arrays[f"{name}/{entry.name}"]
    return _KINDS[kind](**values)
