"""What a recipe begins with: the weights of its network, and the network that teaches it."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from models.datasets.sources import data_folder
from models.networks import architectures
from models.networks.architectures import AnyArchitecture
from models.networks.resnet8 import WEIGHTS, ResNet8Architecture, official_state
from models.recipes import checkpoint

__all__ = ["Start", "starting_network", "trained_teacher"]

#: Beginnings of names of parameters that a start may lack: early exits that are added to a trained network.
_ADDED = ("exits.",)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a network begins with instead of random weights; one of the two.

    Parameters
    ----------
    weights : str
        ``official``: MLPerf Tiny's float ResNet-8.
    checkpoint : str
        File of a trained network.
    """

    weights: str = ""
    checkpoint: str = ""

    def __post_init__(self) -> None:
        if self.weights not in ("", "official"):
            raise ValueError(f"weights must be official, not {self.weights!r}")
        if bool(self.weights) == bool(self.checkpoint):
            raise ValueError("either weights or checkpoint must be given, not both or neither")


def starting_network(
    start: Start | None, architecture: AnyArchitecture, seed: int, root: Path | None = None
) -> nn.Module:
    """The float network before any training.

    Parameters
    ----------
    start : Start or None
        None for random weights.
    architecture : Architecture or another of models.networks.architectures
    seed : int
        Of random weights.
    root : Path or None
        Data folder, for official weights.

    Raises
    ------
    ValueError
        When the start's file can't be read or isn't of the architecture.
    """
    model = architectures.initial(architecture, seed)
    if start is None:
        return model
    if start.weights:
        if not isinstance(architecture, ResNet8Architecture):
            kind = architectures.describe(architecture)["kind"]
            raise ValueError(f"official weights are of kind resnet8, not {kind}")
        state = official_state(data_folder(root) / WEIGHTS)
        source = str(WEIGHTS)
    else:
        source = start.checkpoint
        state = checkpoint.load(Path(source)).model().state_dict()
    own = model.state_dict()
    for name in sorted(own.keys() | state.keys()):
        missing = name not in state and name.startswith(_ADDED)
        if not missing and (name not in own or name not in state or own[name].shape != state[name].shape):
            found = tuple(state[name].shape) if name in state else "nothing"
            wanted = tuple(own[name].shape) if name in own else "nothing"
            raise ValueError(f"{source}: {name} must be {wanted} for this architecture, not {found}")
    model.load_state_dict(own | state)
    return model


def trained_teacher(file: str, data: str) -> nn.Module | None:
    """The network of a trained network's file; None where no file is named.

    Raises
    ------
    ValueError
        When it can't be read or isn't of that data set.
    """
    if not file:
        return None
    found = checkpoint.load(Path(file))
    if found.data != data:
        raise ValueError(f"{file}: a teacher must have learnt from {data}, not from {found.data}")
    return found.model()
