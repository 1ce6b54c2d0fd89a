"""DAB's claims on ResNet-8: a branch added to networks as they are, and what it notices of attacks."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from hw.network.exits import DEFAULT, Conditions
from hw.network.network import Network
from models.attacks import branch_loss, joint_loss, max_average, pgd, slowdown, square
from models.attacks.detector_attacks import consistent, orthogonal
from models.attacks.score import margins
from models.compression import prune
from models.compression.quantize import encode
from models.datasets.splits import Split
from models.integer import golden
from models.integer.exit_calibration import calibrate, with_exit_thresholds
from models.integer.surrogate import Surrogate
from models.methods import dab, detector
from models.methods.jpnet import IterativePruning
from models.training.hyperparameters import Schedule
from models.training.train import fit, predict
from offramp.replications.start import Setting, check, integers

__all__ = ["ADAPTIVE", "EPS", "Heads", "checks", "success", "train"]

#: Radii of the attacks on the detector, in 0..1.
EPS = (0.05, 0.1)
#: Rows of attackers who know the detector.
ADAPTIVE = ("A1 consistent", "A2 orthogonal", "A4 square")

_TENSOR, _MODULE = "block1.add", "block1"  # behind 35 to 45 % of the multiply-accumulates
_SOFTMAX = 0.9  # the same exit rule for all networks: the largest softmax
_DENSITY = 0.3
_WIDTH, _GRID = 16, 2  # of the branch
_ATTACKED = 50
_BRANCH = Schedule(epochs=10, lr=5e-3, batch=128, weight_decay=0.0, policy="steps", milestones=(0.6,))


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).double().softmax(dim=1).numpy()


def _exits(logits: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Exit share and accuracies by the softmax rule, of the logits of branch and final head."""
    branch, final = logits
    early = _softmax(branch).max(axis=1) >= _SOFTMAX
    answers = np.where(early, branch.argmax(axis=1), final.argmax(axis=1))
    return {
        "exit_share": float(early.mean()),
        "accuracy": float((answers == labels).mean()),
        "accuracy_without_exit": float((final.argmax(axis=1) == labels).mean()),
    }


def _float_branch(setting: Setting, model: nn.Module) -> list[np.ndarray]:
    """Test logits of a branch that was trained on a frozen float network, and of its final head."""
    seen: list[torch.Tensor] = []
    hook = model.get_submodule(_MODULE).register_forward_hook(lambda module, inputs, output: seen.append(output))

    def maps(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.clear()
        final = predict(model, images)[-1]
        return np.ascontiguousarray(torch.cat(seen).permute(0, 2, 3, 1).numpy()), final

    try:
        train, _ = maps(setting.dataset.train.images)
        test, final = maps(setting.dataset.test.images)
    finally:
        hook.remove()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed)
        branch = dab.Branch(train.shape[1:], final.shape[1], width=_WIDTH, grid=_GRID)
    split = Split(images=train, labels=setting.dataset.train.labels)
    fit(branch, split, _BRANCH, seed=setting.seed, progress=setting.progress, text="branch")
    return [predict(branch, test)[0], final]


class Heads:
    """An integer network with a branch, and what its detector says.

    Parameters
    ----------
    network : Network
        With two exits.
    validation : Split
        Clean images, of which 5 % are flagged.
    """

    def __init__(self, network: Network, validation: Split) -> None:
        self.network = network
        self.threshold = detector.flag_threshold(self.scores(validation.images))

    def logits(self, images: np.ndarray) -> list[np.ndarray]:
        """Of both heads, in real units: (N, classes)."""
        result = golden.run(self.network, encode(images, self.network), keep=False)
        tensors = self.network.tensors()
        return [
            values * tensors[head.logits].scale for values, head in zip(result.logits, self.network.exits, strict=True)
        ]

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Detector scores of both heads (D2), (N,)."""
        return detector.confusion(*self.logits(images))

    def score(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """For gradient-free attacks on the composed decision: what is flagged is no success."""
        result = golden.run(self.network, encode(images, self.network), keep=False)
        chosen = np.stack(result.logits, axis=1)[np.arange(len(images)), result.exit_index]
        found = margins(chosen, labels)
        excess = self.scores(images) - self.threshold
        return np.where(excess > 0, np.minimum(found, 0) - 1e3 * excess.clip(0), found)


def success(heads: Heads, images: np.ndarray, labels: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    """Shares of images that fool the composed decision, and of those that do so unflagged.

    ``unflagged`` is by the score of both heads, known of all images only in constant time and outside the accelerator;
    ``unflagged_default``, ``unflagged_audit`` (a quarter of the runs) and ``unflagged_constant`` are by the flags that
    the accelerator gives itself.

    Parameters
    ----------
    clean : array of float, (M,)
        Scores of clean images, for ``auroc``.
    """
    codes = encode(images, heads.network)
    fools = golden.run(heads.network, codes, keep=False).classes != labels
    scores = heads.scores(images)
    found = {
        "success": float(fools.mean()),
        "unflagged": float((fools & (scores <= heads.threshold)).mean()),
        "auroc": detector.auroc(clean, scores),
    }
    conditions = {"default": DEFAULT, "audit": Conditions(audit=64), "constant": Conditions(constant=True)}
    for name, chosen in conditions.items():
        flagged = detector.flags(detector.decisions(heads.network, codes, chosen))
        found[f"unflagged_{name}"] = float((fools & ~flagged).mean())
    return found


def _attacks(heads: Heads, some: Split, eps: float, seed: int) -> dict[str, np.ndarray]:
    """Attacked images by row of the test plan."""
    twin = Surrogate(heads.network)
    args: tuple[Any, ...] = (twin, some.images, some.labels)
    rows: dict[str, Callable[[], np.ndarray]] = {
        "N1 final": lambda: pgd(*args, eps=eps, steps=40, seed=seed),
        "N2 branch": lambda: pgd(*args, eps=eps, steps=40, objective=branch_loss, seed=seed),
        "N3 average": lambda: pgd(*args, eps=eps, steps=40, objective=joint_loss, seed=seed),
        "N3 max-average": lambda: max_average(*args, eps=eps, steps=40, seed=seed),
        "A1 consistent": lambda: consistent(*args, eps=eps, steps=40, restarts=2, seed=seed),
        "A2 orthogonal": lambda: orthogonal(*args, eps=eps, steps=100, step=max(1 / 255, eps / 20), seed=seed),
        "A4 square": lambda: square(heads.score, some.images, some.labels, eps=eps, queries=200, seed=seed),
    }
    return {name: run() for name, run in rows.items()}


def train(setting: Setting) -> tuple[dict[str, Any], dict[str, Network]]:
    """Quasi-orthogonality, detector, slowdown: figures and networks with calibrated branches."""
    data, test = setting.dataset, setting.dataset.test
    dense = copy.deepcopy(setting.model)
    fit(dense, data.train, setting.schedule(), seed=setting.seed, progress=setting.progress, text="train")
    pruned = copy.deepcopy(dense)
    shares = prune.densities(pruned, _DENSITY, {"stem.conv.weight": 0.7})
    fit(
        pruned, data.train, setting.schedule(lr=setting.tuning.lr / 2), seed=setting.seed,
        pieces=[IterativePruning(shares, rounds=min(3, setting.epochs))], progress=setting.progress, text="prune",
    )  # fmt: skip
    figures: dict[str, Any] = {"softmax": _SOFTMAX, "orthogonality": {}, "calibrated": {}}
    networks = {}
    for name, model in (("dense", dense), ("pruned", pruned)):
        figures["orthogonality"][name] = _exits(_float_branch(setting, model), test.labels)
        plain = integers(setting, model, name)
        branched = dab.add_branch(
            plain,
            _TENSOR,
            data.train,
            width=_WIDTH,
            grid=_GRID,
            training=_BRANCH,
            seed=setting.seed,
            progress=setting.progress,
        )
        heads = Heads(branched, data.validation)
        figures["orthogonality"][f"{name} int8"] = _exits(heads.logits(test.images), test.labels)
        known = golden.run(branched, encode(data.validation.images, branched), keep=False).logits
        network = with_exit_thresholds(branched, calibrate(known[0], known[1], data.validation.labels))
        network = detector.with_ranges(network, encode(data.validation.images, network))
        codes = encode(test.images, network)
        made, result = detector.decisions(network, codes), golden.run(network, codes, keep=False)
        figures["calibrated"][name] = {
            "accuracy": result.accuracy(test.labels),
            "accuracy_without_exit": float((result.logits[-1].argmax(axis=1) == test.labels).mean()),
            "exit_share": float(result.exit_share()[0]),
            "flagged": float(detector.flags(made).mean()),
            "costs": dab.exit_costs(network),
        }
        networks[f"dab-{name}"] = network
    figures["attacks"], figures["slowdown"] = _attacked(setting, networks["dab-dense"])
    return figures, networks


def _attacked(setting: Setting, network: Network) -> tuple[dict[str, Any], dict[str, Any]]:
    """The detector's test plan, and the slowdown attack's curve."""
    test, heads = setting.dataset.test, Heads(network, setting.dataset.validation)
    some = test.take(_ATTACKED)
    clean = heads.scores(test.images)
    rows: dict[str, Any] = {"clean_flagged": float((clean > heads.threshold).mean())}
    slow: dict[str, Any] = {}
    costs = dab.exit_costs(network)
    rng = np.random.default_rng(setting.seed)
    for eps in (0.0, *EPS):
        images = slowdown(Surrogate(network), some.images, eps=eps, seed=setting.seed) if eps else some.images
        exits = golden.run(network, encode(images, network), keep=False).exit_index
        slow[str(eps)] = {"exit_share": float((exits == 0).mean()), "efficacy": dab.efficacy(costs, exits)}
        if eps:
            found = _attacks(heads, some, eps, setting.seed)
            rows[str(eps)] = {name: success(heads, images, some.labels, clean) for name, images in found.items()}
            noise = (test.images + rng.normal(0, eps, test.images.shape)).clip(0, 1).astype(np.float32)
            rows[str(eps)]["R noise"] = {"flagged": float((heads.scores(noise) > heads.threshold).mean())}
    return rows, slow


def checks(figures: dict[str, Any], measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """The method's claims, by the figures of :func:`train` and what the accelerator does with its networks."""
    rows = figures["orthogonality"]
    shares = [found["exit_share"] for found in rows.values()]
    gaps = [found["accuracy"] - found["accuracy_without_exit"] for found in rows.values()]
    attacks = figures["attacks"]
    unaware = {eps: attacks[str(eps)]["N1 final"]["auroc"] for eps in EPS}
    left = {eps: max(attacks[str(eps)][row]["unflagged"] for row in ADAPTIVE) for eps in EPS}
    before = {eps: max(found["success"] for found in attacks[str(eps)].values() if "success" in found) for eps in EPS}
    early = {eps: attacks[str(eps)]["N2 branch"]["unflagged_default"] for eps in EPS}
    slow = [found["efficacy"] for found in figures["slowdown"].values()]
    return [
        check(
            "quasi-orthogonality: with the same rule, exit shares differ by at most 3 points and what exits cost by at "
            "most a point, dense, pruned, quantized or both",
            max(shares) - min(shares) <= 0.03 and max(gaps) - min(gaps) <= 0.01,
            **rows,
        ),
        check("the detector tells attacks on the final head from clean images, AUROC 0.9", min(unaware.values()) >= 0.9,
              auroc=unaware),
        check(
            "attackers who know the detector succeed unflagged at least 10 points less often than attacks succeed "
            "without it; else it is a consistency monitor",
            all(left[eps] <= before[eps] - 0.1 for eps in EPS),
            unflagged=left,
            without=before,
        ),
        check(
            "by default the accelerator flags at least half of the successful attacks on the branch, which leave early",
            all(early[eps] <= attacks[str(eps)]["N2 branch"]["success"] / 2 for eps in EPS),
            unflagged=early,
            success={eps: attacks[str(eps)]["N2 branch"]["success"] for eps in EPS},
        ),
        check("a slowdown attack lowers the efficacy", slow[-1] < slow[0], efficacy=figures["slowdown"]),
        check(
            "a pruned network with exits takes fewer cycles than the dense one with exits",
            measured["dab-pruned"]["cycles"] < measured["dab-dense"]["cycles"],
            cycles={name: found["cycles"] for name, found in measured.items()},
        ),
    ]  # fmt: skip
