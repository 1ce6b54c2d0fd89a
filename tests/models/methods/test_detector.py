from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import Conditions, draws
from models.attacks import branch_loss, pgd
from models.compression.quantize import encode
from models.integer import golden
from models.integer.surrogate import Surrogate
from models.methods.detector import auroc, confusion, decisions, flag_threshold, flags, with_ranges
from sim import simulate


def test_scores_of_two_heads():
    branch, final = np.array([[5, 0, 0], [5, 0, 0], [0, 0, 0]]), np.array([[9, 0, 0], [0, 5, 0], [0, 0, 0]])
    found = confusion(branch, final)
    assert found[2] == 0
    assert found[0] < 0.1
    assert found[1] == pytest.approx(2 * (np.exp(5) - 1) / (np.exp(5) + 2))
    assert confusion(branch * 1e6, final * 1e6)[1] == 2


def test_auroc_is_the_chance_of_a_higher_score():
    assert auroc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1.0
    assert auroc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 0.0
    assert auroc(np.array([1.0, 2.0]), np.array([2.0])) == 0.75
    rng = np.random.default_rng(0)
    clean, attacked = rng.integers(0, 5, 40), rng.integers(1, 7, 30)
    pairs = (attacked[:, None] > clean).mean() + 0.5 * (attacked[:, None] == clean).mean()
    assert auroc(clean, attacked) == pytest.approx(pairs)
    with pytest.raises(ValueError, match="a ROC curve needs clean and attacked images, not 2 and 0"):
        auroc(np.ones(2), np.empty(0))


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 1.0])
def test_few_clean_images_are_flagged(rate):
    rng = np.random.default_rng(0)
    for scores in (rng.normal(size=101), rng.integers(0, 2, 100).astype(float), np.zeros(7)):
        threshold = flag_threshold(scores, rate)
        assert (scores > threshold).mean() <= rate
        lower = scores[scores < threshold]
        if lower.size:
            assert (scores > lower.max()).mean() > rate or rate == 1.0
    with pytest.raises(ValueError, match="a flag's threshold needs at least 1 clean score, not 0"):
        flag_threshold(np.empty(0))
    with pytest.raises(ValueError, match=r"rate of false positives must be in 0\.\.1, not 2"):
        flag_threshold(np.ones(3), 2)


def test_ranges_let_most_clean_images_pass(compressed, digits):
    codes = encode(digits.validation.images, compressed.network)
    network = with_ranges(compressed.network, codes, 0.1)
    made = decisions(network, codes)
    for number in range(2):
        there = made.exit == number
        assert there.any()
        assert made.out_of_range[there].mean() <= 0.1
        tighter = replace(network.exits[number], low=network.exits[number].low + 1)
        assert (made.margin[there] < tighter.low).mean() > made.out_of_range[there].mean() / 2
    everything = with_ranges(compressed.network, codes, 0.0)
    assert not decisions(everything, codes).out_of_range.any()
    with pytest.raises(ValueError, match=r"rate of false positives must be in 0\.\.1, not -1"):
        with_ranges(compressed.network, codes, -1)


@pytest.mark.parametrize(
    "conditions", [Conditions(), Conditions(audit=64, seed=3), Conditions(constant=True), Conditions(audit=256)]
)
def test_decisions_are_the_accelerators(compressed, digits, conditions):
    """Against the simulator, which equals the hardware."""
    network = with_ranges(compressed.network, encode(digits.validation.images, compressed.network))
    codes = encode(digits.test.images[:60], network)
    made = decisions(network, codes, conditions)
    timed = simulate(compile_network(network, preset("tiny")), codes, conditions=conditions).decisions
    for number in range(len(codes)):
        assert made.result(number) == timed.result(number)
    assert flags(made).tolist() == (timed.out_of_range | timed.differs).tolist()


def test_the_hole_and_what_audits_see(compressed, digits):
    """An attack on the branch leaves early: without an audit, heads can't differ."""
    network, some = compressed.network, digits.test
    images = pgd(Surrogate(network), some.images, some.labels, eps=0.1, objective=branch_loss)
    codes = encode(images, network)
    plain, constant = decisions(network, codes), decisions(network, codes, Conditions(constant=True))
    early = plain.exit == 0
    assert (plain.label != some.labels)[early].mean() > 0.2  # wrong and early
    assert not plain.differs.any()
    assert constant.differs.sum() > 10
    np.testing.assert_array_equal(constant.differs[~early], False)
    audited = decisions(network, codes, Conditions(audit=64))
    drawn = draws(np.arange(len(codes))) < 64
    assert (audited.differs <= (drawn & early)).all()
    assert 0 < audited.differs.sum() < constant.differs.sum()
    with pytest.raises(ValueError, match="decisions with a deadline need cycles: deadline must be 0, not 5"):
        decisions(network, codes, Conditions(deadline=5))


def test_unaware_attacks_are_seen(compressed, digits):
    network, some = compressed.network, digits.test
    scales = [network.tensors()[head.logits].scale for head in network.exits]

    def score(images):
        logits = golden.run(network, encode(images, network), keep=False).logits
        return confusion(logits[0] * scales[0], logits[1] * scales[1])

    attacked = pgd(Surrogate(network), some.images, some.labels, eps=0.1, steps=20)
    assert auroc(score(some.images), score(attacked)) > 0.75
