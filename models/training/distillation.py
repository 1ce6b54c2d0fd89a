"""Learning from a teacher's logits, computed batch by batch or kept for the fixed views of all images."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from hw import container
from hw.rules import require
from models.networks.residual_net import to_torch
from models.training.pieces import Outputs, Piece, Run
from models.training.resume import MAGIC
from models.training.views import View

__all__ = ["Distillation", "KeptLogits"]

_VERSION = 1
_BATCH = 512


class KeptLogits:
    """A teacher's logits of a split in its fixed views, each view computed when it is first asked for.

    Parameters
    ----------
    teacher : Module
        Trained; returns logits of every exit, of which the final ones count.
    folder : Path or None
        For a file of each view, float16, which any later run of the same teacher, images, seed and views finds again;
        None keeps them in memory only.
    """

    def __init__(self, teacher: nn.Module, folder: Path | None) -> None:
        self.teacher, self.folder = teacher, folder
        self._views: dict[int, torch.Tensor] = {}
        self._digest = ""

    def view(self, run: Run, number: int) -> torch.Tensor:
        """Logits of the run's split in this view, float16, (N, classes).

        Raises
        ------
        ValueError
            When the view's file is damaged.
        """
        if number not in self._views:
            path = self._file(run, number)
            if path is None or not path.exists():
                found = self._computed(run, number)
                if path is not None:
                    container.write(path, MAGIC, _VERSION, {}, {"logits": found.numpy()})
            else:
                found = _read(path, run)
            self._views[number] = found
        return self._views[number]

    def _file(self, run: Run, number: int) -> Path | None:
        """Named by all that the logits depend on."""
        if self.folder is None:
            return None
        if not self._digest:
            digest = hashlib.sha256(run.split.images.tobytes())
            digest.update(f"{run.seed} {run.schedule.shift} {run.schedule.flip}".encode())
            for name, value in self.teacher.state_dict().items():
                digest.update(name.encode() + value.cpu().numpy().tobytes())
            self._digest = digest.hexdigest()[:16]
        return self.folder / f"taught-{self._digest}-{number}.off"

    def _computed(self, run: Run, number: int) -> torch.Tensor:
        view = View.of(run.schedule, len(run.split), seed=run.seed, number=number)
        layout = torch.channels_last if run.schedule.channels_last else torch.contiguous_format
        found = []
        with torch.no_grad():
            for chosen in torch.arange(len(run.split)).split(_BATCH):
                run.say(f"teacher, view {number + 1}/{run.schedule.views}, image {int(chosen[0])}")
                images = view.show(to_torch(run.split.images[chosen.numpy()]), chosen)
                found.append(self.teacher(images.to(run.device, memory_format=layout))[-1].half().cpu())
        return torch.cat(found)


def _read(path: Path, run: Run) -> torch.Tensor:
    _, arrays = container.read(path, MAGIC, _VERSION)
    logits = arrays.get("logits", np.zeros(0))
    right = logits.dtype == np.float16 and logits.ndim == 2 and len(logits) == len(run.split)
    require(
        right and bool(np.isfinite(logits).all()),
        f"{path}: must hold finite float16 logits of {len(run.split)} images: delete it to have them computed again",
    )
    return torch.from_numpy(logits.copy())


class Distillation(Piece):
    """The logits also follow a teacher's (Hinton et al. 2015, arXiv 1503.02531).

    Where the schedule has fixed views, the teacher looks at each view once (:class:`KeptLogits`), and not at what
    pieces make of it.

    Parameters
    ----------
    teacher : Module
        Trained; returns logits of every exit, of which the final ones teach.
    weight : float
        Of this loss beside the others.
    temperature : float
        Both logits are divided by it, the loss is multiplied by its square.
    exits : float
        Weight of each early exit's loss beside that of the final logits; 0 teaches the final ones only.
    folder : Path or None
        For the logits of fixed views.

    Raises
    ------
    ValueError
        When weight or temperature isn't positive or the exits' weight is negative.
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        weight: float = 1.0,
        temperature: float = 4.0,
        exits: float = 0.0,
        folder: Path | None = None,
    ) -> None:
        for name, value in (("weight", weight), ("temperature", temperature)):
            if not value > 0:
                raise ValueError(f"{name} of distillation must be positive, not {value}")
        if not exits >= 0:
            raise ValueError(f"exits of distillation must not be negative, not {exits}")
        self.teacher, self.weight, self.temperature, self.exits = teacher, weight, temperature, exits
        self._kept = KeptLogits(teacher, folder)
        self._of_view = torch.zeros(0)

    def begin(self, run: Run) -> None:
        self.teacher.to(run.device).eval()

    def before_epoch(self, run: Run) -> None:
        if run.view is not None:
            self._of_view = self._kept.view(run, run.view)

    def loss(self, run: Run, images: torch.Tensor, labels: torch.Tensor, outputs: Outputs) -> torch.Tensor:
        taught = F.log_softmax(self._logits(run, images) / self.temperature, dim=1)
        divergence = self._from(taught, outputs[-1])
        if self.exits:
            for early in outputs[:-1]:
                divergence = divergence + self.exits * self._from(taught, early)
        return self.weight * self.temperature**2 * divergence

    def _logits(self, run: Run, images: torch.Tensor) -> torch.Tensor:
        """The teacher's for a batch, float32."""
        if run.view is not None:
            return self._of_view[run.chosen].float().to(images.device)
        with torch.no_grad():
            return torch.as_tensor(self.teacher(images)[-1].float())

    def _from(self, taught: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """How far logits are from what is taught."""
        learnt = F.log_softmax(logits / self.temperature, dim=1)
        return F.kl_div(learnt, taught, reduction="batchmean", log_target=True)

    def end(self, run: Run) -> None:
        self.teacher.to("cpu")
