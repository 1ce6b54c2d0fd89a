"""The layers made so far of a TensorFlow Lite file, and where each of its tensors is in them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hw.network.network import INPUT, Layer, Tensor
from hw.rules import shown, text
from models.frontends.identities import rescaled
from models.frontends.tflite.file import Operator, Subgraph

__all__ = ["NO_PADS", "Assembly", "TensorPlace", "TooManyWeightsError", "UnknownTensorError", "bound"]


NO_PADS = (0, 0, 0, 0)

#: Values of a map, and weights that are made up for a layer, at most: shapes are only claims.
_LARGEST = 1 << 24
#: Weights of all layers, at most: operators may share a constant.
_WEIGHTS = 1 << 25


class UnknownTensorError(Exception):
    """A tensor that an operator writes which was refused already."""


class TooManyWeightsError(ValueError):
    """There is no point in looking at more operators."""


def bound(count: int, what: str) -> None:
    """Refuse more values than any accelerator holds."""
    if count > _LARGEST:
        raise ValueError(f"{what} must be of at most {_LARGEST} values, not {count}")


@dataclass(frozen=True, kw_only=True)
class TensorPlace:
    """Where a tensor of the file is: a map of the network, perhaps with zeros around it that no layer has made.

    Parameters
    ----------
    name : str
        Of the map.
    map : Tensor
        Without the zeros.
    pads : tuple of 4 int
        Rows above and below, columns left and right.
    """

    name: str
    map: Tensor
    pads: tuple[int, int, int, int] = NO_PADS

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels with the zeros."""
        (height, width, channels), (top, bottom, left, right) = self.map.shape, self.pads
        return height + top + bottom, width + left + right, channels


class Assembly:
    """Takes the layers that operators become.

    Attributes
    ----------
    layers : list of Layer
        In execution order.
    made : dict of str to int
        The number of the tensor that a layer writes as the file's operator does; layers that help are not in it.
    raw : set of int
        Tensors that a head delivers as accumulators where it can.
    readers : list of int
        How many operators, and outputs, read each tensor.
    """

    def __init__(self, graph: Subgraph, readers: Sequence[int], raw: set[int]) -> None:
        self.tensors = graph.tensors
        self.readers, self.raw = readers, raw
        self.layers: list[Layer] = []
        self.made: dict[str, int] = {}
        self._maps: dict[str, Tensor] = {}
        self._views: dict[int, TensorPlace] = {}
        self._pads: dict[int, str] = {}
        self._unknown: set[int] = set()
        self._weights = 0

    def label(self, number: int) -> str:
        """A tensor as a message names it."""
        name = self.tensors[number].name
        return f"tensor {number} ({name if text(name) and len(name) <= 80 else shown(name)})"

    def begin(self, number: int, image: Tensor) -> None:
        """Say which tensor is the network's input, and what map."""
        self._maps[INPUT] = image
        self._views[number] = TensorPlace(name=INPUT, map=image)

    @property
    def image_map(self) -> Tensor:
        """The network's input."""
        return self._maps[INPUT]

    def quantization(self, number: int) -> tuple[float, int]:
        """Scale and zero point of a tensor's codes; those of UINT8 are taken less 128."""
        tensor = self.tensors[number]
        if tensor.dtype not in ("INT8", "UINT8"):
            raise ValueError(f"{self.label(number)} must be INT8, not {tensor.dtype}")
        if len(tensor.scales) != 1 or len(tensor.zero_points) != 1:
            found = f"{len(tensor.scales)} and {len(tensor.zero_points)}"
            raise ValueError(f"{self.label(number)} must have one scale and one zero point, not {found}")
        return float(tensor.scales[0]), int(tensor.zero_points[0]) - 128 * (tensor.dtype == "UINT8")

    def shape(self, number: int) -> tuple[int, int, int]:
        """Height, width, channels of a tensor as the file says it."""
        shape = self.tensors[number].shape
        if len(shape) == 2:
            shape = (shape[0], 1, 1, shape[1])
        elif len(shape) == 3:
            shape = (shape[0], 1, *shape[1:])
        if len(shape) != 4 or shape[0] != 1:
            raise ValueError(f"{self.label(number)} must be a batch of one map, not {list(self.tensors[number].shape)}")
        return shape[1], shape[2], shape[3]

    def map(self, number: int, shape: tuple[int, int, int] | None = None) -> Tensor:
        """The map that a tensor is; ``shape``: as it is computed, where the file may say it with other ones."""
        scale, zero_point = self.quantization(number)
        said = self.tensors[number].shape
        if shape is None:
            shape = self.shape(number)
        elif [size for size in said if size != 1] != [size for size in shape if size != 1]:
            raise ValueError(f"{self.label(number)} must be of shape {[1, *shape]}, not {list(said)}")
        bound(int(np.prod(shape, dtype=object)), self.label(number))
        return Tensor(shape=shape, scale=scale, zero_point=zero_point)

    def output(self, operator: Operator, shape: tuple[int, int, int] | None = None, *, coded: bool = True) -> Tensor:
        """The map that an operator writes; ``coded``: which is INT8."""
        number = operator.outputs[0]
        if coded:
            self._check_coded(number)
        return self.map(number, shape)

    def _check_coded(self, number: int) -> None:
        if self.tensors[number].dtype != "INT8":
            raise ValueError(f"{self.label(number)} must be INT8, not {self.tensors[number].dtype}")

    def padded(self, operator: Operator, index: int = 0, *, coded: bool = True) -> TensorPlace:
        """Where a tensor is that an operator reads, zeros around it perhaps only in name; ``coded``: which is INT8."""
        number = operator.inputs[index]
        if number in self._unknown:
            raise UnknownTensorError
        if number not in self._views:
            constant = ", not be a constant" if self.tensors[number].data is not None else ""
            raise ValueError(f"{self.label(number)} must be computed by an earlier operator{constant}")
        if coded:
            self._check_coded(number)
        return self._views[number]

    def source(self, operator: Operator, index: int = 0, *, coded: bool = True) -> TensorPlace:
        """Where a tensor is that an operator reads, zeros around it made."""
        self.padded(operator, index, coded=coded)
        return self.whole(operator.inputs[index])

    def whole(self, number: int) -> TensorPlace:
        """Where a tensor is, zeros around it made."""
        view = self._views[number]
        if view.pads != NO_PADS:
            copy = rescaled(self._pads[number], view.name, view.map)
            self._append(replace(copy, pads=view.pads, output=replace(view.map, shape=view.shape)), number)
        return self._views[number]

    def image(self, operator: Operator, *, padded: bool = False) -> TensorPlace:
        """The map that an operator reads first by rows, columns and channels."""
        view = self.padded(operator) if padded else self.source(operator)
        number = operator.inputs[0]
        if self.tensors[number].shape != (1, *view.shape):
            raise ValueError(
                f"{operator.name} must read a map by the rows, columns and channels that it was computed with, "
                f"{[1, *view.shape]}, not {list(self.tensors[number].shape)}"
            )
        return view

    def constant(self, operator: Operator, index: int, what: str) -> np.ndarray:
        """Contents of a constant that an operator reads."""
        data = self.tensors[operator.inputs[index]].data
        if data is None:
            raise ValueError(f"{operator.name} must have constant {what}")
        return data

    def append(self, operator: Operator, layer: Layer) -> None:
        """Take the layer that writes what an operator writes."""
        self._append(layer, operator.outputs[0])

    def help(self, layer: Layer) -> TensorPlace:
        """Take a layer that writes no tensor of the file."""
        layer.check(tuple(self._maps[source] for source in layer.inputs))
        self._weights += getattr(layer, "weight", np.empty(0)).size
        if self._weights > _WEIGHTS:
            raise TooManyWeightsError(f"all layers must have at most {_WEIGHTS} weights, not {self._weights} and more")
        self.layers.append(layer)
        self._maps[layer.name] = layer.output
        return TensorPlace(name=layer.name, map=layer.output)

    def _append(self, layer: Layer, number: int) -> None:
        self._views[number] = self.help(layer)
        self.made[layer.name] = number

    def same(self, operator: Operator, view: TensorPlace) -> None:
        """Say that an operator writes what is there already."""
        self._views[operator.outputs[0]] = view
        if operator.inputs[0] in self._pads:
            self._pads[operator.outputs[0]] = f"{self._pads[operator.inputs[0]]}.{operator.position}"

    def later(self, operator: Operator, view: TensorPlace) -> None:
        """Say that an operator writes a map with zeros around it, made where one reads it that can't do it itself."""
        self._views[operator.outputs[0]] = view
        self._pads[operator.outputs[0]] = f"pad_{operator.position}"

    def clamped(self, operator: Operator, clamp: tuple[int, int]) -> bool:
        """Clamp the last layer where an operator that only clamps is all that reads it; whether it is so."""
        number = operator.inputs[0]
        if not self.layers or self.readers[number] != 1 or self.made.get(self.layers[-1].name) != number:
            return False
        layer = self.layers.pop()
        low, high = (min(max(code, clamp[0]), clamp[1]) for code in layer.clamp)
        self.append(operator, replace(layer, clamp=(low, high)))
        return True

    def codes(self, view: TensorPlace) -> tuple[int, int]:
        """Lowest and highest code that a map can hold."""
        return next((layer.clamp for layer in self.layers if layer.name == view.name), (-128, 127))

    def has(self, number: int) -> bool:
        """Whether a tensor is computed, or would be but for what was refused."""
        return number in self._views or number in self._unknown

    def unknown(self, numbers: Sequence[int]) -> None:
        """Say nothing more of what reads these tensors."""
        self._unknown.update(numbers)

    def refused(self, numbers: Sequence[int]) -> None:
        """Go on where these tensors couldn't be made, so that other operators can be looked at."""
        for number in (number for number in numbers if number >= 0):
            try:
                view = TensorPlace(name=f"?{number}", map=self.map(number))
                view.map.check(view.name)
            except ValueError:
                self.unknown([number])
            else:
                self._views[number], self._maps[view.name] = view, view.map
