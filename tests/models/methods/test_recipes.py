"""The methods' pieces by name in recipes' files, and what files may not ask for."""

import numpy as np
import pytest

from hw.network.network import Conv2D
from models.recipes import pipeline
from models.recipes.recipe import FOLDER, check, load

TERNARY = """
name = "quick"
data = "digits"
levels = "ternary"
train_images = 300
[architecture]
kind = "enresnet"
widths = [4, 6, 8]
members = 2
[[train]]
epochs = 1
lr = 0.01
pieces = [{kind = "feedback", target = 0.3, round_epochs = 1, probed = 200, draws = 1}]
[[compress]]
epochs = 2
lr = 0.01
pieces = [
  {kind = "greedy-pruning", compression = 2.0, eps = 0.1, step = 0.05, steps = 2},
  {kind = "binary-relax"},
  {kind = "adversarial-loss", eps = 0.1, clean = 0.5, adversarial = 0.5},
]
[quantize]
epochs = 1
lr = 0.001
"""


def written(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["binary-relax", "dnr", "feedback", "gap"])
def test_every_method_has_a_recipe(name):
    found = load(FOLDER / f"{name}.toml")
    check(found)
    assert found.name == name


@pytest.mark.slow
def test_a_pruned_ternary_ensemble_by_recipe(tmp_path, digits):
    chosen = load(written(tmp_path, TERNARY))
    check(chosen)
    trained = pipeline.train(chosen, digits)
    found = pipeline.compress(chosen, trained, digits)
    assert found.metrics["density"] < 0.5
    layers = [layer for layer in found.network.layers if isinstance(layer, Conv2D)]
    assert layers[0].weight.shape[0] == 8  # two members' channels
    for layer in layers:
        for row in layer.weight.astype(int):
            assert len(set(np.abs(row).ravel().tolist()) - {0}) <= 1, layer.name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('levels = "ternary"', 'levels = "octal"', "levels must be one of binary, ternary, 4bit, not 'octal'"),
        ('levels = "ternary"', 'levels = "4bit"', "levels 4bit need a binary-relax piece of that kind"),
        ('{kind = "binary-relax"},', "", "levels ternary need a binary-relax piece of that kind"),
        ("compression = 2.0", "compression = 0.5", r"compression must be at least 1, not 0\.5"),
        ("compression = 2.0", "compression = 900.0", "compression must be below .* for this network, not 900"),
        ("target = 0.3", "target = 0.0", "target of feedback must be positive, not 0"),
        ("clean = 0.5", "clean = 0.0", "weight of clean images must be positive, not 0"),
        ('{kind = "binary-relax"}', '{kind = "binary-relax", eta = 0}', "eta must be positive, not 0"),
        ('{kind = "binary-relax"}', '{kind = "binary-relax"}, {kind = "rewiring", density = 2.0}', "density must be"),
        ('{kind = "binary-relax"}', '{kind = "binary-relax"}, {kind = "dynamic-l2", rho = 0}', "rho must be positive"),
        ("members = 2", "members = 0", "members must be a whole number from 1 to 64, not 0"),
    ],
)
def test_what_is_impossible_is_refused_before_anything_starts(tmp_path, old, new, message):
    assert old in TERNARY
    with pytest.raises(ValueError, match=message):
        check(load(written(tmp_path, TERNARY.replace(old, new))))
