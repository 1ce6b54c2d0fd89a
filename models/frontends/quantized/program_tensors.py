"""Where a quantized program computes what the tensors of its integer network are, and both compared."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.export import ExportedProgram

from hw.network.network import INPUT, Network
from models.frontends.identities import own_logits
from models.frontends.pytorch.exported import recorded
from models.frontends.pytorch.functional import image_taken
from models.frontends.pytorch.lowering import LAST, AxisOrder
from models.frontends.quantized.lowering import Quantization
from models.integer import golden
from models.integer.exact import exact

__all__ = ["QuantizedSource"]


@dataclass(frozen=True, kw_only=True)
class QuantizedSource:
    """A program, the network that was read from it, and where it computes what the network's tensors are.

    Attributes
    ----------
    program : ExportedProgram
    images : tuple of int
        Shape of what the program takes.
    network : Network
    nodes : dict of str to str
        The node that computes a tensor's codes, or the values of codes that only move or are compared.
    orders : dict of str to tuple of 3 int
        The order of a tensor's axes (channels, rows, columns) in which its node has its values.
    outputs : dict of str to (str, Quantization or None)
        The node that a raw layer stands for.
    rounded : dict of str to array
        Steps by which each weight (outputs, height, width, inputs) of a raw layer has been rounded to one scale.
    codes_off : dict of str to int
        By how many codes the program's sums may differ of which it leaves a summand in float, and what passes them on.
    """

    program: ExportedProgram
    images: tuple[int, ...]
    network: Network
    nodes: Mapping[str, str]
    orders: Mapping[str, AxisOrder]
    outputs: Mapping[str, tuple[str, Quantization | None]]
    rounded: Mapping[str, np.ndarray]
    codes_off: Mapping[str, int]

    @property
    def all_nodes(self) -> dict[str, str]:
        """The node whose values a tensor's are, by the tensor's name; outputs as well."""
        return {**self.nodes, **{name: node for name, (node, _) in self.outputs.items()}}

    @property
    def unrounded(self) -> frozenset[str]:
        """Raw layers whose logits the program doesn't round to codes: :meth:`pair` has them in steps of one scale."""
        return frozenset(name for name, (_, quantization) in self.outputs.items() if quantization is None)

    def given(self, images: np.ndarray) -> torch.Tensor:
        """What the program takes for images (N, height, width, channels): int8 are codes of the network's input."""
        values, like = images, image_taken(self.program)
        if images.dtype == np.int8:
            image, values = self.network.input, images.astype(np.float64)
            if like.is_floating_point():
                values = (values - image.zero_point) * image.scale
            elif like.dtype == torch.uint8:
                values = values + 128
        taken = torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2))).reshape(-1, *self.images[1:])
        return taken.to(like.dtype) if images.dtype == np.int8 else taken

    def tensors(self, images: torch.Tensor) -> dict[str, np.ndarray]:
        """What the program makes of images: codes (N, height, width, channels), of a raw layer what it returns."""
        parts = []
        for start in range(0, len(images), self.images[0]):
            part = images[start : start + self.images[0]]
            filled = torch.cat([part, part[-1:].expand(self.images[0] - len(part), *part.shape[1:])])
            with torch.inference_mode(False), exact():
                values = {node.name: each for node, each in recorded(self.program, filled).items()}
            made = {name: self.arranged(name, values[node]) for name, node in self.all_nodes.items()}
            parts.append({name: each[: len(part)] for name, each in made.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def arranged(self, name: str, value: torch.Tensor) -> np.ndarray:
        """A tensor's codes (N, height, width, channels) of its node's values; of a raw layer what it returns."""
        if value.dtype == torch.uint8:
            value = (value.to(torch.int16) - 128).to(torch.int8)
        if name in self.nodes:
            tensor = self.network.tensors()[name]
            height, width, channels = tensor.shape
            if value.is_floating_point():
                value = (torch.round(value.double() / tensor.scale) + tensor.zero_point).to(torch.int8)
            order = self.orders[name]
            value = value.reshape(-1, *((channels, height, width)[axis] for axis in order))
            value = value.permute(0, *(1 + order.index(axis) for axis in LAST))
        return value.reshape(len(value), -1).numpy() if name in self.outputs else value.contiguous().numpy()

    def compared(self, images: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What the layers of the network and the program make of images, each by itself from the same image codes.

        Parameters
        ----------
        images : array, (N, height, width, channels)
            Of int8: codes as the network takes them; else values as the program takes them.

        Returns
        -------
        dict of str to (array, array)
            By the layer's name, of network and program: codes, of a head the logits in steps of one scale. Layers that
            only rearrange others' codes are left out.

        Raises
        ------
        ValueError
            When there are no images, or they are of another shape.
        """
        shape = self.network.input.shape
        if images.ndim != 4 or images.shape[1:] != shape or not len(images):
            raise ValueError(f"images must be of shape (N, {', '.join(map(str, shape))}), not {images.shape}")
        expected = self.tensors(self.given(images))
        made = golden.run(self.network, self.image_codes(images, expected)).tensors
        return {name: self.pair(name, made[name], expected[name]) for name in expected if name != INPUT}

    def image_codes(self, images: np.ndarray, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """The codes of images, as the program makes them: ``found`` are its tensors of these.

        Where it rounds them only behind what gives values on, such as a max pool, the values are rounded the same way.
        """
        if INPUT in found or images.dtype == np.int8:
            return found.get(INPUT, images)
        image = self.network.input
        codes = np.rint(images.astype(np.float32) / np.float32(image.scale)) + image.zero_point
        return codes.clip(-128, 127).astype(np.int8)

    def pair(self, name: str, made: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a layer and the program compute, on one scale: of a head that of its outputs, or of its logits."""
        if name not in self.outputs:
            return made, expected
        tensor, quantization = self.network.layer(name).output, self.outputs[name][1]
        logits = own_logits(made.reshape(len(made), -1), expected.shape[1])
        if quantization is None:
            return logits, np.rint(expected.astype(np.float64) / tensor.scale)
        codes = np.rint(logits * (tensor.scale / quantization.scale)) + quantization.zero_point
        return codes.clip(quantization.low, quantization.high), expected
