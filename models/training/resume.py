"""Files of training runs in progress: everything that the rest of a run depends on, without pickle.

One file has the state after the last epoch done. Within an epoch a second one beside it (:func:`within`) has the state
after a step, which goes on from the first: what pieces do before an epoch they do again from the state they did it in.

A run that resumes from such a file goes on as if it had never stopped: weights, optimizer, learning rate, pieces and
every generator are as they were, bit for bit. A run of a GPU also goes on without one, and the other way round, from
the same weights but not to the same bits.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from hw import container
from hw.rules import require, shown
from hw.typed import checked, said
from models.training.pieces import Piece, Run
from models.training.state_tree import join, take_apart

__all__ = ["MAGIC", "EpochPart", "load", "load_within", "save", "save_within", "within"]

#: What files of parts of a training begin with.
MAGIC = b"OFFRPART"
_VERSION = 1


def _identity(run: Run, pieces: Sequence[Piece]) -> str:
    """What must be equal for a run to be the same: settings, seed, data, pieces and the network's shapes."""
    digest = run.data_digest.copy()
    described = {
        "schedule": {name: value for name, value in said(run.schedule).items() if name != "device"},
        "seed": run.seed,
        "text": run.text,
        "pieces": [type(piece).__name__ for piece in pieces],
        "shapes": {name: list(value.shape) for name, value in run.model.state_dict().items()},
    }
    digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class EpochPart:
    """What is done of an epoch in progress.

    Parameters
    ----------
    order : tensor of int64, (N,)
        Of the split's images, by index.
    losses : list of float
        Of the steps done.
    """

    order: torch.Tensor
    losses: list[float]


def within(path: Path) -> Path:
    """The file that holds the state within an epoch."""
    return path.with_suffix(f".step{path.suffix}")


def save(path: Path, run: Run, pieces: Sequence[Piece]) -> None:
    """Write the state after an epoch, whole or not at all; the one within it goes."""
    _write(path, run, pieces, {"epochs": run.epoch + 1})
    within(path).unlink(missing_ok=True)


def save_within(path: Path, run: Run, pieces: Sequence[Piece], part: EpochPart) -> None:
    """Write the state after a step beside the file of epochs, whole or not at all."""
    done = {"epochs": run.epoch, "recorded": run.recorded, "order": part.order, "losses": part.losses}
    _write(within(path), run, pieces, done)


def _write(path: Path, run: Run, pieces: Sequence[Piece], done: dict[str, Any]) -> None:
    tree = {
        "model": dict(run.model.state_dict()),
        "optimizer": run.optimizer.state_dict(),
        "policy": _policy_state(run.policy),
        "pieces": [piece.state_dict() for piece in pieces],
        "generator": run.generator.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(run.device) if run.device.type == "cuda" else None,
        "metrics": run.metrics,
    } | done
    manifest, arrays = take_apart(tree)
    container.write(path, MAGIC, _VERSION, {"run": _identity(run, pieces), "state": manifest}, arrays)


def load(path: Path, run: Run, pieces: Sequence[Piece]) -> int:
    """Put a run and its pieces into the state of a file; they must have begun already.

    Returns
    -------
    int
        Epochs done.

    Raises
    ------
    ValueError
        When the file can't be read, is damaged, or is of a run with other settings, data, pieces or network.
    """
    with _state(path, run, pieces) as state:
        epochs = checked(state["epochs"], int, "epochs")
        require(1 <= epochs <= run.schedule.epochs, f"epochs must be in 1..{run.schedule.epochs}, not {epochs}")
        _check(state, run, pieces, epochs, epochs * run.steps)
        _put(state, run, pieces)
        run.done = epochs * run.steps
    return epochs


def load_within(path: Path, run: Run, pieces: Sequence[Piece]) -> EpochPart | None:
    """Put a run that has begun an epoch into the state after a step of it, if there is one.

    Parameters
    ----------
    path : Path
        File of epochs, as for :func:`load`.

    Raises
    ------
    ValueError
        As :func:`load`.
    """
    if not within(path).exists():
        return None
    with _state(within(path), run, pieces) as state:
        if checked(state["epochs"], int, "epochs") != run.epoch:
            return None  # the epoch was done, and the run stopped before this file was gone
        order, losses = state["order"], state["losses"]
        right = isinstance(losses, list) and all(type(loss) is float for loss in losses)
        require(right and 0 < len(losses) <= run.steps, f"losses must be those of 1..{run.steps} steps")
        images = torch.arange(len(run.split))
        _check_form(order, images, "order")
        require(torch.equal(order.sort().values, images), "order must have every image of the split once")
        _check_metrics([state["recorded"] | {"loss": 0.0}], 1)
        done = run.epoch * run.steps + len(losses)
        _check(state, run, pieces, run.epoch, done)
        _put(state, run, pieces)
        run.done, run.recorded = done, state["recorded"]
    return EpochPart(order=order, losses=losses)


@contextmanager
def _state(path: Path, run: Run, pieces: Sequence[Piece]) -> Iterator[Any]:
    """The state in a file of this run; what doesn't fit it, in the block, is refused as the file's."""
    manifest, arrays = container.read(path, MAGIC, _VERSION)
    if manifest.get("run") != _identity(run, pieces):
        raise ValueError(
            f"{path}: must be of the same settings, seed, data and network as this run, not of another one: "
            "delete it to begin anew"
        )
    try:
        yield join(manifest["state"], arrays)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: must hold a state of this run: {reason}: delete it to begin anew") from error


def _policy_state(policy: torch.optim.lr_scheduler.LRScheduler) -> dict[str, Any]:
    """What the learning rate's course keeps, but for functions, which the schedule makes anew."""
    return {name: value for name, value in policy.state_dict().items() if name != "lr_lambdas"}


def _check(state: dict[str, Any], run: Run, pieces: Sequence[Piece], epochs: int, done: int) -> None:
    """Refuse a state that the run can't be in after so many epochs and steps: all has its type, its length, its shape.

    Numbers that follow from the schedule are compared: a resumed run must not learn at another rate.
    """
    _check_metrics(state["metrics"], epochs)
    optimizer, policy = _learning(run, done)
    for name, wanted in (("model", dict(run.model.state_dict())), ("generator", run.generator.get_state())):
        _check_form(state[name], wanted, name)
    _check_form(state["torch"], torch.get_rng_state(), "torch")
    _check_form(state["policy"], _policy_state(policy) | {"_step_count": done + 1}, "policy", equal=True)
    wanted = optimizer.state_dict()
    _check_form(state["optimizer"]["param_groups"], wanted["param_groups"], "optimizer", equal=True)
    # Parameters that got no gradient so far aren't there.
    for number, kept in state["optimizer"]["state"].items():
        _check_form(kept, wanted["state"][number], f"optimizer of parameter {number}")
        step = float(kept.get("step", 1.0))
        require(step in range(1, done + 1), f"steps of parameter {number} must be in 1..{done}, not {step:g}")
    require(len(state["pieces"]) == len(pieces), f"pieces must be {len(pieces)}, not {len(state['pieces'])}")
    for piece, kept in zip(pieces, state["pieces"], strict=True):
        if piece.fixed_form:
            _check_form(kept, piece.state_dict(), type(piece).__name__)


def _check_metrics(metrics: Any, epochs: int) -> None:
    """Refuse metrics that aren't those of so many epochs."""
    require(
        isinstance(metrics, list) and len(metrics) == epochs,
        f"metrics must be those of {epochs} epochs, not {shown(metrics)}",
    )
    for number, epoch in enumerate(metrics, 1):
        right = isinstance(epoch, dict) and all(type(value) is float for value in epoch.values())
        require(
            right and "loss" in epoch and all(isinstance(name, str) for name in epoch),
            f"metrics of epoch {number} must be numbers by name, the loss among them, not {shown(epoch)}",
        )


def _learning(run: Run, done: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Optimizer and learning rate as they are after so many steps, but for what they learnt from gradients."""
    parameters = [nn.Parameter(torch.zeros_like(value), requires_grad=False) for value in run.model.parameters()]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = run.schedule.make_optimizer(parameters)
    policy = run.schedule.make_policy(optimizer, run.total)
    optimizer.step()
    policy.last_epoch = done - 1  # the rate is a function of the step alone
    policy.step()
    return optimizer, policy


def _check_form(found: Any, wanted: Any, what: str, *, equal: bool = False) -> None:
    """Refuse what hasn't the types, names, lengths and shapes of something else; numbers and texts may be compared."""
    if isinstance(wanted, torch.Tensor):
        right = isinstance(found, torch.Tensor) and (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        if not right:
            raise ValueError(f"{what} must be {wanted.dtype} {tuple(wanted.shape)}, not {_described(found)}")
    elif isinstance(wanted, dict):
        right = isinstance(found, dict) and found.keys() == wanted.keys()
        if not right:
            raise ValueError(f"{what} must have the names {shown(list(wanted))}, not be {_described(found)}")
        for key, value in wanted.items():
            _check_form(found[key], value, f"{what}.{key}", equal=equal)
    elif isinstance(wanted, list | tuple):
        right = type(found) is type(wanted) and len(found) == len(wanted)
        if not right:
            raise ValueError(f"{what} must be a {type(wanted).__name__} of {len(wanted)}, not {_described(found)}")
        for number, value in enumerate(wanted):
            _check_form(found[number], value, f"{what}.{number}", equal=equal)
    else:
        right = type(found) is type(wanted) and not (equal and _differs(found, wanted))
        if not right:
            rule = shown(wanted) if equal else type(wanted).__name__
            raise ValueError(f"{what} must be {rule}, not {_described(found)}")


def _differs(found: Any, wanted: Any) -> bool:
    # The cosine's last bits are each platform's own.
    return not math.isclose(found, wanted, rel_tol=1e-9) if isinstance(wanted, float) else found != wanted


def _described(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else shown(value)


def _put(state: dict[str, Any], run: Run, pieces: Sequence[Piece]) -> None:
    """Put a run and its pieces into a state."""
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    lambdas = {"lr_lambdas": [None]} if isinstance(run.policy, LambdaLR) else {}
    run.policy.load_state_dict(state["policy"] | lambdas)
    for piece, kept in zip(pieces, state["pieces"], strict=True):
        piece.load_state_dict(kept)
    run.generator.set_state(state["generator"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and run.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], run.device)
    run.metrics = state["metrics"]
