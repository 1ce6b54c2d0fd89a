"""A network of an ONNX file as a module of PyTorch's, whose children are the file's nodes by their names.

It takes images (N, channels, height, width) as any other module, of any number, in the floats that the file's input
stands for, and returns the logits of each output. What quantizes and back are PyTorch's ``quantized_decomposed``
operators: an exported program holds scales and codes as they are in the file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from models.frontends.onnx.file import OnnxInput, OnnxNode
from models.frontends.onnx.layout import Layouts
from models.frontends.onnx.sites import Coding
from models.frontends.onnx.sizes import SizesEvaluator
from models.networks.named_steps import NamedSteps

__all__ = ["OnnxModule", "OnnxProgram", "OnnxStep"]

#: Attributes of an instance, which no child may be called.
_RESERVED = {"program", "_evaluate", "step_names", *vars(nn.Module())}

#: Called with a step and its result; returns what goes on in its place.
Observer = Callable[["OnnxStep", Any], Any]


@dataclass(frozen=True, kw_only=True)
class OnnxStep:
    """One thing to compute: the tensors it reads and the one it writes, by their names in the file.

    ``child`` is the name of the module that computes it; None where sizes are computed, from constants, too.
    """

    node: OnnxNode
    child: str | None
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, kw_only=True)
class OnnxProgram:
    """All that a network is besides its modules.

    Attributes
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.
    source : OnnxInput
        Of 4 dimensions, 3 of a row (height 1), or 2 of values alone (height and width 1).
    steps : tuple of OnnxStep
    constants : dict of str to array
        What steps that compute sizes read.
    outputs : tuple of str
    codes : Coding or None
        What the file's input stands for, where it takes codes.
    quantized : bool
        Whether any map is of codes.
    notes : tuple of str
        A sentence for each thing that was left out.
    layouts : Layouts
        How maps lie in the file, where it isn't with channels first.
    refused : tuple of str
        Why nodes can't be followed, and stand-ins are in their places, or nothing.
    """

    shape: tuple[int, int, int]
    source: OnnxInput
    steps: tuple[OnnxStep, ...]
    constants: Mapping[str, np.ndarray]
    outputs: tuple[str, ...]
    codes: Coding | None
    quantized: bool
    notes: tuple[str, ...]
    layouts: Layouts
    refused: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all outputs are computed."""
        return set(self.outputs) <= {step.output for step in self.steps}


class OnnxModule(NamedSteps):
    """The network, of which a step has its node's name.

    Parameters
    ----------
    program : OnnxProgram
    children : dict of str to Module
        By the names that steps have for them (:meth:`may_be_called`).
    evaluate : SizesEvaluator
    """

    def __init__(self, program: OnnxProgram, children: Mapping[str, nn.Module], evaluate: SizesEvaluator) -> None:
        super().__init__()
        self.program, self._evaluate = program, evaluate
        for name, child in children.items():
            self.add_module(name, child)
        nodes = {step.child: step.node.name for step in program.steps}
        self.step_names = {
            f"{name}.{inner}" if inner else name: nodes[name]
            for name, child in children.items()
            for inner, _ in child.named_modules()
        }

    @classmethod
    def may_be_called(cls, name: str) -> bool:
        """Whether a child may have this name."""
        return bool(name) and "." not in name and not hasattr(cls, name) and name not in _RESERVED

    def forward(self, images: torch.Tensor, observe: Observer | None = None) -> Any:
        """The logits of the output, or a tuple of those of several; an observer sees every step."""
        program = self.program
        values: dict[str, Any] = dict(program.constants)
        rank = len(program.source.sizes)
        flat = images if rank == 4 else images.squeeze(2) if rank == 3 else images.flatten(1)
        values[program.source.name] = flat
        for step in program.steps:
            given: list[Any] = [values[name] if name else None for name in step.inputs]
            if step.child is not None:
                result = self.get_submodule(step.child)(*given)
            elif step.node.operator == "Shape":
                span = slice(step.node.attributes.get("start", 0), step.node.attributes.get("end"))
                result = np.array(given[0].shape[span], dtype=np.int64)
            else:
                result = self._evaluate(step.node, given)
            values[step.output] = result if observe is None else observe(step, result)
        found = tuple(values[name] for name in program.outputs)
        return found[0] if len(found) == 1 else found
