import numpy as np
import pytest

from models.attacks import integer_score
from models.attacks.score import margins
from models.compression.quantize import encode
from models.integer import golden


def test_a_positive_margin_is_a_wrong_answer():
    rng = np.random.default_rng(0)
    logits, labels = rng.integers(-2, 3, (500, 4)), rng.integers(0, 4, 500)
    np.testing.assert_array_equal(margins(logits, labels) > 0, logits.argmax(axis=1) != labels)
    assert margins(np.array([[7, 3, 5]]), np.array([0])) == -2.5
    assert margins(np.array([[7, 3, 5]]), np.array([2])) == 2.5


@pytest.mark.parametrize("head", [None, 0, 1])
def test_scores_are_those_of_the_head_that_answers(compressed, some, head):
    result = golden.run(compressed.network, encode(some.images, compressed.network), keep=False)
    classes = result.classes if head is None else result.logits[head].argmax(axis=1)
    score = integer_score(compressed.network, head=head)(some.images, some.labels)
    np.testing.assert_array_equal(score > 0, classes != some.labels)


def test_an_unknown_head_is_refused(compressed):
    with pytest.raises(ValueError, match="head must be one of digits's 2 exits, not 2"):
        integer_score(compressed.network, head=2)
