import pytest

from models.recipe import check, load
from tests.models.test_recipe import LEAST, written

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
