import pytest

from hw.network.exits import DEFAULT, Conditions
from offramp.measure.inputs import attack
from offramp.measure.simulation import measured, reach_curve, simulated, timeline_of


def test_pruning_and_exits_save_cycles(small):
    part = small.source.test.take(50)
    means = [
        measured(which, part.images, part.labels, attack("clean"), eps=0.0, seed=0)[1].cycles.mean()
        for which in (small.program, small.dense)
    ]
    assert means[0] < means[1]


def test_an_attack_of_growing_reach(small):
    """From the clean images on, with what is known already at the end."""
    part, kind = small.source.test.take(30), attack("fgsm")
    options = {"seed": 0, "conditions": DEFAULT}
    _, full = measured(small.program, part.images, part.labels, kind, eps=0.1, **options)
    found = reach_curve(small.program, part.images, part.labels, kind, eps=0.1, points=2, full=full, **options)
    assert [(each["eps"], each["images"]) for each in found] == [(0.0, 30), (0.05, 30), (0.1, 30)]
    _, clean = measured(small.program, part.images, part.labels, attack("clean"), eps=0.0, **options)
    for each, known in ((found[0], clean), (found[-1], full)):
        assert each["accuracy"] == known.right.mean()
        assert each["cycles"] == known.cycles.mean()
    assert found[0]["accuracy"] > found[-1]["accuracy"]


def test_the_timeline_of_an_image(small):
    part = small.source.test.take(6)
    conditions = Conditions(audit=128)
    _, found = measured(
        small.program, part.images, part.labels, attack("clean"), eps=0.0, seed=0, conditions=conditions
    )
    for image in range(6):
        times = timeline_of(small.program, part.images, image, conditions)
        assert max(each["end"] for each in times) == found.simulation.layer_ends[image].max()


def test_everything_asked_for_at_once(small):
    part = small.source.test.take(4)
    found = simulated(
        small.program, part.images, part.labels, attack("clean"), eps=0.0, seed=0, clock_mhz=40.0, curve=2, timeline=3
    )
    assert found["timeline_image"] == 3
    assert found["timeline"] == timeline_of(small.program, part.images, 3, DEFAULT)
    assert [each["eps"] for each in found["security"]] == [0.0, 0.0, 0.0]
    assert found["board"]["clock_mhz"] == 40.0
    assert found["thresholds"] == [head.threshold for head in small.program.network.exits[:-1]]


def test_an_image_that_there_is_not_has_no_timeline(small):
    part = small.source.test.take(4)
    with pytest.raises(ValueError, match=r"^--timeline must be in 0\.\.3, one of the images, not 4$"):
        simulated(small.program, part.images, part.labels, attack("clean"), eps=0.0, seed=0, clock_mhz=50.0, timeline=4)
