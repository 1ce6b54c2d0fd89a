"""The layers that are built so far of a quantized program."""

from collections.abc import Iterable
from dataclasses import replace

from hw.network.network import INPUT, Layer, Tensor
from models.frontends.identities import concatenated
from models.frontends.pytorch.steps import GraphStep
from models.frontends.quantized.lowering import CodeRequest, QuantizedStep

__all__ = ["BuiltLayers", "output_of"]


def output_of(step: GraphStep, request: CodeRequest) -> Tensor:
    """The tensor of a step's codes as they are asked for."""
    quantization = request.quantization
    return Tensor(shape=step.shape, scale=quantization.scale, zero_point=quantization.zero_point)


class BuiltLayers:
    """Layers in the order of their execution, each with a name of its own.

    Attributes
    ----------
    layers : list of Layer
    image : Tensor or None
        None until a layer needs the image.
    errors : dict of str to float
        How far the values of a sum may be from the program's before they are rounded, by its name, where a summand has
        been rounded that the program leaves in float.
    """

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.image: Tensor | None = None
        self.errors: dict[str, float] = {}

    def tensor(self, name: str) -> Tensor:
        """A tensor that has been built."""
        if name == INPUT:
            assert self.image is not None
            return self.image
        return next(layer.output for layer in self.layers if layer.name == name)

    def clamp(self, name: str) -> tuple[int, int]:
        """The lowest and the highest code of a tensor."""
        return next((layer.clamp for layer in self.layers if layer.name == name), (-128, 127))

    def passed(self, name: str, sources: Iterable[str]) -> str:
        """The name of a tensor, which has its values from others, and so their errors."""
        errors = [self.errors[source] for source in sources if source in self.errors]
        if errors:
            self.errors[name] = max(errors)
        return name

    def add(self, layer: Layer) -> str:
        """Append a layer, by another name where its own is taken; the name."""
        self.layers.append(replace(layer, name=self.free(layer.name)))
        return self.layers[-1].name

    def free(self, name: str) -> str:
        """A name that no layer has: this one, or this one with a number."""
        taken = {INPUT, *(layer.name for layer in self.layers)}
        return next(new for new in (name, *(f"{name}_{n}" for n in range(1, len(taken) + 1))) if new not in taken)

    def together(self, step: GraphStep, parts: list[str], request: CodeRequest) -> str:
        """Append what puts maps side by side; the name of the last layer."""
        sources = [(part, self.tensor(part)) for part in parts]
        axis = step.axis if isinstance(step, QuantizedStep) else 2
        layers = concatenated(self.free(step.name), sources, output_of(step, request), request.clamp, axis)
        return [self.add(layer) for layer in layers][-1]
