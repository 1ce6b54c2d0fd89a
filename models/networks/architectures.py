"""Every architecture that a checkpoint or a recipe may name, by its kind."""

from typing import Any

import torch
from torch import nn

from hw.rules import shown
from models.networks.enresnet import EnResNet, EnResNetArchitecture
from models.networks.residual_net import Architecture, ResidualNet
from models.networks.resnet8 import ResNet8, ResNet8Architecture
from models.networks.whitened import WhitenedArchitecture, WhitenedNet

__all__ = ["KINDS", "AnyArchitecture", "describe", "from_dict", "initial", "network", "state_of"]

#: Most parameters of a network: far beyond what the accelerator runs, and within every computer's memory.
_MOST_PARAMETERS = 1 << 24

AnyArchitecture = Architecture | ResNet8Architecture | EnResNetArchitecture | WhitenedArchitecture

#: By kind: what describes a network (a :class:`models.networks.residual_net.Description`), and the network it
#: describes, whose ``architecture`` it is.
KINDS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "residual": (Architecture, ResidualNet),
    "resnet8": (ResNet8Architecture, ResNet8),
    "enresnet": (EnResNetArchitecture, EnResNet),
    "whitened": (WhitenedArchitecture, WhitenedNet),
}


def describe(architecture: AnyArchitecture) -> dict[str, Any]:
    """As JSON can hold it; :func:`from_dict` is the inverse."""
    kind = next(kind for kind, (described, _) in KINDS.items() if type(architecture) is described)
    return {"kind": kind, **architecture.to_dict()}


def from_dict(manifest: dict[str, Any]) -> AnyArchitecture:
    """The architecture of a description.

    Raises
    ------
    ValueError
        When its kind is unknown, a key is missing or unknown, or a value impossible.
    """
    if not isinstance(manifest, dict):
        raise ValueError(f"architecture must be a table, not {shown(manifest)}")
    values = dict(manifest)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"architecture's kind must be one of {', '.join(KINDS)}, not {shown(kind)}")
    found: AnyArchitecture = KINDS[kind][0].from_dict(values)
    parameters = sum(value.numel() for value in state_of(found).values())
    if parameters > _MOST_PARAMETERS:
        raise ValueError(f"architecture must have at most {_MOST_PARAMETERS:,} parameters, not {parameters:,}")
    return found


def state_of(architecture: AnyArchitecture) -> dict[str, torch.Tensor]:
    """Names, shapes and types of a network's state, as tensors without memory."""
    with torch.device("meta"):
        return network(architecture).state_dict()


def network(architecture: AnyArchitecture) -> nn.Module:
    """A network with weights drawn from torch's own generator."""
    return next(made for described, made in KINDS.values() if type(architecture) is described)(architecture)


def initial(architecture: AnyArchitecture, seed: int) -> nn.Module:
    """A network with random weights; equal seeds give equal weights and leave torch's own generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(architecture)
