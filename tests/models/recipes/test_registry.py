import pytest
import torch

from models.compression import prune
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.recipes.recipe import check, load
from models.recipes.registry import PIECES, Context
from models.training.train import Schedule, fit
from tests.models.recipes.test_recipe import LEAST, written

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)
PIECE = '{kind = "magnitude-pruning", density = 0.5}'


@pytest.mark.parametrize(
    "piece",
    [
        '{kind = "winners", rates = {"late.first.conv" = 0.5}}',
        '{kind = "winners", select = "channels", annealed = true, rates = {"late.second.conv" = 0.5}}',
        '{kind = "swept-winners", drop = 0.03, images = 50}',
        '{kind = "iterative-pruning", density = 0.4, least = {"stem.conv.weight" = 0.7}, rounds = 2}',
        '{kind = "equalised-channels", images = 10}',
        '{kind = "ramped-exits"}',
        '{kind = "ramped-exits", costs = [0.4]}',
        '{kind = "dynamic-exits", target = 0.9}',
    ],
)
def test_pieces_of_the_activation_methods(tmp_path, piece):
    check(load(written(tmp_path, LEAST.replace(PIECE, piece))))


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (
            '{kind = "winners", rates = {"late" = 0.5}}',
            "winner rate of 'late': there is no convolution or linear layer",
        ),
        ('{kind = "winners", rates = {"late.first.conv" = 0.0}}', "winner rate must be above 0 and at most 1, not 0"),
        ('{kind = "winners", select = "rows", rates = {}}', "select must be one of elements, channels, not 'rows'"),
        ('{kind = "swept-winners", drop = 0.0}', "drop must be positive, not 0"),
        ('{kind = "iterative-pruning", density = 0.0}', "density must be above 0 and at most 1, not 0"),
        ('{kind = "ramped-exits", costs = [0.0]}', "costs of exits must be positive, not"),
        ('{kind = "dynamic-exits", target = 2.0}', "target must be an accuracy in 0..1, not 2"),
    ],
)
def test_impossible_settings(tmp_path, piece, message):
    with pytest.raises(ValueError, match=message):
        check(load(written(tmp_path, LEAST.replace(PIECE, piece))))


def test_winners_are_chosen_before_quantization(tmp_path):
    text = LEAST.replace("[[integer]]", 'pieces = [{kind = "swept-winners"}]\n[[integer]]')
    with pytest.raises(ValueError, match="winners must be given to the float network; quantization keeps them"):
        check(load(written(tmp_path, text)))


def made(piece, model):
    """The piece of a recipe's entry, for a network."""
    kind, settings = piece
    return PIECES[kind](Context(model=model, dataset=None, dense=model, stage="test"), **settings)


@pytest.mark.parametrize("piece", [("magnitude-pruning", {"density": 0.4}), ("zeros", {})], ids=lambda piece: piece[0])
def test_masks_of_what_a_stage_begins_with_hold_and_resume(digits, tmp_path, piece):
    """Stopped after the first of two epochs: the same places stay zero, and the weights are equal."""
    few = digits.train.take(200)

    class StopError(Exception):
        pass

    def stop(done, total, text):
        if "epoch 2/" in text:
            raise StopError

    def trained(path, progress=None):
        model = initial(ARCHITECTURE, 0)
        prune.apply(model, prune.masks(model, {"late.second.conv.weight": 0.3}))
        before = model.late.second.conv.weight.detach() != 0
        fit(
            model, few, Schedule(epochs=2, lr=0.01), seed=0, pieces=[made(piece, model)], checkpoint=path,
            progress=progress,
        )  # fmt: skip
        assert not ((model.late.second.conv.weight != 0) & ~before).any()
        return model

    whole = trained(None)
    with pytest.raises(StopError):
        trained(tmp_path / "a.off", stop)
    again = trained(tmp_path / "a.off")
    assert torch.equal(again.late.second.conv.weight, whole.late.second.conv.weight)
    if piece[0] == "magnitude-pruning":
        assert prune.density(whole) <= 0.4
    else:
        assert whole.early.first.conv.weight.all()
