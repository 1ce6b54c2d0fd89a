"""What the operators of a quantized program share on their way to steps: steps of their own, and their scales."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from hw.network.network import INPUT
from models.frontends.pytorch.lowering import FIRST, REFUSED, AxisOrder, Lowering, Map
from models.frontends.pytorch.steps import GraphStep

__all__ = ["ANY", "CodeRequest", "Quantization", "QuantizedLowering", "QuantizedStep", "plain", "put"]

_GIVING = ("max_pool", "concat", "clip")  # kinds of steps that give on values which they read
_GRID = 1e-4  # of a step, by which a bound may be beside a code where a clamp stands before another layer

#: Bounds that no value leaves.
ANY = (-math.inf, math.inf)


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What the codes of a map mean, as int8: those of uint8 are lower by 128.

    Attributes
    ----------
    scale : float
    zero_point : int
    low, high : int
        Lowest and highest code.
    """

    scale: float
    zero_point: int
    low: int
    high: int

    @property
    def negated(self) -> "Quantization":
        """That of the map with all signs changed: code q becomes -1 - q."""
        return replace(self, zero_point=-1 - self.zero_point, low=-1 - self.high, high=-1 - self.low)

    def codes(self, bounds: tuple[float, float]) -> tuple[int, int]:
        """The codes of real bounds."""
        low, high = (
            self.zero_point + math.copysign(math.inf, bound)
            if math.isinf(bound)
            else round(bound / self.scale) + self.zero_point
            for bound in bounds
        )
        return int(min(max(low, self.low), self.high)), int(min(max(high, self.low), self.high))


@dataclass(frozen=True)
class CodeRequest:
    """Codes that are asked for: on which scale, and within which bounds of real values."""

    quantization: Quantization
    bounds: tuple[float, float] = ANY

    def within(self, bounds: tuple[float, float]) -> "CodeRequest":
        """The same, of what bounds have been put on before."""
        low, high = (min(max(bound, self.bounds[0]), self.bounds[1]) for bound in bounds)
        return replace(self, bounds=(low, high))

    @property
    def clamp(self) -> tuple[int, int]:
        return self.quantization.codes(self.bounds)


@dataclass(frozen=True, kw_only=True)
class QuantizedStep(GraphStep):
    """A step without weights that only such programs have.

    Parameters
    ----------
    kind : str
        ``quantize``, and dequantize behind it; ``clip``; ``concat``; ``affine``: gains and offsets; ``monotone``: what
        keeps the order of values.
    quantization : Quantization or None
    bounds : tuple of 2 float
        Of what a clip lets through.
    gain, offset : tensor or None
        Of each channel: float32.
    axis : int
        Along which a concat puts maps together: 0 rows, 1 columns, 2 channels.
    """

    quantization: Quantization | None = None
    bounds: tuple[float, float] = ANY
    gain: torch.Tensor | None = None
    offset: torch.Tensor | None = None
    axis: int = 2

    @property
    def negates(self) -> bool:
        """Whether it changes the signs of all values, and nothing else."""
        changed = (self.gain, -1), (self.offset, 0)
        return self.kind == "affine" and all(each is not None and bool((each == to).all()) for each, to in changed)


@dataclass(kw_only=True)
class QuantizedLowering(Lowering):
    """The steps so far, with what only quantized programs have.

    Attributes
    ----------
    scales : dict of str to tensor
        Of each output channel's weights, by the step's name: float64.
    moved : set of str
        Steps that only move the values that they read.
    """

    scales: dict[str, torch.Tensor] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)

    def own(self, step: GraphStep) -> Quantization | None:
        """The quantization that a step's values have without being rounded again."""
        if isinstance(step, QuantizedStep) and step.quantization is not None:
            return step.quantization
        if isinstance(step, QuantizedStep) and step.negates and step.inputs[0] != INPUT:
            before = self.own(self.steps[step.inputs[0]])
            return None if before is None else before.negated
        if not self._gives(step):
            return None
        owns = {None if name == INPUT else self.own(self.steps[name]) for name in step.inputs}
        own = owns.pop()
        if owns or own is None:
            return None
        if isinstance(step, QuantizedStep) and step.kind == "clip":
            steps = [bound / own.scale for bound in step.bounds if math.isfinite(bound)]
            return own if all(abs(number - round(number)) < _GRID for number in steps) else None
        return own

    def is_refused(self, step: GraphStep) -> bool:
        """Whether a step is what stands for an operator that was refused, or gives on values of one."""
        given = [self.steps[name] for name in step.inputs if name != INPUT] if self._gives(step) else []
        return step.kind == REFUSED or any(map(self.is_refused, given))

    def _gives(self, step: GraphStep) -> bool:
        """Whether a step gives on values that it reads."""
        return step.kind in _GIVING or step.name in self.moved


def put(
    found: Lowering, node: fx.Node, kind: str, inputs: tuple[str, ...], *, order: AxisOrder = FIRST, **values: Any
) -> Map:
    """Let a node be the output of a step of such programs' own; ``order`` is that of the axes of its values."""
    shape = values.pop("shape", None) or found.shape(inputs[0])
    step = QuantizedStep(kind=kind, name=found.name(node, kind), inputs=inputs, shape=shape, **values)
    return replace(found.put(node, step), order=order)


def plain(found: Lowering, node: fx.Node, operand: Any, *, turned: bool = False) -> Map:
    """An operand that is a map as it is; ``turned``: its axes perhaps in another order."""
    source = found.operand(node, operand)
    if not (source.whole if turned else source.plain):
        raise ValueError(f"{found.location(node)}: {node.name} must read a map with channels first and without padding")
    return source
