"""GAP's claims on ResNet-8 of half the width: what is pruned adversarially resists attacks on what it was."""

import copy
from dataclasses import asdict
from typing import Any, cast

from torch import nn

from hw.network.network import Network
from models.attacks import pgd
from models.compression.prune import density
from models.methods.gap import GreedyPruning, PGDSettings, kept_share, scores, select
from models.methods.transfer import Transfer, transfer
from models.networks.architectures import AnyArchitecture, initial
from models.training.standard_pieces import FixedMask
from models.training.train import fit
from offramp.replications.start import Setting, check, integers
from offramp.replications.toy import EPS, answers, robustness, under_attack

__all__ = ["checks", "train"]

_CRITERIA = ("gap", "gap-layer", "magnitude", "random")


def train(setting: Setting) -> tuple[dict[str, Any], dict[str, Network]]:
    """Train, prune by several criteria to a half and a quarter, train on, attack; figures and integer networks."""
    data, test, eps = setting.dataset, setting.dataset.test, EPS[setting.dataset.name]
    dense = copy.deepcopy(setting.model)
    fit(dense, data.train, setting.schedule(), seed=setting.seed, progress=setting.progress, text="train")
    some = test.take(1000)
    attacked = pgd(dense, some.images, some.labels, eps=eps, steps=20, seed=setting.seed)

    def tried(network: Any) -> Transfer:
        return transfer(answers(network), answers(dense), some.images, attacked, some.labels)

    figures: dict[str, Any] = {"eps": eps, "dense": asdict(tried(dense))}
    attack = PGDSettings(eps=eps, step=eps / 4)
    tuning = setting.schedule(max(1, setting.epochs // 2), lr=setting.tuning.lr / 2)
    kept: dict[str, nn.Module] = {}
    for criterion in _CRITERIA:
        for compression in (2.0, 4.0):
            model = copy.deepcopy(dense)
            fit(
                model, data.train, tuning, seed=setting.seed, progress=setting.progress,
                pieces=[GreedyPruning(criterion, compression, attack=attack)], text=f"{criterion} {compression:g}",
            )  # fmt: skip
            key = f"{criterion}-{compression:g}"
            kept[key] = model
            figures[key] = {
                **asdict(tried(model)),
                "white_box": under_attack(model, test, eps, seed=setting.seed),
                "density": density(model),
            }
    # Control: as sparse as GAP leaves it, but trained from other weights for as long as the dense one and tuning.
    other = initial(cast(AnyArchitecture, setting.model.architecture), setting.seed + 1)
    masks = select(
        scores(dense, data.train, "gap", attack=attack, seed=setting.seed), "gap", kept_share(dense, 4.0),
        seed=setting.seed,
    )  # fmt: skip
    fit(
        other, data.train, setting.schedule(setting.epochs + tuning.epochs), seed=setting.seed + 1,
        pieces=[FixedMask(masks)], progress=setting.progress, text="control",
    )  # fmt: skip
    figures["control-4"] = {**asdict(tried(other)), "white_box": under_attack(other, test, eps, seed=setting.seed)}
    network = integers(setting, kept["gap-4"], "gap")
    figures["int8"] = asdict(tried(network)) | {
        "robustness": robustness(network, test, eps, seed=setting.seed),
    }
    return figures, {"gap-4": network}


def checks(figures: dict[str, Any], measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What is claimed, and whether it holds by these figures."""

    def of(name: str, figure: str) -> float:
        return float(figures[name][figure])

    clean = {key: of(key, "clean") for key in ("gap-2", "magnitude-2", "gap-4", "magnitude-4")}
    target = {key: of(key, "target") for key in ("gap-4", "magnitude-4", "dense", "control-4")}
    return [
        check(
            "pruned adversarially, a network is at most 2 points less accurate than pruned by magnitude",
            min(clean["gap-2"] - clean["magnitude-2"], clean["gap-4"] - clean["magnitude-4"]) >= -0.02,
            **clean,
        ),
        check(
            "at a quarter of the parameters, attacks made on the dense parent hit it less: 5 points above magnitude, "
            "which is above the parent",
            target["gap-4"] - target["magnitude-4"] >= 0.05 and target["magnitude-4"] > target["dense"],
            **target,
        ),
        check(
            "attacked itself it isn't robust: PGD-20 leaves less than half of the clean accuracy",
            max(of("gap-2", "white_box") / clean["gap-2"], of("gap-4", "white_box") / clean["gap-4"]) < 0.5,
            gap_2=of("gap-2", "white_box"),
            gap_4=of("gap-4", "white_box"),
        ),
        check(
            "int8 changes the clean accuracy by less than half a point and the transfer accuracy by less than 3",
            abs(of("int8", "clean") - clean["gap-4"]) < 0.005 and abs(of("int8", "target") - target["gap-4"]) < 0.03,
            clean=of("int8", "clean") - clean["gap-4"],
            target=of("int8", "target") - target["gap-4"],
        ),
        check(
            "the resistance comes from the criterion: a network as sparse, trained from other weights, resists less",
            target["gap-4"] > target["control-4"],
            gap=target["gap-4"],
            control=target["control-4"],
        ),
    ]
