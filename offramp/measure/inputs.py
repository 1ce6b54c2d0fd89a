"""Images that programs are measured on: the test set as it is, and attacked."""

from dataclasses import dataclass

import numpy as np

from hw.network.network import Network
from models.datasets.sources import Progress
from models.datasets.splits import Split

__all__ = ["ATTACKS", "EPS", "Attack", "attack", "attacked", "default_eps"]

#: Largest change of a pixel (0..1) by data set: what a person hardly minds at that resolution.
EPS = {"digits": 0.1, "fashion-mnist": 0.05, "cifar10": 8 / 255}


@dataclass(frozen=True, kw_only=True)
class Attack:
    """How images are changed.

    Parameters
    ----------
    name : str
    description : str
    steps, restarts : int
        Gradient steps and starts; 0 steps leaves the images alone.
    """

    name: str
    description: str
    steps: int = 0
    restarts: int = 1


#: By name. All are white-box on the float twin of the integer network and are measured on the integers.
ATTACKS = {
    kind.name: kind
    for kind in (
        Attack(name="clean", description="the test set as it is"),
        Attack(name="fgsm", description="FGSM on the final head", steps=1),
        Attack(name="pgd", description="PGD-20 on the final head: unaware of exits", steps=20),
        Attack(
            name="adaptive", description="PGD-40 with 2 restarts on all heads: aware of exits", steps=40, restarts=2
        ),
        Attack(
            name="slowdown", description="slowdown, 30 steps: past the exit; without exits, more products", steps=30
        ),
    )
}


def attack(name: str) -> Attack:
    """The attack of that name.

    Raises
    ------
    ValueError
        When there is none.
    """
    if name not in ATTACKS:
        raise ValueError(f"attack must be one of {', '.join(ATTACKS)}, not {name!r}")
    return ATTACKS[name]


def default_eps(data: str) -> float:
    """Largest change of a pixel for a data set, where a user gives none.

    Raises
    ------
    ValueError
        When it is none of these data sets.
    """
    if data not in EPS:
        there = f"of {data}" if data else "random"
        raise ValueError(f"--eps must be given unless images are of {', '.join(EPS)}, and these are {there}")
    return EPS[data]


def attacked(
    kind: Attack, network: Network, split: Split, *, eps: float, seed: int, progress: Progress | None = None
) -> np.ndarray:
    """The split's images under an attack.

    Parameters
    ----------
    eps : float
        Largest change of a pixel, in 0..1.
    seed : int
        Of random starts.

    Returns
    -------
    array of float32, (N, height, width, channels)
        In 0..1.

    Raises
    ------
    ValueError
        When eps is impossible.
    """
    if kind.name == "clean":
        return split.images
    from models.attacks import fgsm, final_loss, joint_loss, pgd, slowdown
    from models.integer.surrogate import Surrogate

    twin = Surrogate(network)
    if kind.name == "fgsm":
        return fgsm(twin, split.images, split.labels, eps=eps, progress=progress, text=kind.name)
    if kind.name == "slowdown":
        return slowdown(twin, split.images, eps=eps, steps=kind.steps, seed=seed, progress=progress, text=kind.name)
    return pgd(
        twin,
        split.images,
        split.labels,
        eps=eps,
        steps=kind.steps,
        restarts=kind.restarts,
        seed=seed,
        progress=progress,
        text=kind.name,
        objective=joint_loss if kind.name == "adaptive" else final_loss,
    )
