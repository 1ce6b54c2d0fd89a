"""Files with something changed and right checksums: each is refused in one sentence, or works to its end.

``make fuzz`` tries 10,000 of each kind and records what came of them; ``OFFRAMP_FUZZ_SEED`` sets another seed.
"""

import copy
import gzip
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hw import container
from hw.arrays import read_npy
from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.program.program import MAGIC, VERSION, load
from models import zoo
from models.compression.product_pruning import ProductPruning
from models.datasets import splits
from models.datasets.sources import cifar10_batch, idx
from models.frontends.onnx import reader as onnx_reader
from models.frontends.pytorch.merge import lowered
from models.frontends.quantized.program_file import read_program
from models.frontends.quantized.reader import import_quantized
from models.frontends.tflite import reader as tflite_reader
from models.integer import golden
from models.methods.binary_relax import BinaryRelax
from models.methods.boundary import Probe
from models.methods.exit_losses import DynamicExitLoss
from models.methods.feedback import Feedback
from models.networks.architectures import from_dict, initial
from models.networks.resnet8 import official_state
from models.recipes import checkpoint, recipe
from models.training.hyperparameters import Schedule
from models.training.pieces import Piece, Run
from models.training.standard_pieces import AdversarialExamples
from models.training.train import fit
from offramp.files import inspect as files
from offramp.report.tables.contents import contents
from offramp.terminal.errors import sentence
from sim import simulate
from tests.fuzzing import changed_array, changed_bytes, changed_image, changed_text, changed_tree
from tests.models.frontends.onnx import onnx_models
from tests.models.frontends.quantized.quantized_programs import Quantized, two_layers
from tests.models.frontends.tflite.tflite_changes import changed_graph, tflite_builders
from tests.models.networks.test_resnet8 import official_arrays
from tests.random_networks import random_codes, random_network

SEED = int(os.environ.get("OFFRAMP_FUZZ_SEED", "0"))
COUNTS = [300, pytest.param(10_000, marks=pytest.mark.slow)]
_CHECKPOINT = b"OFFRCKPT", 3
_PROGRESS = b"OFFRPART", 1

#: Recipes of small networks; what they say, a network that is made to check it takes a few hundredths of a second.
RECIPES = [
    """name = "small"
data = "digits"
config = "tiny,cores=2"
exit_loss = 0.01
train_images = 100
[architecture]
kind = "residual"
widths = [2, 4]
branch_width = 2
[[train]]
epochs = 2
lr = 0.1
batch = 16
optimizer = "sgd"
policy = "steps"
milestones = [0.5, 0.75]
pieces = [{kind = "cross-entropy", ramp = true}, {kind = "adversarial", eps = "8/255", steps = 2, share = 0.5}]
[[compress]]
name = "prune"
epochs = 2
lr = 0.1
shift = 1
pieces = [{kind = "magnitude-pruning", density = 0.5, least = {"stem.conv.weight" = 0.6}}, {kind = "zeros"}]
[[compress]]
name = "winners"
epochs = 2
lr = 0.1
pieces = [{kind = "winners", select = "elements", rates = {"late.first.conv" = 0.5}}, {kind = "ramped-exits"}]
[quantize]
epochs = 1
lr = 0.1
pieces = [{kind = "distillation", weight = 0.5, temperature = 2.0}, {kind = "validation"}]
[[integer]]
kind = "thresholds"
densities = {"late.first.conv" = 0.5}
""",
    """name = "levels"
data = "digits"
levels = "ternary"
[architecture]
kind = "resnet8"
widths = [2, 4, 4]
exits = [1]
exit_widths = [0]
[[train]]
epochs = 2
lr = 0.1
pieces = [{kind = "gradual-pruning", densities = {"stem.conv.weight" = 0.5}, end = 0.5}]
[[compress]]
epochs = 2
lr = 0.1
pieces = [{kind = "binary-relax", levels = "ternary", eta = 1.0, growth = 1.05}, {kind = "dynamic-l2", rho = 1e-4}]
[quantize]
epochs = 1
lr = 0.1
pieces = [{kind = "activation-penalty", weight = 0.1}, {kind = "product-pruning", share = 0.5, interval = 8}]
""",
]

#: Makes a changed file at a path; returns what was done.
Maker = Callable[[Path, np.random.Generator], str]


@cache
def program_files() -> list[tuple[dict, dict[str, np.ndarray]]]:
    """Manifests and arrays of small programs."""
    small = preset("tiny").replace(accumulator_bits=32)
    streamed = AcceleratorConfig(
        cores=2, pes=4, list_words=128, accumulators=128, activation_words=128, loader=1, accumulator_bits=32
    )
    found = []
    for seed, config in ((3, small), (4, small.replace(cores=2)), (3, streamed)):
        program = compile_network(random_network(seed, size=5), config)
        found.append((program.manifest(), program.arrays()))
    return found


@cache
def checkpoint_files(folder: Path) -> list[tuple[dict, dict[str, np.ndarray]]]:
    """The same of a trained network and of a compressed one."""
    architectures = [
        {"kind": "residual", "widths": [2, 4], "branch_width": 2},
        {"kind": "resnet8", "widths": [2, 4, 4], "exits": [1], "exit_widths": [2]},
        {"kind": "enresnet", "widths": [2, 4, 4]},
    ]
    found = [container.read(zoo.FOLDER / "digits.off", *_CHECKPOINT)]
    for described in architectures:
        model = initial(from_dict({**described, "shape": [8, 8, 1], "classes": 10}), 0)
        path = folder / "whole"
        checkpoint.save(path, checkpoint.Checkpoint.of(model, data="digits", seed=1, metrics={"float_final": 0.5}))
        found.append(container.read(path, *_CHECKPOINT))
    return found


def change_program(path: Path, rng: np.random.Generator) -> str:
    """A program with its images, its arrays or its description changed."""
    manifest, arrays = program_files()[rng.integers(len(program_files()))]
    kind = rng.random()
    if kind < 0.5:
        images = {name: array for name, array in arrays.items() if name.startswith("images/")}
        changed, text = changed_image(images, rng)
        arrays = arrays | changed
    elif kind < 0.7:
        arrays, text = changed_array(arrays, rng)
    else:
        manifest, text = changed_tree(manifest, rng)
    container.write(path, MAGIC, VERSION, manifest, arrays)
    return text


def use_program(path: Path) -> None:
    """What commands do with a program."""
    program = load(path)
    contents(files.program_dict(program))
    program.writes()
    simulate(program, random_codes(program.network, 1, 0))


def change_checkpoint(path: Path, rng: np.random.Generator) -> str:
    """A network's file with its arrays or its description changed."""
    whole = checkpoint_files(path.parent)
    manifest, arrays = whole[rng.integers(len(whole))]
    if rng.random() < 0.4:
        arrays, text = changed_array(arrays, rng)
    else:
        manifest, text = changed_tree(manifest, rng)
    container.write(path, *_CHECKPOINT, manifest, arrays)
    return text


def use_checkpoint(path: Path) -> None:
    """What commands do with a network's file."""
    contents(files.describe(path))
    if checkpoint.stage_of(path) == "trained":
        checkpoint.load(path).model()
    else:
        checkpoint.save_compressed(path, checkpoint.load_compressed(path))


def change_recipe(path: Path, rng: np.random.Generator) -> str:
    """A recipe with one thing changed."""
    text, what = changed_text(RECIPES[rng.integers(len(RECIPES))], rng)
    path.write_text(text, encoding="utf-8")
    return what


@cache
def graphs() -> dict[tuple[str, str, tuple[int, ...]], Any]:
    """Graphs of untrained networks, by what these are made of: most changes leave the architecture alone."""
    return {}


def lowered_once(model: torch.nn.Module, shape: tuple[int, int, int]) -> Any:
    """The graph of a network, lowered when the first one like it comes."""
    key = repr(model.architecture), str(model), shape
    if key not in graphs():
        graphs()[key] = lowered(model, shape)
    return copy.deepcopy(graphs()[key])


def use_recipe(path: Path) -> None:
    """What commands do with a recipe before anything starts."""
    found = recipe.load(path)
    found.digest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "lowered", lowered_once)
        recipe.check(found)


@cache
def tflite_files() -> list[bytes]:
    """The files."""
    return [b.finish(b.inputs, b.outputs) for b in tflite_builders()]


def change_tflite(path: Path, rng: np.random.Generator) -> str:
    """A TFLite file with some bytes changed, or with an operator or a tensor that says something else."""
    number = int(rng.integers(len(tflite_files())))
    if rng.random() < 0.5:
        data, text = changed_bytes(tflite_files()[number], rng)
    else:
        b = copy.deepcopy(tflite_builders()[number])
        text = changed_graph(b, rng)
        data = b.finish(b.inputs, b.outputs)
    path.write_bytes(data)
    return text


def change_onnx(path: Path, rng: np.random.Generator) -> str:
    """An ONNX file with some bytes changed."""
    whole = onnx_models.two_files()
    data, text = changed_bytes(whole[rng.integers(len(whole))], rng)
    path.write_bytes(data)
    return text


def use_onnx(path: Path) -> None:
    """Read, and executed."""
    found = onnx_reader.read(path)
    height, width, channels = found.program.shape
    found(torch.rand(2, channels, height, width))


def use_tflite(path: Path) -> None:
    """Read, and executed."""
    network = tflite_reader.read(path)
    golden.run(network, random_codes(network, 1, 0))


@cache
def saved_program() -> dict[str, bytes]:
    """What a quantized program's file holds, by the entries' names."""
    file = io.BytesIO()
    torch.export.save(torch.export.export(Quantized(two_layers), (torch.zeros(1, 2, 4, 4),)), file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def change_pt2(path: Path, rng: np.random.Generator) -> str:
    """A program's file with its graph changed, or what is said of its tensors, or some bytes of any entry."""
    entries = dict(saved_program())
    names = sorted(entries)
    trees = [name for name in names if name.endswith(".json")]
    if rng.random() < 0.8:
        name = trees[rng.integers(len(trees))]
        tree, text = changed_tree(json.loads(entries[name]), rng)
        entries[name] = json.dumps(tree).encode()
    else:
        name = names[rng.integers(len(names))]
        entries[name], text = changed_bytes(entries[name], rng)
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in entries.items():
            archive.writestr(each, data)
    return f"{name}: {text}"


def use_pt2(path: Path) -> None:
    """Read, and executed."""
    network = import_quantized(read_program(path)).network
    golden.run(network, random_codes(network, 1, 0))


def change_npz(path: Path, rng: np.random.Generator) -> str:
    """A file of weights with an array changed, or some bytes."""
    whole = official_arrays()
    data = io.BytesIO()
    if rng.random() < 0.5:
        arrays, text = changed_array(whole, rng)
        np.savez(data, **arrays)
        path.write_bytes(data.getvalue())
    else:
        np.savez(data, **whole)
        changed, text = changed_bytes(data.getvalue(), rng)
        path.write_bytes(changed)
    return text


def use_npz(path: Path) -> None:
    """What a training does that starts from it."""
    for name, values in official_state(path).items():
        assert torch.isfinite(values).all(), name


@cache
def data_files() -> dict[str, bytes]:
    """A file of images as each data set has it, and an array."""
    images = np.arange(2 * 3 * 4, dtype=np.uint8)
    array = io.BytesIO()
    np.save(array, images.reshape(2, 3, 4))
    run = b"(" + b"K\x07" * 1000 + b"e"
    pixels = b"T" + (10_000 * 3072).to_bytes(4, "little") + bytes(10_000 * 3072)
    return {
        "idx": struct.pack(">4B3I", 0, 0, 8, 3, 2, 3, 4) + images.tobytes(),
        "npy": array.getvalue(),
        "cifar": b"}q\x01U\x06labelsq\x04]q\x05" + run * 10 + b"U\x04dataq\x06" + pixels,
    }


def change_data(path: Path, rng: np.random.Generator) -> str:
    """A file of one of the kinds; of CIFAR-10's, mostly zeros, the head."""
    kinds = list(data_files())
    kind = kinds[int(rng.choice(len(kinds), p=(0.48, 0.48, 0.04)))]
    whole = data_files()[kind]
    end = 25_000 if kind == "cifar" else len(whole)
    changed, text = changed_bytes(whole[:end], rng)
    path.write_bytes(kind.encode().ljust(8) + changed + whole[end:])
    return f"{kind}: {text}"


def use_data(path: Path) -> None:
    """Read as what its first letters say."""
    data = path.read_bytes()
    kind, body = data[:8].strip().decode(), data[8:]
    if kind == "idx":
        idx(gzip.compress(body))
    elif kind == "cifar":
        cifar10_batch(body)
    else:
        path.write_bytes(body)
        read_npy(path)


@cache
def runs() -> list[Callable[..., None]]:
    """Training runs of two epochs, each a function of its checkpoint and of more pieces; together with every optimizer
    and all pieces that keep something in a form that their first epoch makes."""
    few = splits.load("digits").train.take(36)
    described = {"kind": "residual", "widths": [2, 4], "branch_width": 2, "shape": [8, 8, 1], "classes": 10}
    makers: list[tuple[dict, Callable[[], list[Piece]]]] = [
        ({"policy": "one-cycle"}, lambda: [ProductPruning(0.5, end=1.0, interval=2), BinaryRelax()]),
        ({"policy": "steps", "optimizer": "sgd"}, lambda: [DynamicExitLoss(target=0.9), AdversarialExamples(eps=0.1)]),
        (
            {"policy": "cosine", "optimizer": "adadelta"},
            lambda: [Feedback(target=10.0, probed=36, settings=Probe(draws=1, steps=2))],
        ),
    ]

    def run(settings: dict, pieces: Callable[[], list[Piece]], path: Path, *more: Piece) -> None:
        model = initial(from_dict(described), 0)
        fit(
            model,
            few,
            Schedule(epochs=2, lr=0.01, batch=18, **settings),
            seed=0,
            pieces=[*pieces(), *more],
            checkpoint=path,
        )

    return [partial(run, *maker) for maker in makers]


class Ends(Piece):
    """Ends a run in its second epoch, as a signal would, when it is told to."""

    def __init__(self, ends: bool = False) -> None:
        self.ends = ends

    def before_epoch(self, run: Run) -> None:
        if self.ends and run.epoch == 1:
            raise InterruptedError


@cache
def progress_files(folder: Path) -> list[tuple[dict, dict[str, np.ndarray]]]:
    """What runs that were stopped in their second epoch leave."""
    path, found = folder / "progress", []
    for run in runs():
        with pytest.raises(InterruptedError):
            run(path, Ends(True))
        found.append(container.read(path, *_PROGRESS))
        path.unlink()
    return found


def change_progress(path: Path, rng: np.random.Generator) -> str:
    """The file of a run in progress with its arrays or its state changed."""
    whole = progress_files(path.parent)
    manifest, arrays = whole[rng.integers(len(whole))]
    if rng.random() < 0.4:
        arrays, text = changed_array(arrays, rng)
        changed = manifest
    else:
        changed, text = changed_tree(manifest, rng)
    container.write(path, *_PROGRESS, changed, arrays)
    return text


def use_progress(path: Path) -> None:
    """Go on to the end of the run whose file it is."""
    identities = [manifest["run"] for manifest, _ in progress_files(path.parent)]
    found = container.read(path, *_PROGRESS)[0].get("run")
    runs()[identities.index(found) if found in identities else 0](path, Ends())


KINDS: dict[str, tuple[Maker, Callable[[Path], None]]] = {
    "program": (change_program, use_program),
    "checkpoint": (change_checkpoint, use_checkpoint),
    "recipe": (change_recipe, use_recipe),
    "tflite": (change_tflite, use_tflite),
    "onnx": (change_onnx, use_onnx),
    "pt2": (change_pt2, use_pt2),
    "npz": (change_npz, use_npz),
    "progress": (change_progress, use_progress),
    "data": (change_data, use_data),
}


def failed(use: Callable[[Path], None], path: Path) -> Exception | None:
    """What using a file ends in."""
    try:
        use(path)
    except Exception as error:
        return error
    return None


def fuzz(kind: str, count: int, folder: Path, told: Callable[[int], None] = lambda number: None) -> int:
    """Try so many changed files of a kind; returns how many were refused, the others worked to their end.

    Raises
    ------
    AssertionError
        When one ends in anything else than a sentence; the message has its seed, and what was changed.
    """
    change, use = KINDS[kind]
    refused = 0
    for number in range(count):
        seed = (SEED, number)
        path = folder / "changed"
        what = change(path, np.random.default_rng(seed))
        failure = failed(use, path)
        if failure is not None:
            said = sentence(failure)
            assert said, f"seed {seed}, {what}: {type(failure).__name__}: {failure}"
            assert "\n" not in said
            refused += 1
        told(number)
    return refused


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", COUNTS)
def test_changed_files_are_refused_or_work(tmp_path, kind, count):
    refused = fuzz(kind, count, tmp_path)
    print(f"{kind}: {refused} of {count} refused, seed {SEED}")
    assert refused > count // 3
