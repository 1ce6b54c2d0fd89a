"""Winners take all: of a layer's input only the largest activations count, in float training as on the accelerator.

A convolution or linear layer that carries a :class:`Winners` multiplies what it lets through; other readers of the same
map, a shortcut say, see all of it: the semantics of :class:`hw.network.selection.Select`, which
:func:`models.frontends.pytorch.graph.lower` makes of it. Which activations win is exact, of equal ones the first in
(row, column, channel) order, so that the float network, its fake-quantized twin and the integers agree wherever their
activations do.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from hw.network.selection import Select

__all__ = ["KINDS", "OPERATOR", "Winners", "attach", "attached", "carried", "carriers", "keep", "set_rates"]

#: What can win by a rate.
KINDS = ("elements", "channels")

_NAME = "winners"


def keep(x: torch.Tensor, select: Select, step: float | None = None) -> torch.Tensor:
    """A layer's input (N, channels, height, width) with all but the winners at zero.

    The choice is a constant for autograd: gradients flow through winners only.

    Parameters
    ----------
    x : tensor
    select : Select
        Of maps of this shape.
    step : float or None
        Real value of one step, when ``x`` holds whole steps: channels are compared by exact sums then.
    """
    return x * _mask(x.detach(), select.kind, select.count, select.channels, step)


@torch.library.custom_op("offramp::winners", mutates_args=())
def _mask(x: torch.Tensor, kind: str, count: int, channels: Sequence[int], step: float | None = None) -> torch.Tensor:
    """1 where an element wins, else 0, in a shape that broadcasts to that of ``x``.

    An operator of PyTorch's own kind: an exported graph holds it as one node, which
    :func:`models.frontends.pytorch.graph.lower` reads.
    """
    if kind == "elements":
        return _elements(x, count)
    return _channels(x, Select(kind=kind, count=count, channels=tuple(channels)), step)


#: What an exported graph calls it.
OPERATOR = torch.ops.offramp.winners.default


@_mask.register_fake
def _(x: torch.Tensor, kind: str, count: int, channels: Sequence[int], step: float | None = None) -> torch.Tensor:
    return torch.empty_like(x) if kind == "elements" else x.new_empty((*x.shape[:2], 1, 1))


def _elements(x: torch.Tensor, count: int) -> torch.Tensor:
    flat = x.detach().abs().permute(0, 2, 3, 1).reshape(len(x), -1)
    least = flat.kthvalue(flat.shape[1] - count + 1, dim=1, keepdim=True).values
    above = flat > least
    equal = (flat == least) & (least > 0)  # a zero that wins or loses is the same
    left = count - above.sum(dim=1, keepdim=True)
    if (equal.sum(dim=1, keepdim=True) > left).any():
        equal &= equal.cumsum(dim=1) <= left
    rows, columns, depth = x.shape[2], x.shape[3], x.shape[1]
    return (above | equal).reshape(len(x), rows, columns, depth).permute(0, 3, 1, 2).to(x.dtype)


def _channels(x: torch.Tensor, select: Select, step: float | None) -> torch.Tensor:
    mask = torch.zeros(x.shape[:2], dtype=x.dtype, device=x.device)
    if select.kind == "mask":
        mask[:, list(select.channels)] = 1
    else:
        magnitudes = x.detach().abs() if step is None else (x.detach().abs() / step).round().double()
        order = magnitudes.sum(dim=(2, 3)).argsort(dim=1, descending=True, stable=True)
        mask.scatter_(1, order[:, : select.count], 1)
    return mask[:, :, None, None]


class Winners(nn.Module):
    """Lets the winners of an input through.

    Parameters
    ----------
    kind : str
        ``elements``, ``channels`` or ``mask``, see :class:`hw.network.selection.Select`.
    rate : float
        Winner rate: the share of elements or channels that win, above 0, at most 1; the count is rounded up.
    channels : tuple of int
        Those of a mask, in rising order.

    Attributes
    ----------
    layer : str
        Whose input it is; set by :func:`attach`.

    Raises
    ------
    ValueError
        When the rate is outside its range.
    """

    def __init__(self, kind: str, rate: float = 1.0, channels: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.kind, self.channels, self.layer = kind, channels, ""
        self.rate = rate

    @property
    def rate(self) -> float:
        """Winner rate."""
        return self._rate

    @rate.setter
    def rate(self, value: float) -> None:
        if not 0.0 < value <= 1.0:
            raise ValueError(f"winner rate must be above 0 and at most 1, not {value}")
        self._rate = value

    def select(self, shape: tuple[int, int, int]) -> Select | None:
        """The selection from maps (height, width, channels); None where everything wins.

        Raises
        ------
        ValueError
            When a mask names a channel that the map doesn't have, or the kind is unknown.
        """
        if self.kind == "mask":
            chosen = Select(kind="mask", channels=self.channels)
        else:
            size = shape[2] if self.kind == "channels" else math.prod(shape)
            count = math.ceil(self.rate * size - 1e-9)  # 0.3 * 10 is above 3
            chosen = Select(kind=self.kind, count=count)
            if count == size:
                return None
        chosen.check(_NAME, shape)
        return chosen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` (N, channels, height, width) or flat (N, channels), losers at zero."""
        maps = x if x.ndim == 4 else x[:, :, None, None]
        select = self.select((maps.shape[2], maps.shape[3], maps.shape[1]))
        return x if select is None else keep(maps, select).reshape(x.shape)

    def extra_repr(self) -> str:
        return f"{self.kind}, rate={self.rate}" if self.kind != "mask" else f"channels={self.channels}"


def _before(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Hook of a layer that carries winners."""
    winners = module.get_submodule(_NAME)
    return (winners(inputs[0]), *inputs[1:])


def carriers(model: nn.Module) -> dict[str, nn.Module]:
    """By layer, the module whose input the layer multiplies: itself, or the padding before it."""
    traced = fx.symbolic_trace(model)
    modules = dict(model.named_modules())
    found: dict[str, nn.Module] = {}
    for node in traced.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d | nn.Linear):
            source = node.args[0]
            before = modules.get(str(source.target)) if source.op == "call_module" else None
            padded = isinstance(before, nn.ZeroPad2d) and len(source.users) == 1
            found[str(node.target)] = before if padded and before is not None else module
    return found


def attach(model: nn.Module, winners: Mapping[str, Winners]) -> None:
    """Give layers of a network winners of their input, in place of those they may have.

    Parameters
    ----------
    winners : dict of str to Winners
        By the name of the convolution or linear layer. Where a padding stands before it, that carries the winners:
        padded positions don't compete.

    Raises
    ------
    ValueError
        When there is no convolution or linear layer of a name.
    """
    there = carriers(model)
    for name, chosen in winners.items():
        if name not in there:
            raise ValueError(f"winners need a convolution or linear layer, and {name!r} is none")
        module, chosen.layer = there[name], name
        if carried(module) is None:
            module.register_forward_pre_hook(_before)
        module.add_module(_NAME, chosen)


def carried(module: nn.Module) -> Winners | None:
    """The winners that a layer or the padding before it carries."""
    found = module._modules.get(_NAME)
    return found if isinstance(found, Winners) else None


def attached(model: nn.Module) -> dict[str, Winners]:
    """Winners of a network's layers, by layer."""
    return {module.layer: module for module in model.modules() if isinstance(module, Winners)}


def set_rates(model: nn.Module, rates: Mapping[str, float]) -> None:
    """Other winner rates for layers that carry winners.

    Raises
    ------
    ValueError
        When a layer carries none or a rate is out of range.
    """
    there = attached(model)
    for name, rate in rates.items():
        if name not in there:
            raise ValueError(f"winner rate of {name!r}: the layer carries no winners")
        there[name].rate = rate
