"""What the operators of an exported network share on their way to steps: names, maps, constants, problems."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from hw.network.network import INPUT
from hw.network.selection import Select
from models.frontends.pytorch.calls import line_of
from models.frontends.pytorch.exported import Exported
from models.frontends.pytorch.steps import GraphStep

__all__ = ["FIRST", "LAST", "NO_PADS", "REFUSED", "AxisOrder", "Lowering", "Map", "Pads", "UnknownError", "pair"]

Pads = tuple[int, int, int, int]
NO_PADS: Pads = (0, 0, 0, 0)

AxisOrder = tuple[int, ...]
#: Orders of a map's axes (channels, rows, columns): channels first, as it is computed, and last.
FIRST: AxisOrder = (0, 1, 2)
LAST: AxisOrder = (1, 2, 0)

#: What stands for a refused operator's result, so that what reads it is looked at, too: no kind of the accelerator's.
REFUSED = "refused"


@dataclass(frozen=True)
class Map:
    """What a node of the graph is: a tensor of the accelerator's, perhaps padded, or with winners alone.

    Attributes
    ----------
    name : str
        Of the step that makes it, or of the image.
    sole : bool
        Whether all between the step and the node is read once.
    pads : tuple of 4 int
        Zeros above, below, left and right of it.
    select : Select or None
        What of it isn't zero.
    mask : Select or None
        Where its winners are, instead of the map itself.
    order : tuple of 3 int
        The map's axes (channels, rows, columns) in the order in which the node's values lie.
    """

    name: str
    sole: bool = True
    pads: Pads = NO_PADS
    select: Select | None = None
    mask: Select | None = None
    order: AxisOrder = FIRST

    @property
    def plain(self) -> bool:
        """Whether it is the tensor as it is."""
        return self.whole and self.order == FIRST

    @property
    def whole(self) -> bool:
        """Whether it is the tensor, its axes perhaps in another order."""
        return self.pads == NO_PADS and self.select is None and self.mask is None


class UnknownError(Exception):
    """What an operator is can't be said, because one before it was refused; that has been said."""


def pair(sizes: list[int]) -> tuple[int, int]:
    """Height and width of sizes that PyTorch lets be one number."""
    return sizes[0], sizes[-1]


@dataclass(kw_only=True)
class Lowering:
    """The steps so far.

    Attributes
    ----------
    exported : Exported
    maps : dict of Node to (Map or None)
        What each node is that depends on the image; None where its operator was refused, and it is no map.
    steps : dict of str to GraphStep
        By name, in the order in which the module computes them.
    nodes : dict of str to Node
        The node whose value is a step's, by the step's name.
    exits : list of str
        Steps whose outputs are the logits.
    problems : list of str
        Why the network can't run, if it can't.
    called : set of Module
        Those with weights whose operator has been met.
    unsupported : set of Module
        Those in which an operator was met that the accelerator hasn't.
    """

    exported: Exported
    maps: dict[fx.Node, Map | None]
    steps: dict[str, GraphStep] = field(default_factory=dict)
    nodes: dict[str, fx.Node] = field(default_factory=dict)
    exits: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    called: set[nn.Module] = field(default_factory=set)
    unsupported: set[nn.Module] = field(default_factory=set)

    def location(self, node: fx.Node) -> str:
        """What an error calls a node: its module, or what the graph calls it in the network's own forward pass."""
        module, _ = self.exported.module(node)
        return self.exported.step_names.get(module, module) or node.name

    def name(self, node: fx.Node, operator: str) -> str:
        """A new step's: what its module's is called, where that has one, and else the operator's in its module."""
        module, _ = self.exported.module(node)
        name = self.exported.step_names.get(module) or (f"{module}.{operator}" if module else operator)
        taken = {INPUT, *self.steps}
        return next(new for new in (name, *(f"{name}_{n}" for n in range(1, len(taken) + 1))) if new not in taken)

    def module_name(self, node: fx.Node, kind: str) -> str:
        """What a user calls the module of an operator: of maps it is a Conv2d, of rows of columns a Conv1d."""
        operand = node.args[0]
        assert isinstance(operand, fx.Node)
        return f"{kind}{2 if self.exported.values[operand].ndim == 4 else 1}d"

    def shape(self, name: str) -> tuple[int, int, int]:
        """Height, width, channels of a step's output or of the image."""
        return self.exported.shape if name == INPUT else self.steps[name].shape

    def layout(self, node: fx.Node) -> tuple[int, ...]:
        """A node's shape without the images; a map of channels and columns is one of a single row."""
        shape = tuple(self.exported.values[node].shape[1:])
        return (shape[0], 1, shape[1]) if len(shape) == 2 else shape

    def channels_first(self, node: fx.Node, shape: tuple[int, int, int]) -> torch.Tensor:
        """A node's value as a map (images, channels, height, width)."""
        value, found = self.exported.values[node], self.maps.get(node)
        order = FIRST if found is None else found.order
        sizes = (shape[2], *shape[:2])
        turned = value.reshape(len(value), *(sizes[axis] for axis in order))
        return turned.permute(0, *(1 + order.index(axis) for axis in FIRST))

    def refuse(self, node: fx.Node, reason: str) -> None:
        """Note why an operator can't run, and the line it comes from."""
        line = line_of(node)
        problem = f"{reason} ({line})" if line else reason
        if problem not in self.problems:
            self.problems.append(problem)

    def unknown(self, node: fx.Node) -> Map | None:
        """What stands for the result of an operator that was refused, or read one: only its shape is known."""
        value, images = self.exported.values[node], self.exported.values[self.exported.image]
        if not isinstance(value, torch.Tensor) or value.ndim not in (2, 4) or len(value) != len(images):
            return None
        channels, height, width = (*self.layout(node), 1, 1)[:3]
        return self.put(node, GraphStep(kind=REFUSED, name=f"?{node.name}", inputs=(), shape=(height, width, channels)))

    def is_unknown(self, node: fx.Node) -> bool:
        """Whether a node that depends on the image was refused, or computes of one that was."""
        found = self.maps[node]
        return found is None or (found.name != INPUT and self.steps[found.name].kind == REFUSED)

    def put(self, node: fx.Node, step: GraphStep) -> Map:
        """Let a node be the output of a step, new or instead of the one of this name."""
        self.steps[step.name], self.nodes[step.name] = step, node
        return Map(step.name)

    def map(self, node: fx.Node, number: int = 0) -> Map:
        """The operand of this number.

        Raises
        ------
        ValueError
            When it doesn't depend on the image.
        UnknownError
            When its operator was refused.
        """
        return self.operand(node, node.args[number])

    def operand(self, node: fx.Node, operand: Any) -> Map:
        """The same, of the operand itself."""
        if not isinstance(operand, fx.Node) or operand not in self.maps:
            raise ValueError(
                f"{self.location(node)}: {node.name} must be of maps that depend on the image, not {operand}"
            )
        found = self.maps[operand]
        if found is None:
            raise UnknownError
        return found if len(operand.users) == 1 else replace(found, sole=False)

    def whole(self, node: fx.Node, what: str, number: int = 0, *, turned: bool = False) -> Map:
        """The same, refused unless it is a map as it is; ``turned``: its axes perhaps in another order."""
        found, operand = self.map(node, number), node.args[number]
        height, width, channels = self.shape(found.name)
        assert isinstance(operand, fx.Node)
        sizes = tuple((channels, height, width)[axis] for axis in found.order)
        if not (found.whole if turned else found.plain) or (*self.layout(operand), 1, 1)[:3] != sizes:
            raise ValueError(
                f"{self.location(node)}: {what} must read a map (channels, height, width) as it is, "
                "not a flat one, a padded one, one with its channels last, or its winners alone"
            )
        return found

    def fusable(self, node: fx.Node, what: str, kinds: tuple[str, ...]) -> GraphStep:
        """The step that an operator reads, refused unless the operator can become part of it."""
        source = self.map(node)
        step = self.steps.get(source.name)
        if step is not None and step.kind == REFUSED:
            raise UnknownError
        if step is None or step.kind not in kinds or step.relu or not (source.sole and source.plain):
            raise ValueError(
                f"{self.location(node)}: {what} must be the only reader of one of {', '.join(kinds)} without ReLU"
            )
        return step

    def constant(self, node: fx.Node, what: str, value: Any, size: int = 0) -> torch.Tensor:
        """A tensor that doesn't depend on the image, as float32; ``size`` zeros where there is none.

        Raises
        ------
        ValueError
            When it does, or isn't finite.
        """
        if value is None:
            return torch.zeros(size, dtype=torch.float32, device="cpu")
        if value in self.maps:
            if self.is_unknown(value):
                raise UnknownError
            raise ValueError(f"{self.location(node)}: {what} must not depend on the image")
        found: torch.Tensor = self.exported.values[value].detach().to(torch.float32, copy=True)
        if not torch.isfinite(found).all():
            raise ValueError(f"{self.location(node)}: {what} must be finite, not NaN or infinite")
        return found

    def weights(self, node: fx.Node, weight: Any, bias: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and biases of an operator, whose module must have no other."""
        _, module = self.exported.module(node)
        if isinstance(module, nn.Conv2d | nn.Linear):
            if module in self.called:
                raise ValueError(f"{self.location(node)}: a module with weights must be called once, not several times")
            self.called.add(module)
        found = self.constant(node, "weights", weight)
        return found, self.constant(node, "biases", bias, len(found)).to(found.device)
