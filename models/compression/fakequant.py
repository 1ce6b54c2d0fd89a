"""The float twin of an integer network that is still learning: it rounds as the integers do, with gradients as if not.

It rounds once where they round twice, so a code may differ by one where the first rounding makes a tie; behind several
adds such differences grow to a few codes. Rounding passes gradients straight through (Bengio et al. 2013, arXiv
1308.3432); the scheme of scales is that of Jacob et al. 2018 (arXiv 1712.05877): weights symmetric with one scale per
output channel, activations with a scale and a zero point per tensor from moving averages of their range.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn

from hw.network.network import INPUT
from models.compression.ranges import TINIEST
from models.frontends.pytorch.steps import Graph, GraphStep, compute
from models.integer.rounding import round_through
from models.networks.winners import keep

__all__ = ["INPUT_SCALE", "INPUT_ZERO_POINT", "LARGEST_BIAS", "FakeQuantNet"]

#: An image's real value of one step, and its zero point: code = round(255 * pixel) - 128.
INPUT_SCALE = 1.0 / 255
INPUT_ZERO_POINT = -128
#: In steps of the accumulator, which has 20 bits at least: leaves it to the products.
LARGEST_BIAS = 1 << 20

_MOMENTUM = 0.05  # share of a new batch in the moving averages of a range
_PEAK = 64  # int8 code that the largest level has at most: enough to resolve, and sums no larger than others have
_EXACT = 1e-5  # what float arithmetic may err by in a quotient that is a whole number


class _Node(nn.Module):
    """Trainable weights of one step and the observed range of its output."""

    low: torch.Tensor
    high: torch.Tensor
    seen: torch.Tensor
    unit: torch.Tensor | None

    def __init__(self, step: GraphStep, logits: bool, unit: torch.Tensor | None) -> None:
        super().__init__()
        self.step = step
        self.logits = logits
        self.threshold = 1  # magnitude in codes that an input activation must reach to be multiplied
        self.result = nn.Identity()  # a place for hooks: its output is the step's, as the integers have it
        self.register_buffer("unit", unit)
        self.weight = None if step.weight is None else nn.Parameter(step.weight.clone())
        self.bias = None if step.bias is None else nn.Parameter(step.bias.clone())
        if unit is not None:
            assert self.weight is not None
            self.weight.requires_grad_(False)
        for name in ("low", "high", "seen"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float32, device="cpu"))

    def weight_scale(self, source_scale: float) -> torch.Tensor:
        """Real value of one weight step, per output channel; of logits the same for all, so that they compare.

        Channels whose weights are zero or nothing beside their bias have steps as large as the bias needs. Weights of
        few levels have steps of which a level is a whole number, so that their codes are exact.
        """
        assert self.weight is not None
        assert self.bias is not None
        largest = self.weight.detach().abs().amax(dim=(1, 2, 3))
        for_bias = self.bias.detach().abs() / (source_scale * LARGEST_BIAS)
        if self.unit is not None:
            levels = (largest / self.unit.clamp_min(TINIEST)).round().max().clamp_min(1)
            coarsest = torch.maximum(self.unit * levels / _PEAK, for_bias).clamp_min(TINIEST)
            steps = (self.unit / coarsest * (1 + _EXACT)).floor()
            return torch.where(steps >= 1, self.unit / steps.clamp_min(1), coarsest)
        scale = torch.maximum(largest / 127, for_bias).clamp_min(TINIEST)
        return scale.max().expand_as(scale) if self.logits else scale

    def observe(self, values: torch.Tensor) -> None:
        """Let the range follow a batch; it always holds zero."""
        low = values.detach().min().clamp_max(0.0)
        high = values.detach().max().clamp_min(0.0)
        share = _MOMENTUM if self.seen else 1.0
        self.low.lerp_(low, share)
        self.high.lerp_(high, share)
        self.seen.fill_(1.0)


class FakeQuantNet(nn.Module):
    """Runs a graph in float with the integers' roundings.

    Images (N, channels, height, width) go in; the logits (N, classes) of every exit come out. In training mode the
    ranges follow the batches while ``observing`` is true; that of the images is given.

    Parameters
    ----------
    graph : Graph
        Of a trained network; its zero weights stay zero when the masks of :meth:`masks` are held.
    units : dict of str to tensor (output channels,), or None
        Of steps whose weights have few levels, what one level is worth (:func:`models.compression.levels.units`). These
        weights aren't trained; biases and ranges are.
    image : tuple of float and int
        Scale and zero point of the images; by default those of pixels in 0..1.
    """

    def __init__(
        self,
        graph: Graph,
        units: Mapping[str, torch.Tensor] | None = None,
        image: tuple[float, int] = (INPUT_SCALE, INPUT_ZERO_POINT),
    ) -> None:
        super().__init__()
        self.graph = graph
        self.image = image
        self.observing = True
        self.nodes = nn.ModuleList(
            _Node(step, step.name in graph.exits, (units or {}).get(step.name)) for step in graph.steps
        )

    def masks(self) -> dict[str, torch.Tensor]:
        """By parameter name, 1 where a weight isn't zero: for :class:`models.training.standard_pieces.FixedMask`."""
        return {
            name: (parameter.detach() != 0).to(parameter.dtype)
            for name, parameter in self.named_parameters()
            if name.endswith(".weight")
        }

    def rectified(self) -> dict[str, nn.Module]:
        """By step, modules whose outputs are the rectified activations."""
        return {node.step.name: node.result for node in self._nodes() if node.step.relu}

    def weighted(self) -> set[str]:
        """Steps that multiply weights, which may have an element threshold."""
        return {node.step.name for node in self._nodes() if node.weight is not None}

    def set_thresholds(self, thresholds: Mapping[str, int]) -> None:
        """Element thresholds by step: smaller input activations, in codes, aren't multiplied
        (:mod:`models.compression.element_thresholds`).

        Raises
        ------
        ValueError
            When no step with weights has that name, or a threshold is outside 1..255.
        """
        nodes = {node.step.name: node for node in self._nodes() if node.weight is not None}
        for name, threshold in thresholds.items():
            if name not in nodes:
                raise ValueError(f"threshold of {name!r}: there is no step with weights of that name")
            if not 1 <= threshold <= 255:
                raise ValueError(f"threshold of {name} must be in 1..255, not {threshold}")
        for name, threshold in thresholds.items():
            nodes[name].threshold = threshold

    def quantization(self) -> dict[str, tuple[float, int]]:
        """Scale and zero point of every tensor by name, the image first; of logits the accumulator's."""
        found = {INPUT: self.image}
        for node in self._nodes():
            found[node.step.name] = self._quantization(node, [found[name] for name in node.step.inputs])
        return found

    def _nodes(self) -> list[_Node]:
        return [node for node in self.nodes if isinstance(node, _Node)]

    @staticmethod
    def _quantization(node: _Node, sources: list[tuple[float, int]]) -> tuple[float, int]:
        if node.step.kind in ("pool", "max_pool"):
            return sources[0]
        # A step of the output never is finer than one of the accumulator: there would be nothing to resolve, and the
        # requantization scale would reach 1.
        finest = 0.0
        if node.weight is not None:
            finest = sources[0][0] * float(node.weight_scale(sources[0][0]).max())
            if node.logits:
                return finest, 0
        low, high = float(node.low), float(node.high)
        if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(finest)):
            raise FloatingPointError(
                f"{node.step.name}: activations became NaN or infinite: a smaller learning rate may help"
            )
        scale = max((high - low) / 255, finest * 1.001, TINIEST)
        return scale, -128 if node.step.relu else min(max(round(-128 - low / scale), -128), 127)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = {INPUT: _fake(x, *self.image)}
        scales = {INPUT: self.image}
        for node in self._nodes():
            step = node.step
            sources = [scales[name] for name in step.inputs]
            result = self._compute(node, [values[name] for name in step.inputs], sources[0][0])
            if step.relu:
                result = result.relu()
            if self.training and self.observing:
                node.observe(result)
            scales[step.name] = self._quantization(node, sources)
            values[step.name] = node.result(result if node.logits else _fake(result, *scales[step.name]))
        return tuple(values[name].flatten(1) for name in self.graph.exits)

    @staticmethod
    def _compute(node: _Node, operands: list[torch.Tensor], source_scale: float) -> torch.Tensor:
        if node.weight is None:
            return compute(node.step, operands)
        assert node.bias is not None
        if node.step.select is not None:
            operands = [keep(operands[0], node.step.select, source_scale)]
        if node.threshold > 1:
            reaching = operands[0].detach().abs() > (node.threshold - 0.5) * source_scale
            operands = [operands[0] * reaching]
        scale = node.weight_scale(source_scale)
        weight = round_through(node.weight / scale[:, None, None, None]) * scale[:, None, None, None]
        step = scale * source_scale
        return compute(node.step, operands, weight, round_through(node.bias / step) * step)


def _fake(values: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    # Times the inverse: a pixel times 255 is exact at ties, where a quotient by an inexact 1/255 is not.
    codes = round_through(values * (1.0 / scale)).clamp(-128 - zero_point, 127 - zero_point)
    return codes * scale
