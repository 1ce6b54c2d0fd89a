"""DAB, the defensive accelerating branch: an early exit that saves time, can be added to a compressed network as it is,
and helps to notice attacks.

"Rethinking Adaptive Computing: Building a Unified Model Complexity-Reduction Framework With Adversarial Robustness",
IEEE TNNLS. Its abstract fixes a branch that lowers average cost, *quasi-orthogonality* (the branch can be added to an
off-the-shelf compressed network without loss of accuracy), and the branch as detector. Formulas could not be read: what
follows is a reconstruction from its neighbours, Shallow-Deep Networks (SDN, Kaya et al. 2019) and the same group's
DynExit (exit losses' weights that change during training).

* Where: behind 35 to 45 % of the multiply-accumulates (:func:`exit_costs`); 3x3 convolution of stride 2, batch norm,
  ReLU, average pool, linear (:class:`Branch`), or without the convolution, as SDN's internal classifier.
* Joint training: ``CE(final) + w CE(branch)`` with ``w = min(C, 0.01 + t C)``, t from 0 to 1 over the training and C
  the branch's relative cost (SDN); or ``w <- w exp(k (target - accuracy of the branch))`` after every epoch, within
  0.05 to 2 (reconstruction of DynExit): :mod:`models.methods.exit_losses`.
* Off the shelf: an integer network stays as it is, only the branch is trained, on the codes that the network computes
  (:func:`add_branch`): Adam, 1e-3, 25 epochs, a tenth at 15 (SDN's setting for frozen networks): :data:`OFF_THE_SHELF`.
* Exit rule: the margin of the integer logits against a threshold, the smallest that costs at most half a point on
  validation data (:func:`models.integer.exit_calibration.calibrate`). For K classes a margin of ``ln((K - 1) T / (1 -
  T))`` real units suffices for a softmax of T.
* Detector: :mod:`models.methods.detector`, with the design hole of every such detector.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from hw.network.layers import is_raw, multiply_accumulates
from hw.network.network import INPUT, NEVER, Exit, Network
from models.compression.fakequant import INPUT_SCALE, INPUT_ZERO_POINT
from models.compression.quantize import encode, quantize, to_network
from models.datasets.sources import Progress
from models.datasets.splits import Split
from models.frontends.pytorch.graph import Graph
from models.integer import golden
from models.training.hyperparameters import Schedule
from models.training.train import fit

__all__ = [
    "OFF_THE_SHELF",
    "Branch",
    "add_branch",
    "efficacy",
    "exit_costs",
    "features",
    "graft",
]

#: SDN's setting for a branch on a frozen network.
OFF_THE_SHELF = Schedule(
    epochs=25, lr=1e-3, batch=128, weight_decay=0.0, policy="steps", milestones=(0.6,)
)  # 15 of 25 epochs


class Branch(nn.Module):
    """Convolution if it has a width, average pool to a grid, linear.

    Maps (N, channels, height, width) go in, a tuple of one tensor of logits (N, classes) comes out.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of the maps.
    classes : int
    width : int
        Channels of the 3x3 convolution of stride 2; 0 for none.
    grid : int
        Side of what the pool leaves, 1 or 4 in the papers.

    Raises
    ------
    ValueError
        When a size is impossible, or the pool's windows don't cover the map evenly.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, width: int = 16, grid: int = 1) -> None:
        super().__init__()
        for name, value, least in (("classes", classes, 2), ("width", width, 0), ("grid", grid, 1)):
            if value < least:
                raise ValueError(f"{name} of a branch must be at least {least}, not {value}")
        rows, columns, channels = shape
        if width:
            rows, columns = -(-rows // 2), -(-columns // 2)
        if rows % grid or columns % grid:
            raise ValueError(f"a branch's map of {rows}x{columns} must divide into a grid of {grid}x{grid}")
        self.conv = nn.Conv2d(channels, width, 3, 2, padding=1, bias=False) if width else nn.Identity()
        self.norm = nn.BatchNorm2d(width) if width else nn.Identity()
        self.relu = nn.ReLU() if width else nn.Identity()
        window = (rows // grid, columns // grid)
        self.pool = nn.AdaptiveAvgPool2d(1) if grid == 1 else nn.AvgPool2d(window)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear((width or channels) * grid * grid, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.linear(self.flatten(self.pool(self.relu(self.norm(self.conv(x)))))),)


def exit_costs(network: Network | Graph) -> tuple[float, ...]:
    """Dense multiply-accumulates until each exit is known, as shares of those of the whole network; the last is 1.

    Parameters
    ----------
    network : Network or Graph
    """
    if isinstance(network, Network):
        heads = [head.logits for head in network.exits]
        work = {layer.name: multiply_accumulates(layer) for layer in network.layers}
    else:
        heads = list(network.exits)
        work = {
            step.name: 0 if step.weight is None else int(np.prod(step.shape[:2])) * step.weight.numel()
            for step in network.steps
        }
    order = list(work)
    done = np.cumsum([work[name] for name in order])
    return tuple(float(done[order.index(head)] / done[-1]) for head in heads)


def features(network: Network, tensor: str, split: Split) -> Split:
    """What a branch at a tensor sees of a data set: the integer network's own codes as images in 0..1.

    Raises
    ------
    ValueError
        When the tensor doesn't come from a ReLU, so that its zero isn't the lowest code.
    """
    _rectified(network, tensor)
    codes = golden.run(network, encode(split.images, network)).tensors[tensor]
    return Split(images=((codes.astype(np.float32) + 128) / 255).astype(np.float32), labels=split.labels)


def _rectified(network: Network, tensor: str) -> str:
    zero_point = network.layer(tensor).output.zero_point
    if zero_point != INPUT_ZERO_POINT:
        raise ValueError(f"{tensor}: a branch must read a rectified map, of zero point -128, not {zero_point}")
    return tensor


def graft(network: Network, tensor: str, branch: Network, *, name: str = "branch", threshold: int = NEVER) -> Network:
    """A network with an early exit more.

    Parameters
    ----------
    network : Network
        Stays as it is, layer for layer.
    tensor : str
        A rectified map that the branch reads.
    branch : Network
        With one exit; its image is the map's codes.
    name : str
        Prefix of its layers' names.
    threshold : int
        Margin at which images leave; by default none does.

    Raises
    ------
    ValueError
        When the map isn't rectified, shapes or classes differ, or a name is taken.
    """
    source = network.layer(_rectified(network, tensor)).output
    if (branch.input.shape, branch.classes) != (source.shape, network.classes):
        raise ValueError(
            f"the branch must take maps {source.shape} to {network.classes} classes, "
            f"not {branch.input.shape} to {branch.classes}"
        )
    # The branch learnt codes of 1/255 each; the same codes mean something else here, so its maps' scales change alike.
    # Its logits keep the scale that they were trained with: a softmax of them is what the loss saw.
    unit = source.scale / INPUT_SCALE
    names = {INPUT: tensor} | {layer.name: f"{name}.{layer.name}" for layer in branch.layers}
    grafted = [
        replace(
            layer,
            name=names[layer.name],
            inputs=tuple(names[source] for source in layer.inputs),
            output=layer.output if is_raw(layer) else replace(layer.output, scale=layer.output.scale * unit),
        )
        for layer in branch.layers
    ]
    index = [layer.name for layer in network.layers].index(tensor) + 1
    layers = (*network.layers[:index], *grafted, *network.layers[index:])
    order = [layer.name for layer in layers]
    early = [*network.exits[:-1], Exit(logits=names[branch.exits[-1].logits], threshold=threshold)]
    exits = (*sorted(early, key=lambda head: order.index(head.logits)), network.exits[-1])
    return replace(network, layers=layers, exits=exits)


def add_branch(
    network: Network,
    tensor: str,
    split: Split,
    *,
    width: int = 16,
    grid: int = 1,
    training: Schedule = OFF_THE_SHELF,
    quantizing: Schedule | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Network:
    """Add an early exit to an integer network that stays untouched: the literal form of quasi-orthogonality.

    Parameters
    ----------
    network : Network
        Off the shelf: pruned, quantized, imported.
    tensor : str
        A rectified map that the branch reads, behind 35 to 45 % of the multiply-accumulates.
    split : Split
        What the branch is trained on.
    width, grid : int
        See :class:`Branch`.
    training : Schedule
        Of the branch in float.
    quantizing : Schedule or None
        Of the quantized branch; None takes a fifth of the training's epochs at a tenth of its learning rate.
    seed : int

    Returns
    -------
    Network
        With the branch, whose exit isn't taken yet: :func:`models.integer.exit_calibration.calibrate` finds the
        threshold.

    Raises
    ------
    ValueError
        When the map isn't rectified or a size is impossible.
    """
    seen = features(network, tensor, split)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = network.layer(tensor).output.shape
        branch = Branch(shape, network.classes, width=width, grid=grid)
    fit(branch, seen, training, seed=seed, progress=progress, text="branch")
    tuning = quantizing or replace(training, epochs=max(1, training.epochs // 5), lr=training.lr / 10)
    twin = quantize(branch, seen, tuning, seed=seed, progress=progress, text="quantize branch")
    return graft(network, tensor, to_network(twin, "branch"))


def efficacy(costs: Sequence[float], exit_index: np.ndarray) -> float:
    """How much early exits save, as Hong et al. 2021 (DeepSloth, arXiv 2010.02432) measure slowdown attacks: the area
    under the cumulative share of images that have left over the relative cost; 1 if all leave at no cost, 0 if none
    leaves before the end.

    Parameters
    ----------
    costs : sequence of float
        Of each exit, ascending, the last 1 (:func:`exit_costs`).
    exit_index : int array, (N,)
        Exit taken by each image; at least one.

    Raises
    ------
    ValueError
        When there is no image.
    """
    if not len(exit_index):
        raise ValueError("efficacy needs at least 1 image, not 0")
    shares = np.bincount(exit_index, minlength=len(costs))[: len(costs) - 1].cumsum() / len(exit_index)
    # From the origin to each exit, then level to the end, where the last head takes what is left.
    x = np.array([0.0, *costs[:-1], 1.0])
    y = np.array([0.0, *shares, shares[-1] if len(shares) else 0.0])
    return float(np.trapezoid(y, x))
