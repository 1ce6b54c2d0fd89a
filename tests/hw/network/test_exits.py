import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import Conditions, Decisions, draws
from hw.network.network import INPUT, Network
from models.integer import golden
from tests.hw.machine import Machine
from tests.random_networks import NetworkMaker


def test_of_256_seeds_each_draw_comes_once():
    for first in (0, 256, 65280):
        assert sorted(draws(np.arange(first, first + 256)).tolist()) == list(range(256))


def test_a_draw_is_that_of_a_shift_register():
    state = 0xACE1
    for _ in range(24):
        state = (state >> 1) ^ (0xB400 if state & 1 else 0)
    assert draws(np.array([0xACE1])).tolist() == [state & 0xFF]


@pytest.mark.parametrize(
    ("field", "value", "largest"), [("deadline", 1 << 32, (1 << 32) - 1), ("audit", 257, 256), ("seed", -1, 65535)]
)
def test_conditions_out_of_range_are_refused(field, value, largest):
    with pytest.raises(ValueError, match=rf"^{field} must be in 0\.\.{largest}, not {value}$"):
        Conditions(**{field: value})


def test_seeds_count_up_and_wrap():
    conditions = Conditions(seed=65535, audit=3, deadline=7)
    assert conditions.options(0) == {"deadline": 7, "audit": 3, "seed": 65535}
    assert conditions.options(1)["seed"] == 0
    assert conditions.from_run(3) == Conditions(seed=2, audit=3, deadline=7)
    assert conditions.from_run(3).options(1) == conditions.options(4)
    audited = Decisions(256, Conditions(audit=40, seed=512))
    heads = golden_heads(256)
    audited.branch(0, heads[0].exits[0], heads[1], heads[2], np.zeros(256, dtype=bool))
    assert audited.passed.sum() == 40


def golden_heads(count: int) -> tuple[Network, np.ndarray, np.ndarray]:
    """A network of three exits, and a head of which every image would leave."""
    network = three_exits()
    return network, np.zeros(count, dtype=np.int64), np.full(count, (1 << 32) - 1)


def three_exits(seed: int = 4) -> Network:
    """Three heads, whose thresholds and ranges are margins of random images."""
    maker = NetworkMaker(np.random.default_rng(seed), (3, 3, 2))
    here = maker.conv(INPUT, 6, (3, 3), pads=(1, 1, 1, 1), density=0.7)
    for threshold in (0, 0, None):
        maker.head(here, 4, threshold)
        here = maker.conv(here, 6, (3, 3), pads=(1, 1, 1, 1), density=0.5) if threshold is not None else here
    network = maker.network("three")
    margins = np.sort(golden.run(network, images(network)).margins, axis=0)
    description = network.to_dict()
    for number, head in enumerate(description["exits"]):
        head |= {"low": int(margins[2, number]), "high": int(margins[-3, number])}
        if head["threshold"] is not None:
            head["threshold"] = int(margins[len(margins) // 2, number])
    return Network.from_dict(description, dict(network.arrays()))


def images(network: Network) -> np.ndarray:
    return np.random.default_rng(9).integers(-128, 128, (8, *network.input.shape)).astype(np.int8)


@pytest.fixture(scope="module")
def ready() -> tuple[Network, np.ndarray, golden.Result, Machine]:
    """The network, images, their values, and a machine with its program."""
    network, config = three_exits(), preset("tiny").replace(accumulator_bits=32)
    codes = images(network)
    return network, codes, golden.run(network, codes), Machine(compile_network(network, config).images, config)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("audited", [False, True])
@pytest.mark.parametrize("expired", [None, 0, 1])
def test_decisions_equal_those_of_the_accelerator_in_plain_python(ready, constant, audited, expired):
    network, codes, found, machine = ready
    decisions = Decisions(len(codes), Conditions(audit=256 * audited, constant=constant))
    for number, head in enumerate(network.exits):
        labels, margins = found.logits[number].argmax(axis=1), found.margins[:, number]
        if head.threshold is None:
            decisions.stop(number, head, labels, margins)
        else:
            late = np.full(len(codes), expired is not None and number >= expired)
            decisions.branch(number, head, labels, margins, late)
    assert not decisions.running.any()
    for number, image in enumerate(codes):
        ran = machine.run(image, audited=audited, constant=constant, expired=expired)
        early_exit, early_label = ran.early or (0, 0)
        assert decisions.result(number) == {
            "exit": ran.exit,
            "label": ran.label,
            "margin": ran.margin,
            "early_exit": early_exit,
            "early_label": early_label,
            "out_of_range": ran.out_of_range,
            "forced": ran.forced,
            "passed": ran.early is not None,
            "differs": ran.differs,
            "overrun": 0,
        }
    counts = decisions.counts()
    assert list(counts) == ["forced", "passed", "differs", "out_of_range", "overrun"]
    runs = [decisions.result(number) for number in range(len(codes))]
    assert counts == {name: sum(run[name] for run in runs) for name in counts}
    if expired is None and not audited and not constant:
        np.testing.assert_array_equal(decisions.exit, found.exit_index)
        np.testing.assert_array_equal(decisions.label, found.classes)
        assert set(found.exit_index.tolist()) == {0, 1, 2}
        assert 0 < decisions.out_of_range.sum() < len(codes)
