"""Files with something changed and right checksums: each is refused in one sentence, or works to its end.

``pytest tests/test_fuzz.py -m slow`` tries more of them; ``OFFRAMP_FUZZ_SEED`` sets another seed.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hw import container
from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.program.program import MAGIC, VERSION, load
from models import zoo
from models.networks.architectures import from_dict, initial
from models.recipes import checkpoint, recipe
from offramp import inspect as files
from offramp.errors import sentence
from sim import simulate
from tests.mutations import changed_array, changed_image, changed_text, changed_tree
from tests.random_networks import random_codes, random_network

SEED = int(os.environ.get("OFFRAMP_FUZZ_SEED", "0"))
COUNTS = [300, pytest.param(10_000, marks=pytest.mark.slow)]
_CHECKPOINT = b"OFFRCKPT", 3

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
    files.program_rows(program)
    files.program_dict(program)
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
    files.describe(path)
    if checkpoint.stage_of(path) == "trained":
        checkpoint.load(path).model()
    else:
        checkpoint.save_compressed(path, checkpoint.load_compressed(path))


def change_recipe(path: Path, rng: np.random.Generator) -> str:
    """A recipe with one thing changed."""
    text, what = changed_text(RECIPES[rng.integers(len(RECIPES))], rng)
    path.write_text(text, encoding="utf-8")
    return what


def use_recipe(path: Path) -> None:
    """What commands do with a recipe before anything starts."""
    found = recipe.load(path)
    found.digest()
    recipe.check(found)


KINDS: dict[str, tuple[Maker, Callable[[Path], None]]] = {
    "program": (change_program, use_program),
    "checkpoint": (change_checkpoint, use_checkpoint),
    "recipe": (change_recipe, use_recipe),
}


def failed(use: Callable[[Path], None], path: Path) -> Exception | None:
    """What using a file ends in."""
    try:
        use(path)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", COUNTS)
def test_changed_files_are_refused_or_work(tmp_path, kind, count):
    change, use = KINDS[kind]
    refused = 0
    for number in range(count):
        seed = (SEED, number)
        path = tmp_path / "changed"
        what = change(path, np.random.default_rng(seed))
        failure = failed(use, path)
        if failure is not None:
            said = sentence(failure)
            assert said, f"seed {seed}, {what}: {type(failure).__name__}: {failure}"
            assert "\n" not in said
            refused += 1
    print(f"{kind}: {refused} of {count} refused, seed {SEED}")
    assert refused > count // 3
