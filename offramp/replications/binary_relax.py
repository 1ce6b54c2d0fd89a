"""BR-EnResNet's claims on ResNet-8 of half the width: ternary ensembles that are robust."""

import copy
from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from hw.network.network import Network
from models.attacks import pgd
from models.compression.levels import channel_sparsity, convolutions
from models.datasets.splits import Split
from models.methods.binary_relax import BinaryRelax
from models.methods.robust import AdversarialLoss
from models.networks.architectures import initial
from models.networks.enresnet import EnResNet, EnResNetArchitecture
from models.networks.resnet8 import ResNet8Architecture
from models.training.pieces import Piece
from models.training.standard_pieces import AdversarialExamples
from models.training.train import accuracy, fit, predict
from offramp.replications.start import Setting, check, final_accuracy, integers
from offramp.replications.toy import EPS, robustness, under_attack

__all__ = ["checks", "train"]

_STEPS = 5  # of the attack that trains
_DRAWS = 10


def train(setting: Setting) -> tuple[dict[str, Any], dict[str, Network]]:
    """Train one member by Binary-Relax and BinaryConnect, naturally, adversarially and with the trade-off loss, and an
    ensemble of two with it; attack; returns figures and integer networks."""
    data, test, eps = setting.dataset, setting.dataset.test, EPS[setting.dataset.name]
    figures: dict[str, Any] = {"eps": eps}
    kept: dict[str, EnResNet] = {}
    networks: dict[str, Network] = {}
    widths = cast(ResNet8Architecture, setting.model.architecture).widths

    def examples() -> AdversarialExamples:
        return AdversarialExamples(eps=eps, steps=_STEPS, step=2.5 * eps / _STEPS)

    def run(name: str, pieces: Sequence[Piece], members: int = 1) -> None:
        architecture = EnResNetArchitecture(shape=data.shape, classes=len(data.classes), widths=widths, members=members)
        model = initial(architecture, setting.seed)
        assert isinstance(model, EnResNet)
        kept[name] = model
        fit(
            model, data.train, setting.schedule(), seed=setting.seed, pieces=pieces, progress=setting.progress,
            text=name,
        )  # fmt: skip
        figures[name] = {
            "clean": final_accuracy(model, test),
            "pgd20": under_attack(model, test, eps, seed=setting.seed),
            "zero_weights": _zeros(model),
            "channel_sparsity": channel_sparsity(model),
            "weakest_channels": _weakest(model),
        }

    run("relaxed", [BinaryRelax("ternary")])
    run("connect", [BinaryRelax("ternary", relaxed_share=0.0)])
    run("four-bit", [BinaryRelax("4bit")])
    run("adversarial", [BinaryRelax("ternary"), examples()])
    run("trade-off", [BinaryRelax("ternary"), AdversarialLoss(examples(), clean=1.0, adversarial=8.0)])
    run("pair", [BinaryRelax("ternary"), AdversarialLoss(examples(), clean=1.0, adversarial=8.0)], members=2)
    figures["with_noise"] = _noisy(kept["trade-off"], test, eps, setting.seed)
    for name in ("trade-off", "pair"):
        network = networks[name] = integers(
            setting, kept[name], name, levels="ternary", pieces=lambda twin: [AdversarialLoss(examples())]
        )
        figures[f"int8-{name}"] = {
            "robustness": robustness(network, test, eps, seed=setting.seed),
            "levels": sorted({len(set(abs(row).ravel().tolist()) - {0}) for row in _rows(network)}),
        }
    return figures, networks


def _rows(network: Any) -> list[Any]:
    """Weights of every output channel of the convolutions of an integer network."""
    return [row.astype(int) for layer in network.layers if layer.kind == "conv2d" for row in layer.weight]


def _zeros(model: nn.Module) -> float:
    """Share of zero weights in the convolutions."""
    weights = [module.weight for module in convolutions(model).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def _weakest(model: nn.Module) -> float:
    """Mean over the convolutions of the 10-percentile of input channels' share of nonzero weights: how structured the
    zeros are where no channel is empty."""
    found = []
    for module in convolutions(model).values():
        weight = module.weight.detach()
        found.append(float((weight != 0).float().mean(dim=(0, 2, 3)).quantile(0.1)))
    return sum(found) / len(found)


def _noisy(model: EnResNet, test: Split, eps: float, seed: int) -> dict[str, float]:
    """Accuracy with the noise left on, under attacks that take one draw a gradient, and the mean of several."""
    some, model = test.take(500), copy.deepcopy(model)
    model.noisy(True)
    found = {"clean": accuracy(predict(model, some.images)[-1], some.labels)}
    for name, draws in (("one_draw", 1), ("mean_of_draws", _DRAWS)):
        attacked = pgd(model, some.images, some.labels, eps=eps, steps=20, seed=seed, draws=draws)
        found[name] = accuracy(predict(model, attacked)[-1], some.labels)
    return found


def checks(figures: dict[str, Any], measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What is claimed, and whether it holds by these figures."""
    clean = {name: figures[name]["clean"] for name in ("relaxed", "connect", "adversarial", "trade-off")}
    channels = {name: figures[name]["channel_sparsity"] for name in ("relaxed", "trade-off", "adversarial")}
    pgd20 = {name: figures[name]["pgd20"] for name in ("adversarial", "trade-off")}
    ternary = {name: figures[name]["zero_weights"] for name in ("relaxed", "adversarial", "trade-off", "pair")}
    return [
        check(
            "Binary-Relax is at least as accurate as BinaryConnect with ternary weights",
            clean["relaxed"] >= clean["connect"],
            relaxed=clean["relaxed"],
            connect=clean["connect"],
        ),
        check("at least 35 % of ternary weights are zero", min(ternary.values()) >= 0.35, **ternary),
        check(
            "adversarial training empties fewer input channels than natural training, the trade-off loss is between",
            channels["relaxed"] > channels["trade-off"] > channels["adversarial"],
            **channels,
            **{f"weakest_{name}": figures[name]["weakest_channels"] for name in channels},
        ),
        check(
            "the trade-off loss raises the clean accuracy over pure adversarial training and costs at most 2 points "
            "under PGD-20",
            clean["trade-off"] > clean["adversarial"] and pgd20["trade-off"] >= pgd20["adversarial"] - 0.02,
            clean_trade_off=clean["trade-off"],
            clean_adversarial=clean["adversarial"],
            pgd20_trade_off=pgd20["trade-off"],
            pgd20_adversarial=pgd20["adversarial"],
        ),
        check(
            "noise in use isn't robustness: averaging over draws takes nothing that one draw leaves",
            figures["with_noise"]["mean_of_draws"] >= figures["with_noise"]["one_draw"] - 0.01,
            **figures["with_noise"],
        ),
        check(
            "two members together are at least as accurate as one, clean and under PGD-20",
            figures["pair"]["clean"] >= clean["trade-off"] and figures["pair"]["pgd20"] >= pgd20["trade-off"],
            clean=figures["pair"]["clean"] - clean["trade-off"],
            pgd20=figures["pair"]["pgd20"] - pgd20["trade-off"],
        ),
        check(
            "in the integers every output channel has one magnitude, and zero",
            all(figures[name]["levels"][-1] <= 1 for name in ("int8-trade-off", "int8-pair")),
            levels=figures["int8-pair"]["levels"],
        ),
    ]
