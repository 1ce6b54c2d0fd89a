"""Dynamic network rewiring: a robust network that is sparse from the first step to the last.

Kundu et al. 2021 (arXiv 2011.03083); the training code is not public, so what follows is the method as the abstract
and sibling code of the same authors give it [reconstruction]: a random mask of equal density in each convolution; the
hybrid loss (:class:`models.methods.robust.AdversarialLoss` with beta and 1 - beta); a dynamic L2 penalty
(:class:`DynamicL2`); and after every epoch a round of pruning and regrowth by momentum (:mod:`models.methods.rewire`)
at a rate that falls from 0.5 to 0. Defaults of the paper's scale: SGD of 0.1, momentum 0.9, weight decay 5e-4, batches
of 128, 200 epochs, density 0.05.

Published traps: in the stored code of the penalty its target Z is neither detached nor masked, which makes the gradient
zero, and this one is both; and the paper's 47.35 % under PGD-7 (ResNet-18, CIFAR-10) are 40.41 % under AutoAttack.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from models.compression.levels import convolutions
from models.methods.rewire import MODES, MaskedLayer, random_mask, rewired
from models.training.pieces import Outputs, Piece, Run
from models.training.standard_pieces import parameters_of

__all__ = ["DynamicL2", "Rewiring", "layers_of"]

_IMAGE_CHANNELS = 4  # a convolution that reads no more input channels reads the image


def layers_of(model: nn.Module, mode: str) -> list[str]:
    """The weights that are sparse by default: of all convolutions; linear layers stay dense, as published.

    In channel mode convolutions of up to four input channels stay dense as well: they read the image, none of whose
    channels can be spared [reconstruction].
    """
    return [
        f"{name}.weight"
        for name, module in convolutions(model).items()
        if mode == "irregular" or module.in_channels > _IMAGE_CHANNELS
    ]


class Rewiring(Piece):
    """Masks that begin at random, hold after every step, and move after every epoch.

    Records ``nonzero``, the weights of all units that are on, and ``density`` by layer.

    Parameters
    ----------
    density : float
        Of every layer in the beginning, and of all together always; above 0, at most 1.
    mode : str
        ``irregular`` (single weights) or ``channel`` (input channels).
    rate : float
        Share of weights that is removed and regrown after the first epoch, nearly; it falls linearly, to 0 after the
        last. 0 keeps the random masks, the method's baseline.
    names : sequence of str or None
        Parameters; by default those of :func:`layers_of`.

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    def __init__(
        self, density: float, *, mode: str = "irregular", rate: float = 0.5, names: Sequence[str] | None = None
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if not 0.0 < density <= 1.0:
            raise ValueError(f"density must be above 0 and at most 1, not {density}")
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"rewiring rate must be in 0..1, not {rate}")
        self.density, self.mode, self.rate, self.names = density, mode, rate, names
        self.masks: dict[str, torch.Tensor] = {}
        self._held: Mapping[str, nn.Parameter] = {}
        self._target = 0

    def begin(self, run: Run) -> None:
        names = layers_of(run.model, self.mode) if self.names is None else self.names
        self._held = parameters_of(run.model, dict.fromkeys(names), "rewiring of")
        if not self._held:
            raise ValueError(f"{type(run.model).__name__}: must have a Conv2d to rewire")
        generator = torch.Generator().manual_seed(run.seed)
        self.masks = {
            name: random_mask(parameter.detach(), self.density, self.mode, generator)
            for name, parameter in self._held.items()
        }
        self._target = self.nonzero()
        self._apply()

    def nonzero(self) -> int:
        """Weights that are on."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    def after_step(self, run: Run) -> None:
        self._apply()

    def after_epoch(self, run: Run) -> None:
        rate = self.rate * (1 - (run.epoch + 1) / run.schedule.epochs)
        if rate > 0:
            layers = {
                name: MaskedLayer(
                    weight=parameter.detach(), mask=self.masks[name], momentum=_momentum(run, name, parameter)
                )
                for name, parameter in self._held.items()
            }
            self.masks = rewired(layers, rate=rate, target=self._target, mode=self.mode)
            self._apply()
        run.record("nonzero", self.nonzero())
        for name, mask in self.masks.items():
            run.record(f"density of {name}", float(mask.mean()))

    def state_dict(self) -> dict[str, Any]:
        return {"masks": dict(self.masks), "target": self._target}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.masks = {name: state["masks"][name].to(value.device) for name, value in self._held.items()}
        self._target = state["target"]

    def _apply(self) -> None:
        with torch.no_grad():
            for name, parameter in self._held.items():
                parameter.mul_(self.masks[name])


def _momentum(run: Run, name: str, parameter: nn.Parameter) -> torch.Tensor:
    """The optimizer's mean gradient of a parameter."""
    state = run.optimizer.state[parameter]
    for key in ("momentum_buffer", "exp_avg"):
        if isinstance(state.get(key), torch.Tensor):
            return state[key].detach()
    raise ValueError(f"rewiring of {name!r} needs an optimizer with momentum, not {type(run.optimizer).__name__}")


class DynamicL2(Piece):
    """``rho / 2 sum |W - Z|^2`` over all convolutions: weights stay near where they were an epoch ago.

    Published as ``rho / 2 sum |W - Z + U|^2`` with ``Z = W + U`` and ``U = W - Z + U`` at the first batch of each
    epoch, as in the method of multipliers. In the stored code Z is neither masked nor detached, so that the penalty has
    no gradient. Here ``Z = mask * (W + U)`` is a constant [reconstruction]; and because masked weights are zero at that
    moment, U remains zero and Z is W itself.

    Parameters
    ----------
    rho : float
        Positive.
    start : int
        Epoch, from 0, of the first penalty.

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    def __init__(self, *, rho: float = 1e-4, start: int = 5) -> None:
        if not rho > 0:
            raise ValueError(f"rho must be positive, not {rho}")
        if start < 0:
            raise ValueError(f"start must not be negative, not {start}")
        self.rho, self.start = rho, start
        self._held: list[torch.Tensor] = []
        self._near: list[torch.Tensor] = []

    def begin(self, run: Run) -> None:
        self._held, self._near = [module.weight for module in convolutions(run.model).values()], []

    def before_epoch(self, run: Run) -> None:
        if run.epoch >= self.start:
            self._near = [parameter.detach().clone() for parameter in self._held]

    def loss(self, run: Run, images: torch.Tensor, labels: torch.Tensor, outputs: Outputs) -> torch.Tensor | None:
        if not self._near:
            return None
        pairs = zip(self._held, self._near, strict=True)
        return 0.5 * self.rho * torch.stack([(weight - near).square().sum() for weight, near in pairs]).sum()
