"""From a PyTorch module to the handful of steps the accelerator knows: batch norms folded, ReLUs fused."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from hw.network import INPUT
from hw.select import Select
from models.winners import carried

__all__ = ["Graph", "Step", "lower"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One fused layer.

    Parameters
    ----------
    kind : str
        ``conv``, ``depthwise``, ``linear``, ``add``, ``pool`` (average) or ``max_pool``.
    name : str
    inputs : tuple of str
    shape : tuple of 3 int
        Height, width, channels of the output.
    relu : bool
    weight : tensor or None
        (output channels, input channels, kernel height, kernel width); of a linear layer the kernel is the whole map,
        a depthwise convolution has one input channel.
    bias : tensor or None
        (output channels,)
    stride : tuple of 2 int
    pads : tuple of 4 int
        Zeros above, below, left and right; of a max pool, positions that are never the largest.
    window : tuple of 2 int or None
        Height and width of a pool's window, which may be the whole map.
    select : Select or None
        Winners among the activations that a layer with weights multiplies.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, int, int]
    relu: bool = False
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    window: tuple[int, int] | None = None
    select: Select | None = None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Steps in execution order and the names of the linear steps whose outputs are the exits' logits."""

    shape: tuple[int, int, int]
    steps: tuple[Step, ...]
    exits: tuple[str, ...]

    def final_only(self) -> "Graph":
        """The same without early exits and what only they need."""
        needed, steps = {self.exits[-1]}, []
        for step in reversed(self.steps):
            if step.name in needed:
                needed.update(step.inputs)
                steps.append(step)
        return replace(self, steps=tuple(reversed(steps)), exits=self.exits[-1:])


def lower(model: nn.Module, shape: tuple[int, int, int]) -> Graph:
    """The steps of a network in evaluation mode.

    Supported are Conv2d (one group, or depthwise: as many groups as input and output channels; no dilation, zero
    padding, also by a ZeroPad2d before it), BatchNorm2d behind it, ReLU behind any of convolution, linear layer and
    addition, addition of two maps, AdaptiveAvgPool2d(1), AvgPool2d without padding, MaxPool2d, Flatten, Identity,
    Dropout, and Linear, which ends the network as the logits of an exit. Convolutions and linear layers may carry
    winners (:mod:`models.winners`). Weights are copied.

    Parameters
    ----------
    model : Module
        Takes one image tensor, returns the logits of one exit or a tuple of those of several, the final ones last.
    shape : tuple of 3 int
        Height, width, channels of an image.

    Raises
    ------
    ValueError
        When the network holds anything else or a weight that is no number; the message names the module.
    """
    try:
        graph = fx.symbolic_trace(model)
    except (fx.proxy.TraceError, TypeError) as error:
        raise ValueError(f"{type(model).__name__}: the forward pass can't be traced: {error}") from error
    return _Lowering(graph, shape).run()


def _finite(name: str, what: str, values: torch.Tensor) -> None:
    if not torch.isfinite(values).all():
        raise ValueError(f"{name}: {what} must be finite, not NaN or infinite")


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a size that PyTorch lets be one number."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


class _Lowering:
    """Walks the traced graph; ``names`` says which step's output a node stands for."""

    def __init__(self, graph: fx.GraphModule, shape: tuple[int, int, int]) -> None:
        self.modules = dict(graph.named_modules())
        self.nodes = list(graph.graph.nodes)
        self.shape = shape
        self.steps: dict[str, Step] = {}
        self.names: dict[fx.Node, str] = {}
        self.normed: set[str] = set()
        self.flat: set[fx.Node] = set()
        self.padded: dict[fx.Node, tuple[int, int, int, int]] = {}
        self.exits: tuple[str, ...] = ()

    def run(self) -> Graph:
        for node in self.nodes:
            if node.op == "placeholder":
                if INPUT in self.names.values():
                    raise ValueError(f"{node.name}: a network must take one input, not several")
                self.names[node] = INPUT
            elif node.op == "output":
                self._output(node)
            elif node.op == "call_module":
                self._module(node, str(node.target), self.modules[str(node.target)])
            else:
                self._function(node)
        return Graph(shape=self.shape, steps=tuple(self.steps.values()), exits=self.exits)

    def _shape_of(self, name: str) -> tuple[int, int, int]:
        return self.shape if name == INPUT else self.steps[name].shape

    def _put(self, node: fx.Node, step: Step) -> None:
        if step.name in self.steps:
            raise ValueError(f"{step.name}: a module must be called once, not several times")
        self.steps[step.name] = step
        self.names[node] = step.name

    def _source(self, node: fx.Node) -> str:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        return self.names[source]

    def _module(self, node: fx.Node, name: str, module: nn.Module) -> None:
        rules: dict[type[nn.Module], Callable[[fx.Node, str, Any], None]] = {
            nn.Conv2d: self._conv,
            nn.BatchNorm2d: self._norm,
            nn.ZeroPad2d: self._zero_pad,
            nn.Linear: self._linear,
            nn.AdaptiveAvgPool2d: self._global_pool,
            nn.AvgPool2d: self._pool,
            nn.MaxPool2d: self._max_pool,
            nn.ReLU: lambda node, name, _: self._relu(node, name),
            nn.Flatten: self._flatten,
            nn.Identity: self._alias,
            nn.Dropout: self._alias,
        }
        if type(module) not in rules:
            supported = ", ".join(kind.__name__ for kind in rules)
            raise ValueError(f"{name}: modules must be among {supported} and additions, not {type(module).__name__}")
        rules[type(module)](node, name, module)

    def _function(self, node: fx.Node) -> None:
        if node.target in (operator.add, operator.iadd, torch.add, "add", "add_"):
            self._add(node)
        elif node.target in (F.relu, torch.relu, "relu", "relu_"):
            self._relu(node, node.name)
        elif node.target in (torch.flatten, "flatten") and node.args[1:] in ((1,), (1, -1)):
            self._flatten(node, node.name, nn.Flatten())
        else:
            called = getattr(node.target, "__name__", node.target)
            raise ValueError(f"{node.name}: functions must be among add, relu and flatten(1), not {called}")

    def _alias(self, node: fx.Node, name: str, module: nn.Module) -> None:
        self.names[node] = self._source(node)

    def _flatten(self, node: fx.Node, name: str, module: nn.Flatten) -> None:
        if (module.start_dim, module.end_dim) != (1, -1):
            raise ValueError(f"{name}: Flatten must cover all but the first dimension")
        if any(not isinstance(self.modules.get(str(user.target)), nn.Linear) for user in node.users):
            raise ValueError(f"{name}: Flatten must be followed by Linear")
        self.flat.add(node)
        self._alias(node, name, module)

    def _zero_pad(self, node: fx.Node, name: str, pad: nn.ZeroPad2d) -> None:
        left, right, top, bottom = pad.padding
        if min(pad.padding) < 0 or any(
            not isinstance(self.modules.get(str(user.target)), nn.Conv2d) for user in node.users
        ):
            raise ValueError(f"{name}: ZeroPad2d must add rows and columns before a Conv2d, not {pad.padding}")
        self.padded[node] = (top, bottom, left, right)
        self._alias(node, name, pad)

    def _conv(self, node: fx.Node, name: str, conv: nn.Conv2d) -> None:
        depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
        if not (depthwise or conv.groups == 1) or conv.dilation != (1, 1):
            raise ValueError(
                f"{name}: Conv2d must have dilation 1 and one group, or one for each input and output channel, "
                f"not {conv.dilation} and {conv.groups} groups of {conv.in_channels} to {conv.out_channels} channels"
            )
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            raise ValueError(
                f"{name}: Conv2d must be padded by numbers with zeros, not {conv.padding}, {conv.padding_mode}"
            )
        _finite(name, "weights", conv.weight)
        weight = conv.weight.detach().clone()
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        _finite(name, "biases", bias)
        source, stride = self._source(node), (conv.stride[0], conv.stride[1])
        height, width, _ = self._shape_of(source)
        before = next((pads for padded, pads in self.padded.items() if padded is node.args[0]), (0, 0, 0, 0))
        rows, columns = int(conv.padding[0]), int(conv.padding[1])
        pads = (before[0] + rows, before[1] + rows, before[2] + columns, before[3] + columns)
        shape = (
            (height + sum(pads[:2]) - weight.shape[2]) // stride[0] + 1,
            (width + sum(pads[2:]) - weight.shape[3]) // stride[1] + 1,
            conv.out_channels,
        )
        self._put(
            node,
            Step(
                kind="depthwise" if depthwise else "conv", name=name, inputs=(source,), shape=shape,
                weight=weight, bias=bias, stride=stride, pads=pads,
                select=self._select(node, name, conv),
            ),
        )  # fmt: skip

    def _norm(self, node: fx.Node, name: str, norm: nn.BatchNorm2d) -> None:
        step = self._fusable(node, name, "BatchNorm2d", ("conv", "depthwise"))
        if step.name in self.normed:
            raise ValueError(f"{name}: BatchNorm2d must follow a Conv2d, not another BatchNorm2d")
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError(f"{name}: BatchNorm2d must keep running statistics")
        assert step.weight is not None
        assert step.bias is not None
        gain = torch.rsqrt(norm.running_var + norm.eps) * (1.0 if norm.weight is None else norm.weight.detach())
        offset = torch.zeros_like(gain) if norm.bias is None else norm.bias.detach()
        for values in (gain, offset, norm.running_mean):
            _finite(name, "batch norm parameters", values)
        folded = replace(
            step,
            weight=step.weight * gain[:, None, None, None],
            bias=offset + gain * (step.bias - norm.running_mean),
        )
        self.steps[step.name] = folded
        self.normed.add(step.name)
        self.names[node] = step.name

    def _relu(self, node: fx.Node, name: str) -> None:
        step = self._fusable(node, name, "ReLU", ("conv", "depthwise", "linear", "add"))
        self.steps[step.name] = replace(step, relu=True)
        self.names[node] = step.name

    def _fusable(self, node: fx.Node, name: str, what: str, kinds: tuple[str, ...]) -> Step:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        step = self.steps.get(self.names[source])
        if step is None or step.kind not in kinds or step.relu or len(source.users) != 1:
            raise ValueError(f"{name}: {what} must be the only reader of one of {', '.join(kinds)} without ReLU")
        return step

    def _add(self, node: fx.Node) -> None:
        stack = node.meta.get("nn_module_stack") or {}
        owner = next(reversed(stack), "")
        name = f"{owner}.add" if owner and f"{owner}.add" not in self.steps else node.name
        if len(node.args) != 2 or node.kwargs or not all(isinstance(operand, fx.Node) for operand in node.args):
            raise ValueError(f"{name}: an addition must be of two maps")
        first, second = (self.names[operand] for operand in node.args if isinstance(operand, fx.Node))
        if self._shape_of(first) != self._shape_of(second):
            raise ValueError(
                f"{name}: operands must have equal shapes, not {self._shape_of(first)} and {self._shape_of(second)}"
            )
        self._put(node, Step(kind="add", name=name, inputs=(first, second), shape=self._shape_of(first)))

    def _global_pool(self, node: fx.Node, name: str, pool: nn.AdaptiveAvgPool2d) -> None:
        if pool.output_size not in (1, (1, 1)):
            raise ValueError(f"{name}: AdaptiveAvgPool2d must give one position, not {pool.output_size}")
        height, width, _ = self._shape_of(self._source(node))
        self._put_pool(node, name, (height, width), (height, width))

    def _pool(self, node: fx.Node, name: str, pool: nn.AvgPool2d) -> None:
        if pool.padding not in (0, (0, 0)) or pool.ceil_mode or pool.divisor_override is not None:
            raise ValueError(f"{name}: AvgPool2d must have no padding, no ceil_mode and no divisor_override")
        height, width, _ = self._shape_of(self._source(node))
        window, stride = _pair(pool.kernel_size), _pair(pool.stride)
        if window == (1, 1) or window[0] > height or window[1] > width:
            raise ValueError(f"{name}: AvgPool2d's window must be of 2 to {height}x{width} positions, not {window}")
        self._put_pool(node, name, window, stride)

    def _max_pool(self, node: fx.Node, name: str, pool: nn.MaxPool2d) -> None:
        if _pair(pool.dilation) != (1, 1) or pool.ceil_mode or pool.return_indices:
            raise ValueError(f"{name}: MaxPool2d must have dilation 1, no ceil_mode and no return_indices")
        window, padding = _pair(pool.kernel_size), _pair(pool.padding)
        if any(2 * pad > size for pad, size in zip(padding, window, strict=True)):
            raise ValueError(f"{name}: MaxPool2d's padding must be at most half its window {window}, not {padding}")
        height, width, channels = self._shape_of(self._source(node))
        height, width = height + 2 * padding[0], width + 2 * padding[1]
        if window == (1, 1) or window[0] > height or window[1] > width:
            raise ValueError(f"{name}: MaxPool2d's window must be of 2 to {height}x{width} positions, not {window}")
        stride = _pair(pool.stride)
        shape = ((height - window[0]) // stride[0] + 1, (width - window[1]) // stride[1] + 1, channels)
        self._put(
            node,
            Step(
                kind="max_pool", name=name, inputs=(self._source(node),), shape=shape,
                stride=stride, pads=(padding[0], padding[0], padding[1], padding[1]), window=window,
            ),
        )  # fmt: skip

    def _put_pool(self, node: fx.Node, name: str, window: tuple[int, int], stride: tuple[int, int]) -> None:
        source = self._source(node)
        height, width, channels = self._shape_of(source)
        shape = ((height - window[0]) // stride[0] + 1, (width - window[1]) // stride[1] + 1, channels)
        self._put(node, Step(kind="pool", name=name, inputs=(source,), shape=shape, stride=stride, window=window))

    def _linear(self, node: fx.Node, name: str, linear: nn.Linear) -> None:
        source = self._source(node)
        height, width, channels = self._shape_of(source)
        if linear.in_features != height * width * channels or node.args[0] not in self.flat | set(self._linears()):
            raise ValueError(
                f"{name}: Linear must read a flattened map or another Linear of {linear.in_features} values"
            )
        _finite(name, "weights", linear.weight)
        bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach().clone()
        _finite(name, "biases", bias)
        weight = linear.weight.detach().clone().reshape(linear.out_features, channels, height, width)
        shape = (1, 1, linear.out_features)
        self._put(
            node,
            Step(
                kind="linear", name=name, inputs=(source,), shape=shape, weight=weight, bias=bias,
                select=self._select(node, name, linear),
            ),
        )  # fmt: skip

    def _select(self, node: fx.Node, name: str, module: nn.Module) -> Select | None:
        """The winners that a layer, or the padding before it, carries."""
        before = node.args[0]
        assert isinstance(before, fx.Node)
        padding = self.modules.get(str(before.target)) if before.op == "call_module" else None
        winners = carried(module) or (carried(padding) if isinstance(padding, nn.ZeroPad2d) else None)
        if winners is None:
            return None
        shape = self._shape_of(self.names[before])
        if winners.kind != "elements" and before in self.flat and shape[:2] != (1, 1):
            raise ValueError(f"{name}: channels of a flattened map {shape} can't win; its elements can")
        try:
            return winners.select(shape)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _linears(self) -> list[fx.Node]:
        return [node for node, name in self.names.items() if name != INPUT and self.steps[name].kind == "linear"]

    def _output(self, node: fx.Node) -> None:
        results = node.args[0] if isinstance(node.args[0], tuple | list) else (node.args[0],)
        for result in results:
            name = self.names.get(result) if isinstance(result, fx.Node) else None
            step = None if name is None else self.steps.get(name)
            if step is None or step.kind != "linear" or step.relu:
                raise ValueError(f"{name or result}: an exit must be a Linear without ReLU")
            self.exits += (step.name,)
