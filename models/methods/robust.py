"""The loss of adversarial training that clean images have a share in, one piece for several methods.

* BR-EnResNet's trade-off loss: ``CE(f(x)) + 8 CE(f(x_adv))`` (Li, Wang, Xin 2020, arXiv 2008.13305, published code),
  with PGD-10, eps 0.031, steps of 0.007, random start.
* DNR's hybrid loss: ``beta CE(f(x)) + (1 - beta) CE(f(x_adv))`` with beta 0.5 (Kundu et al. 2021, arXiv 2011.03083),
  with PGD-7, eps 8/255, steps of 0.01, random start.

Without a share of the clean images there is :class:`models.training.standard_pieces.AdversarialExamples` by itself
(Madry et al. 2018).
"""

from typing import Any

import torch

from models.training.pieces import Outputs, Piece, Run
from models.training.standard_pieces import AdversarialExamples, CrossEntropy

__all__ = ["AdversarialLoss"]


class AdversarialLoss(Piece):
    """Weighted sum of the cross-entropies on images and on adversarial examples of them.

    Of a network with early exits both are sums over the exits, as without an adversary. The examples are made with the
    weights that the pass sees, projected ones too.

    Parameters
    ----------
    examples : AdversarialExamples
        What makes them; its ``share`` isn't used.
    clean, adversarial : float
        Weights of the two, positive.

    Raises
    ------
    ValueError
        When a weight isn't positive.
    """

    criterion = True

    def __init__(self, examples: AdversarialExamples, *, clean: float = 1.0, adversarial: float = 8.0) -> None:
        for name, value in (("clean", clean), ("adversarial", adversarial)):
            if not value > 0:
                raise ValueError(f"weight of {name} images must be positive, not {value}")
        self.examples, self.clean, self.adversarial = examples, clean, adversarial
        self._entropy = CrossEntropy()

    def begin(self, run: Run) -> None:
        self.examples.begin(run)

    def loss(self, run: Run, images: torch.Tensor, labels: torch.Tensor, outputs: Outputs) -> torch.Tensor:
        changed = self.examples.attack(run.model, images, labels)
        attacked = self._entropy.loss(run, changed, labels, tuple(run.model(changed)))
        return self.clean * self._entropy.loss(run, images, labels, outputs) + self.adversarial * attacked

    def state_dict(self) -> dict[str, Any]:
        return self.examples.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.examples.load_state_dict(state)
