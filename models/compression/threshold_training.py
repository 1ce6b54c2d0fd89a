"""Element thresholds that a network learns with: small activations are skipped while it is trained as int8."""

from collections.abc import Mapping
from typing import Any

from models.compression.element_thresholds import element_thresholds_for
from models.compression.fakequant import FakeQuantNet
from models.compression.quantize import encode, to_network
from models.training.pieces import Piece, Run

__all__ = ["ElementThresholds"]

_IMAGES = 256


class ElementThresholds(Piece):
    """Chooses element thresholds for wanted densities as the run begins
    (:func:`models.compression.element_thresholds.element_thresholds_for`), and trains with them: what is below has no
    part in a layer's products and gets no gradient through them.

    A rectified linear unit with a threshold is FATReLU (Kurtz et al. 2020, "Inducing and Exploiting Activation Sparsity
    for Fast Inference on Deep Neural Networks"); here it belongs to the layer that multiplies, so that a residual add
    still sees all of the map.

    Parameters
    ----------
    densities : dict of str to float
        By step, the most activations of its input that may be multiplied when training begins, in 0..1. Ranges that
        follow the batches move them a little.

    Raises
    ------
    ValueError
        When a density is outside its range, or, as the run begins, the network isn't a fake-quantized one, has no step
        with weights of that name, or has more activations as large as codes get.
    """

    def __init__(self, densities: Mapping[str, float]) -> None:
        for name, density in densities.items():
            if not 0.0 <= density <= 1.0:
                raise ValueError(f"density of {name} must be in 0..1, not {density}")
        self.densities = dict(densities)
        self._thresholds: dict[str, int] = {}

    def begin(self, run: Run) -> None:
        if not isinstance(run.model, FakeQuantNet):
            raise ValueError(f"element thresholds are of a fake-quantized network, not of a {type(run.model).__name__}")
        self._twin = run.model
        network = to_network(self._twin, run.text)
        codes = encode(run.split.images[:_IMAGES], network)
        self._thresholds = element_thresholds_for(network, codes, self.densities)
        self._twin.set_thresholds(self._thresholds)

    def state_dict(self) -> dict[str, Any]:
        return {"thresholds": self._thresholds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._thresholds = state["thresholds"]
        self._twin.set_thresholds(self._thresholds)
