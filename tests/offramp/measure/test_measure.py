import numpy as np
import pytest

from hw.network.exits import Conditions
from models.compression.quantize import encode
from models.integer import golden
from offramp.measure.measure import cycle_statistics, measure
from sim import worst_case


def test_statistics_are_values_that_occurred():
    cycles = np.arange(1, 201) ** 2
    assert cycle_statistics(cycles) == {"mean": float(cycles.mean()), "p50": 100**2, "p99": 198**2, "worst": 200**2}
    assert cycle_statistics(np.array([7])) == {"mean": 7.0, "p50": 7, "p99": 7, "worst": 7}


def test_measurement_agrees_with_golden_and_adds_up(small):
    split = small.source.test.take(60)
    seen = []
    found = measure(small.program, split.images, split.labels, progress=lambda *step: seen.append(step), text="t")
    result = golden.run(small.program.network, encode(split.images, small.program.network))
    summary = found.to_dict()
    assert summary["accuracy"] == result.accuracy(split.labels)
    np.testing.assert_array_equal(found.exit_index, result.exit_index)
    assert summary["exit_share"] == result.exit_share().tolist()
    each = found.per_image()
    assert each["class"] == result.classes.tolist()
    assert (each["label"], each["exit"]) == (split.labels.tolist(), result.exit_index.tolist())
    assert each["margin"] == [own[exit] for own, exit in zip(result.margins, result.exit_index, strict=True)]
    distribution = summary["distribution"]
    assert sorted(set(each["cycles"])) == distribution["cycles"]
    assert sum(distribution["images"]) == summary["images"] == 60
    weighted = np.dot(distribution["cycles"], distribution["images"]) / 60
    assert weighted == pytest.approx(summary["cycles"]["mean"])
    assert summary["cycles"]["worst"] == max(distribution["cycles"]) <= summary["cycles"]["bound"]
    assert summary["cycles"]["bound"] == worst_case(small.program)
    assert seen[-1] == (60, 60, "t")
    early = int((result.exit_index == 0).sum())
    assert 0 < early < 60
    assert {row["images"] for row in summary["layers"]} == {60, 60 - early}
    for row in summary["layers"]:
        # Every cycle of a layer is either spent on products or lost to a named cause.
        assert row["limit"] + sum(row["loss"].values()) == pytest.approx(row["cycles"])
        assert row["limit"] == pytest.approx(row["products"] / small.program.config.multipliers)
        assert row["jobs"] <= small.program.config.cores * row["cycles"]


@pytest.mark.parametrize("deadline", [0, 1, 1 << 20])
def test_the_bound_is_of_the_conditions(small, deadline):
    """In constant time all runs take as long as the bound, unless the deadline is too short for that."""
    split, whole = small.source.test.take(20), worst_case(small.program)
    timely = measure(small.program, split.images, split.labels, conditions=Conditions(deadline=deadline))
    assert timely.bound == worst_case(small.program, deadline=deadline) >= timely.cycles.max()
    steady = measure(small.program, split.images, split.labels, conditions=Conditions(deadline=deadline, constant=True))
    assert steady.bound == max(whole, deadline) >= steady.cycles.max()
    if deadline != 1:
        assert set(steady.cycles.tolist()) == {steady.bound}


@pytest.mark.parametrize(("images", "labels"), [(0, 0), (3, 2)])
def test_images_without_labels_are_refused(small, images, labels):
    split = small.source.test
    with pytest.raises(ValueError, match=rf"images must be at least one, .* not {images} with {labels}$"):
        measure(small.program, split.images[:images], split.labels[:labels])
