import numpy as np
import pytest

from hw.network.selection import Select
from models.attacks.suite import Strength, robustness
from models.compression.quantize import encode
from models.integer import golden
from models.networks.winners import Winners
from offramp.replications.jpnet import with_counts

WEAK = Strength(steps=5, queries=20, samples=(10, 10))


def test_the_worst_is_below_every_attack(compressed, some):
    reports, few = [], some.take(40)
    found = robustness(
        compressed.network, few, eps=0.08, strength=WEAK, progress=lambda *report: reports.append(report)
    )  # fmt: skip
    clean = golden.run(compressed.network, encode(few.images, compressed.network), keep=False).accuracy(few.labels)
    assert found["clean"] == clean
    assert found.keys() == {"clean", "pgd", "apgd", "apgd_dlr", "square", "pgd_joint", "evolution", "worst"}
    assert all(found["worst"] <= found[name] for name in found)
    assert found["worst"] < found["square"]
    assert [report[:2] for report in reports] == [(n, 6) for n in range(1, 7)]


def test_winners_are_attacked_through_every_gradient_and_from_their_parent(compressed, some):
    network = with_counts(compressed.network, 0.2, ["early.second.conv", "late.second.conv"])
    count = Winners("elements", 0.2).select((8, 8, 8))
    assert network.layer("early.second.conv").select == count == Select(kind="elements", count=103)
    found = robustness(network, some.take(40), eps=0.08, parent=compressed.network, strength=WEAK)
    assert {"pgd", "pgd_winners", "pgd_soft", "transfer", "evolution"} <= found.keys()
    assert np.isclose(min(found.values()), found["worst"])


def test_wrong_requests(compressed, some):
    with pytest.raises(ValueError, match="robustness needs at least 1 image, not 0"):
        robustness(compressed.network, some.take(0), eps=0.1)
    with pytest.raises(ValueError, match="queries must be at least 1, not 0"):
        Strength(queries=0)
