import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.numerics import top2
from models.integer.exit_calibration import calibrate, curve, with_exit_thresholds


def logits(rng, count, labels, right):
    """Logits whose largest is the label's with some probability."""
    values = rng.integers(-50, 50, (count, 4))
    hit = rng.random(count) < right
    values[hit, labels[hit]] += rng.integers(0, 200, hit.sum())
    return values


def outcome(branch, final, labels, threshold):
    """Accuracy and exit share, image by image."""
    right = leaving = 0
    for early, late, label in zip(branch, final, labels, strict=True):
        first, second = sorted(early.tolist())[:-3:-1]
        out = first - second >= threshold
        leaving += out
        right += (early if out else late).tolist().index(max(early if out else late)) == label
    return right / len(labels), leaving / len(labels)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 40), loss=st.sampled_from([0.0, 0.05, 0.3]))
@settings(max_examples=60, deadline=None)
def test_against_counting(seed, count, loss):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    branch, final = logits(rng, count, labels, 0.7), logits(rng, count, labels, 0.9)
    found = curve(branch, final, labels)
    assert (np.diff(found.thresholds) > 0).all()
    for threshold, accuracy, share in zip(found.thresholds, found.accuracy, found.exit_share, strict=True):
        assert outcome(branch, final, labels, threshold) == pytest.approx((accuracy, share))
    assert found.exit_share[-1] == 0
    assert found.exit_share[0] == 1

    threshold = calibrate(branch, final, labels, loss)
    without = (top2(final)[0] == labels).mean()
    assert without == pytest.approx(found.accuracy[-1])
    larger = found.thresholds >= threshold
    assert (found.accuracy[larger] >= without - loss - 1e-9).all()
    smaller = found.thresholds[~larger]
    if smaller.size:
        assert outcome(branch, final, labels, smaller[-1])[0] < without - loss


def test_thinned_keeps_the_ends():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    found = curve(logits(rng, 500, labels, 0.7), logits(rng, 500, labels, 0.9), labels)
    thin = found.thinned(20)
    assert len(thin.thresholds) == 20
    assert thin.thresholds[[0, -1]].tolist() == found.thresholds[[0, -1]].tolist()
    assert thin.to_dict()["exit_share"][-1] == 0


def test_wrong_arrays():
    ok, labels = np.zeros((3, 4), np.int64), np.zeros(3, np.int64)
    with pytest.raises(ValueError, match=r"must be of the same images, at least one, not \(3, 4\), \(2, 4\)"):
        curve(ok, ok[:2], labels)
    with pytest.raises(ValueError, match="at least one"):
        curve(ok[:0], ok[:0], labels[:0])
    with pytest.raises(ValueError, match="final logits must be integers, not float64"):
        curve(ok, ok.astype(float), labels)
    for loss in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"loss must be in 0\.\.1, not {loss}"):
            calibrate(ok, ok, labels, loss)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 4]), r"labels must be in 0\.\.3, not 0\.\.4"),
        (np.array([0, -1, 3]), r"labels must be in 0\.\.3, not -1\.\.3"),
        (np.array([0, 1, 2**63], np.uint64), r"labels must be in 0\.\.3, not 0\.\.9223372036854775808"),
        (np.zeros(3), r"labels must be 3 integers, one an image, not float64 \(3,\)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, message):
    ok = np.zeros((3, 4), np.int64)
    with pytest.raises(ValueError, match=f"^{message}$"):
        curve(ok, ok, labels)


def test_with_thresholds(compressed):
    network = with_exit_thresholds(compressed.network, 12)
    assert [head.threshold for head in network.exits] == [12, None]
    assert network.layers == compressed.network.layers
    with pytest.raises(ValueError, match="digits: thresholds must be one for each of 1 early exits, not 2"):
        with_exit_thresholds(compressed.network, 1, 2)
