"""One step as a module, in float or with integer weights that are dequantized: what quantized programs are made of."""

import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from torch import nn

from models.frontends.pytorch.steps import GraphStep
from models.frontends.quantized.float_operators import computed

__all__ = ["StepModule"]

_QD = torch.ops.quantized_decomposed


class StepModule(nn.Module):
    """Computes a step.

    Parameters
    ----------
    step : GraphStep
    """

    weight: torch.Tensor | None
    bias: torch.Tensor | None
    scale: torch.Tensor | None
    zero_point: torch.Tensor | None

    def __init__(self, step: GraphStep) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("weight", step.weight)
        self.register_buffer("bias", step.bias)
        self.register_buffer("scale", None)
        self.register_buffer("zero_point", None)

    def quantize(self, scale: torch.Tensor) -> None:
        """Let weights be codes of -127..127.

        Parameters
        ----------
        scale : tensor of float32, (output channels,)
            Real value of one step of a channel's weights; all equal: one scale.
        """
        assert self.step.weight is not None
        codes = self.step.weight / scale[:, None, None, None]
        self.weight = codes.round().clamp(-127, 127).to(torch.int8)
        self.scale = scale
        self.zero_point = torch.zeros(len(scale), dtype=torch.int64, device="cpu")

    def forward(self, *operands: torch.Tensor) -> torch.Tensor:
        """Of maps (N, channels, height, width)."""
        weight = self.weight
        if self.scale is not None:
            weight = _QD.dequantize_per_channel(
                weight, self.scale, self.zero_point, 0, -127, 127, torch.int8, out_dtype=torch.float32
            )
        return computed(self.step, operands, weight, self.bias)
