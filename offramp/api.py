"""What a script or a notebook needs: from a network to its cycles and its bitstream. ``docs/python.md`` shows it.

Images are floating-point arrays (N, height, width, channels) in 0..1, or the int8 codes that a network takes.
"""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.export import ExportedProgram

from fpga.boards import BAUD, CLOCKS_MHZ
from fpga.boards import board as board_of
from fpga.flow.build import BuildReport
from fpga.flow.build import build as build_bitstream
from hw.compiler.compile import compile_balanced
from hw.config import AcceleratorConfig, preset
from hw.network.network import Network
from hw.network.network_file import load as load_network
from hw.program.program import Program
from hw.rules import require, shown, text
from models import zoo
from models.compression.calibration import calibrate
from models.compression.quantize import encode, images_of
from models.compression.range_rules import Ranges
from models.integer import golden
from models.integer.activity import activity
from models.integer.exit_calibration import calibrate_each, check_labels, with_exit_thresholds
from models.recipes.checkpoint import load_compressed
from offramp.arguments import array, codes, number, of_kind, whole
from offramp.files.cache_folder import cache_root
from offramp.files.kinds import expect, kind_of
from offramp.files.program_files import program as load_program
from offramp.rtl import run as rtl
from offramp.terminal.options import MOST_SEED
from sim import Simulation
from sim import simulate as time_images

__all__ = ["build", "compile", "load", "quantize", "simulate", "verify"]

#: What a program is, in words.
_PROGRAM = "a program (offramp.compile, offramp.load)"


def load(path: str | Path) -> Network | Program:
    """A network or a program.

    Parameters
    ----------
    path : str or Path
        A program's file, a compressed or an integer network's, ``zoo:NAME`` (the integer network) or
        ``zoo:NAME@CONFIG`` (its program).

    Raises
    ------
    ValueError
        When it can't be read or is neither.
    """
    of_kind(path, (str, Path), "path", "a file's name or zoo:NAME")
    kind = kind_of(Path(path))
    if kind == "program":
        return load_program(Path(path))
    if kind == "network of the zoo":
        found = zoo.entry(str(path))
        return zoo.part(found, zoo.load(found))[0]
    if kind == "compressed":
        return load_compressed(Path(path)).network
    expect(Path(path), "network")
    return load_network(Path(path)).network


def quantize(
    module: nn.Module | ExportedProgram,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    name: str = "network",
    ranges: Ranges = "minmax",
    exit_loss: float = 0.005,
) -> Network:
    """The integer network of a PyTorch module, by calibration alone.

    Parameters
    ----------
    module : Module or ExportedProgram
        Of any style (:func:`models.compression.calibration.calibrate`); it isn't changed.
    images : array of float, (N, height, width, channels)
        In 0..1; they set the ranges of activations.
    labels : array of int, (N,), optional
        Of the images. With them, thresholds of early exits are chosen; without, no early exit is taken.
    ranges : str
        How far the codes of a map reach: ``minmax``, ``percentile`` or ``mse`` (:mod:`models.compression.ranges`).
    exit_loss : float
        Accuracy on these images that early exits may cost, 0..1.

    Raises
    ------
    ValueError
        When the network can't run on the accelerator, or images or labels aren't as above.
    """
    of_kind(module, (nn.Module, ExportedProgram), "module", "a torch.nn.Module or an ExportedProgram")
    require(text(name), f"name must be a text of characters that can be printed, not {shown(name)}")
    images, exit_loss = images_of(array(images, "images")), number(exit_loss, 0, 1, "exit_loss")
    classes = None if labels is None else array(labels, "labels")
    if classes is not None:
        check_labels(classes, len(images))
    network = calibrate(module, images, name, ranges=ranges).network
    if classes is None:
        return network
    check_labels(classes, len(images), network.classes)
    if len(network.exits) == 1:
        return network
    logits = golden.run(network, encode(images, network), keep=False).logits
    return with_exit_thresholds(network, *calibrate_each(logits, classes, exit_loss))


def compile(network: Network, config: str | AcceleratorConfig = "single", images: np.ndarray | None = None) -> Program:
    """The program of an integer network.

    Parameters
    ----------
    config : str or AcceleratorConfig
        A preset, also with other sizes (``base-85f,lanes=2``), or a config.
    images : array, optional
        With them, channels are dealt to the PEs by how often they are active.

    Raises
    ------
    ValueError
        When the network doesn't fit the config; the message names the layer or memory.
    """
    of_kind(network, Network, "network", "an integer network (offramp.quantize, offramp.load)")
    shares = {} if images is None else activity(network, codes(images, network))
    return compile_balanced(network, _config(config), shares)


def simulate(program: Program, images: np.ndarray) -> Simulation:
    """Exact cycles of a program on images, layer by layer, and the exits that they take.

    Raises
    ------
    ValueError
        When the images aren't what the network takes.
    """
    of_kind(program, Program, "program", _PROGRAM)
    return time_images(program, codes(images, program.network))


def verify(program: Program, images: np.ndarray, *, simulator: str = "verilator", seed: int = 0) -> dict[str, Any]:
    """Run images on the RTL and compare values and cycles with golden model and simulator.

    Returns
    -------
    dict
        ``values_equal``, ``cycles_equal`` and more, as :func:`offramp.rtl.run.verify` says.

    Raises
    ------
    ValueError
        When an argument is of another kind, there is no image, or ``simulator`` (verilator, icarus) isn't there.
    """
    of_kind(program, Program, "program", _PROGRAM)
    seed = whole(seed, 0, MOST_SEED, "seed")
    return rtl.verify([(program, codes(images, program.network))], simulator=simulator, seed=seed)


def build(
    config: str | AcceleratorConfig = "single",
    board: str = "ulx3s-25f",
    *,
    clock_mhz: float = 50.0,
    baud: int = BAUD,
    link: str = "serial",
    seed: int = 0,
) -> BuildReport:
    """The bitstream of a config with its link to the host, from the cache if it was built before.

    Parameters
    ----------
    config : str or AcceleratorConfig
        As for :func:`compile`.
    board : str
        One of :data:`fpga.boards.BOARDS`.
    clock_mhz : float
        Clock of the accelerator, which the bitstream's PLL makes.
    baud : int
        Bits per second of a serial link.
    link : str
        One of :data:`fpga.boards.LINKS`, that the board has.
    seed : int
        Of placement and routing.

    Raises
    ------
    ValueError
        When config, board or link are unknown, the board doesn't have the link, or the PLL can't make the clock, or the
        clock the baud rate.
    ModuleNotFoundError
        When the tools, or for USB its gateware, aren't installed.
    BuildError
        When the device is too small or a tool fails.
    """
    of_kind(board, str, "board", "a board's name")
    clock_mhz, seed = number(clock_mhz, *CLOCKS_MHZ, "clock_mhz"), whole(seed, 0, MOST_SEED, "seed")
    builds = cache_root() / "fpga"
    options: dict[str, Any] = {"clock_mhz": clock_mhz, "baud": baud, "link": link, "seed": seed}
    return build_bitstream(_config(config), board_of(board), builds, **options)


def _config(config: str | AcceleratorConfig) -> AcceleratorConfig:
    of_kind(config, (str, AcceleratorConfig), "config", "a preset's name or an AcceleratorConfig")
    return preset(config) if isinstance(config, str) else config
