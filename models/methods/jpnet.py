"""JPnet: joint pruning of weights, with fixed masks, and of activations, with winners chosen for every image.

Yang, Wen, Wang and Li, arXiv 1906.07875; what is implemented follows the earlier version that could be read, "Integral
Pruning on Activations and Weights" (IPnet). The *regularization* of activations in the title of a later version could
not be read and isn't here.

1. Weights: magnitude masks, tightened over several rounds of fine-tuning (:class:`IterativePruning`); first layers
   keep more; learning rate 0.1 to 0.01 of the original.
2. Activations: each hidden layer multiplies the ``ceil(r * N)`` elements of its input with the largest magnitude, per
   image (:class:`models.compression.winner_rates.WinnerRates`, kind ``elements``), introduced at once, the mask a
   constant for autograd. The winner rates r come from a sensitivity sweep on validation data (:func:`winner_rates`):
   the smallest with less than 2 points of loss before fine-tuning. Adadelta at 0.1 to 0.01 of the original learning
   rate.
3. Inference may predict the threshold from a tenth of the activations (:func:`predicted_accuracy`); the accelerator
   finds it exactly.

Weight pruning comes first: it lowers the natural sparsity of activations (:func:`relu_density`), so rates found before
it would be wrong. The published dropout behind masked hidden fully connected layers, at ``0.5 * sqrt(r)``, has no place
in networks whose only linear layers are classifiers.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from hw.network.active import active_mask
from hw.network.base_layer import Layer
from hw.network.layers import Conv2D, DepthwiseConv2D, Linear
from hw.network.network import Network
from models.compression.sparse_training import GradualPruning, activation_modules
from models.compression.winner_rates import WinnerRates
from models.datasets.sources import Progress
from models.datasets.splits import Split
from models.integer import golden
from models.networks.winners import Winners, attach, attached
from models.training.pieces import Run
from models.training.standard_pieces import Ramp
from models.training.train import accuracy, predict

__all__ = [
    "RATES",
    "IterativePruning",
    "PredictedWinners",
    "SweptWinners",
    "expected_share",
    "hidden_layers",
    "predicted_accuracy",
    "relu_density",
    "winner_rates",
]

#: Winner rates that the sweep tries.
RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class IterativePruning(GradualPruning):
    """Magnitude masks that tighten in rounds; what a round removed stays removed.

    Parameters
    ----------
    shares : dict of str to float
        Density of each weight tensor in the end, above 0, at most 1, by parameter name
        (:func:`models.compression.prune.densities`).
    rounds : int
        The epochs are divided among them. After round i of n a tensor's density is ``share ** (i / n)``: every round
        removes the same fraction of what is left (a reconstruction: the paper says "several rounds").

    Raises
    ------
    ValueError
        When a share or the number of rounds is impossible.
    """

    def __init__(self, shares: Mapping[str, float], rounds: int = 3) -> None:
        super().__init__(shares)
        if rounds < 1:
            raise ValueError(f"rounds of pruning must be at least 1, not {rounds}")
        for name, share in shares.items():
            if not share > 0:
                raise ValueError(f"density of {name} must be above 0 and at most 1, not {share}")
        self.rounds = rounds

    def begin(self, run: Run) -> None:
        super().begin(run)
        if run.schedule.epochs < self.rounds:
            raise ValueError(f"{self.rounds} rounds of pruning need as many epochs, not {run.schedule.epochs}")

    def densities(self, run: Run) -> dict[str, float]:
        number = run.epoch * self.rounds // run.schedule.epochs + 1
        return {name: share ** (number / self.rounds) for name, share in self.shares.items()}


def hidden_layers(model: nn.Module) -> list[str]:
    """Convolutions that read the output of another layer, in order: those that winners may be chosen for.

    The first layer reads the image, and classifiers read few values; both keep all of their input.
    """
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)][1:]


def winner_rates(
    model: nn.Module,
    validation: Split,
    layers: Sequence[str],
    *,
    kind: str = "elements",
    drop: float = 0.02,
    rates: Sequence[float] = RATES,
    progress: Progress | None = None,
) -> dict[str, float]:
    """The sensitivity sweep: of each layer by itself, the smallest winner rate that costs less than ``drop``.

    Parameters
    ----------
    model : Module
        Trained, its weights pruned already; all other layers' winners as they are.
    validation : Split
        A part of the training set, as large as the test set in the paper.
    layers : sequence of str
        See :func:`hidden_layers`.
    kind : str
        ``elements`` (JPnet) or ``channels`` (DASNet).
    drop : float
        Accuracy of the final head that a layer may cost before any fine-tuning, in 0..1; 0.02 in the paper.
    rates : sequence of float
        To be tried, ascending; the last is taken when none is good enough.
    progress : function or None
        Called with rates tried, rates in all and a text.

    Returns
    -------
    dict of str to float
        By layer. The network is as before, with winners that let everything through on these layers.

    Raises
    ------
    ValueError
        When a layer can't have winners or the rates are out of order.
    """
    if list(rates) != sorted(set(rates)) or not len(rates):
        raise ValueError(f"rates must ascend, at least one, not {tuple(rates)}")
    there = attached(model)
    attach(model, {name: Winners(kind) for name in layers if name not in there})
    base = accuracy(predict(model, validation.images)[-1], validation.labels)
    found, done = {}, 0
    for name in layers:
        winners, found[name] = Winners(kind), rates[-1]
        before = attached(model)[name]
        attach(model, {name: winners})
        for rate in rates:
            done += 1
            if progress:
                progress(done, len(layers) * len(rates), f"winner rate of {name}: {rate:g}")
            winners.rate = rate
            if base - accuracy(predict(model, validation.images)[-1], validation.labels) < drop:
                found[name] = rate
                break
        attach(model, {name: before})
    return found


class SweptWinners(WinnerRates):
    """Winners for all hidden layers, at the rates that the sensitivity sweep finds when training begins.

    Parameters
    ----------
    validation : Split or None
        Held-back images; None where the piece is made but not used.
    kind : str
        ``elements`` or ``channels``.
    drop : float
        See :func:`winner_rates`.
    anneal : Ramp or None
        See :class:`models.compression.winner_rates.WinnerRates`.

    Raises
    ------
    ValueError
        When the drop isn't positive.
    """

    def __init__(
        self, validation: Split | None, kind: str = "elements", *, drop: float = 0.02, anneal: Ramp | None = None
    ) -> None:
        if not drop > 0:
            raise ValueError(f"drop must be positive, not {drop}")
        super().__init__(kind, {}, anneal)
        self.validation, self.kind, self.drop = validation, kind, drop

    def begin(self, run: Run) -> None:
        assert self.validation is not None
        # On the CPU, where images are predicted.
        model = run.model.to("cpu")
        self.rates = winner_rates(model, self.validation, hidden_layers(model), kind=self.kind, drop=self.drop)
        self.winners = {name: Winners(self.kind, rate) for name, rate in self.rates.items()}
        run.model.to(run.device)
        super().begin(run)

    def after_epoch(self, run: Run) -> None:
        for name, rate in self.rates.items():
            run.record(f"winner_rate_{name}", rate)


class PredictedWinners(Winners):
    """Elements that reach a threshold found from a part of them: θ' is the ``ceil(α k)``-th largest magnitude of a
    random share α, of which about k of all elements are as large (IPnet, section 3: α = 0.1).

    Parameters
    ----------
    rate : float
        Winner rate that is aimed at.
    alpha : float
        Share of the elements that is looked at, above 0, at most 1; 1 gives all winners, and losers that tie with one.
    seed : int
        Of the choice of elements, which is the same for all images.
    """

    def __init__(self, rate: float, alpha: float = 0.1, seed: int = 0) -> None:
        super().__init__("elements", rate)
        if not 0.0 < alpha <= 1.0:
            raise ValueError(f"alpha must be above 0 and at most 1, not {alpha}")
        self.alpha = alpha
        self._rng = np.random.default_rng(seed)
        self._looked: dict[int, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.detach().abs().flatten(1)
        size = flat.shape[1]
        count = math.ceil(self.rate * size - 1e-9)
        if count == size:
            return x
        if size not in self._looked:
            looked = max(1, round(self.alpha * size))
            self._looked[size] = torch.from_numpy(self._rng.permutation(size)[:looked])
        part = flat[:, self._looked[size].to(x.device)]
        rank = min(math.ceil(self.alpha * count - 1e-9), part.shape[1])
        threshold = part.kthvalue(part.shape[1] - rank + 1, dim=1, keepdim=True).values
        return x * (flat >= threshold).reshape(x.shape)


def predicted_accuracy(model: nn.Module, split: Split, *, alpha: float = 0.1, seed: int = 0) -> float:
    """Accuracy of the final head, 0..1, when every layer's threshold is predicted (:class:`PredictedWinners`).

    The network's winners are as before afterwards.
    """
    exact = attached(model)
    predicted: dict[str, Winners] = {
        name: PredictedWinners(found.rate, alpha, seed) for name, found in exact.items() if found.kind == "elements"
    }
    attach(model, predicted)
    try:
        return accuracy(predict(model, split.images)[-1], split.labels)
    finally:
        attach(model, exact)


def relu_density(model: nn.Module, images: np.ndarray) -> float:
    """Share of nonzero activations behind the ReLUs, 0..1: the natural sparsity, before winners are chosen.

    Parameters
    ----------
    images : array of float32, (N, height, width, channels)
        At least one.

    Raises
    ------
    ValueError
        When the network has no ReLU.
    """
    counted = [0, 0]

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        counted[0] += int(output.count_nonzero())
        counted[1] += output.numel()

    hooks = [module.register_forward_hook(count) for module in activation_modules(model).values()]
    try:
        predict(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return counted[0] / counted[1]


def expected_share(network: Network, codes: np.ndarray) -> float:
    """Multiplications left, as the paper counts them: of every layer, weight density times density of the activations
    it multiplies, weighted with its dense multiplications; a share in 0..1.

    That takes zeros for independent and uniform. What the accelerator does is counted by :mod:`sim`.

    Parameters
    ----------
    codes : int8 array, (N, height, width, channels)
        At least one image.
    """
    tensors, maps = network.tensors(), golden.run(network, codes).tensors
    left = dense = 0.0
    for layer in network.layers:
        if isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
            name = layer.inputs[0]
            used = active_mask(layer, maps[name], tensors[name].zero_point).mean()
            products = _products(layer)
            dense += products
            left += products * float(used) * np.count_nonzero(layer.weight) / layer.weight.size
    return left / dense


def _products(layer: Layer) -> int:
    """Multiplications of a dense layer for one image."""
    assert isinstance(layer, Conv2D | DepthwiseConv2D | Linear)
    return int(np.prod(layer.output.shape[:2])) * layer.weight.size
