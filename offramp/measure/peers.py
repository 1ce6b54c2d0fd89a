"""Other simulators on the same layer shapes, each in a Python environment of its own: optional columns of the bench.

They model other machines, without weights and values, so their cycles are none of ours; what compares is how many
simulated cycles a second each gives.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

from hw.network.layers import Conv2D, DepthwiseConv2D, Linear
from hw.network.network import Network
from hw.processes import run

__all__ = ["PEERS", "Peer", "measure", "shapes"]

_DRIVERS = Path(__file__).parent / "peer_drivers"
#: Lines of a failed command that the error shows.
_LAST_LINES = 3


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A simulator that pip can install.

    Parameters
    ----------
    name : str
        Also of its script in ``peer_drivers``.
    machine : str
        What it models here.
    packages : tuple of str
        What pip installs: the peer, at the version measured, and what it needs but doesn't ask for.
    """

    name: str
    machine: str
    packages: tuple[str, ...]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(name="scalesim", machine="8x8 systolic array", packages=("scalesim==3.0.0", "numpy<2")),
        Peer(name="zigzag", machine="32x32 TPU-like array", packages=("zigzag-dse==3.9.1", "six")),
    )
}


def shapes(network: Network) -> list[dict[str, Any]]:
    """Shapes of a network's convolutions and linear layers, in order, as JSON can hold them.

    Returns
    -------
    list of dict
        ``name``; ``depthwise``; ``inputs`` and ``outputs``: channels; ``kernel`` and ``stride``: rows, columns;
        ``padded``: rows and columns of the input with its padding; ``positions``: rows and columns of the output. A
        linear layer is a convolution of a map of one position.
    """
    tensors = network.tensors()
    found = []
    for layer in network.layers:
        if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
            continue
        height, width, channels = tensors[layer.inputs[0]].shape
        outputs, rows, columns, _ = layer.weight.shape
        stride, pads = ((1, 1), (0, 0, 0, 0)) if isinstance(layer, Linear) else (layer.stride, layer.pads)
        found.append(
            {
                "name": layer.name,
                "depthwise": isinstance(layer, DepthwiseConv2D),
                "inputs": channels,
                "outputs": outputs,
                "kernel": [rows, columns],
                "stride": list(stride),
                "padded": [height + pads[0] + pads[1], width + pads[2] + pads[3]],
                "positions": list(layer.output.shape[:2]),
            }
        )
    return found


def _run(command: list[str], what: str, **options: Any) -> None:
    done = run(command, stdout=PIPE, stderr=PIPE, text=True, **options)
    if done.returncode:
        last = " / ".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
        raise RuntimeError(f"{what} failed with exit code {done.returncode}: {last}")


def _environment(peer: Peer, root: Path) -> Path:
    """The Python of an environment that holds the peer, made if it isn't there."""
    folder = root / "peers" / peer.name
    python, stamp = folder / "bin" / "python", folder / "packages.json"
    packages = json.dumps(peer.packages)
    if not stamp.exists() or stamp.read_text() != packages:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], f"making an environment for {peer.name}")
        _run([str(python), "-m", "pip", "install", "--quiet", *peer.packages], f"installing {peer.name}")
        stamp.write_text(packages)
    return python


def measure(peer: Peer, network: Network, root: Path) -> dict[str, Any]:
    """Model a network's layers with a peer.

    Parameters
    ----------
    root : Path
        Its environment is kept below.

    Returns
    -------
    dict
        ``peer``, ``machine``, ``packages``, ``cycles`` that it says its machine takes for one image, ``seconds`` it
        needed, ``cycles_per_second``.

    Raises
    ------
    RuntimeError
        When it can't be installed or fails; the message says what it said.
    """
    python = _environment(peer, root)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        _run(
            [str(python), str(_DRIVERS / f"{peer.name}_driver.py"), str(answer)],
            peer.name,
            given=json.dumps(shapes(network)),
            cwd=folder,
        )
        found = json.loads(answer.read_text())
    return {
        "peer": peer.name,
        "machine": peer.machine,
        "packages": list(peer.packages),
        **found,
        "cycles_per_second": found["cycles"] / found["seconds"],
    }
