import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.compiler.memory.memory_plan import Placement, Request, excess, plan
from hw.config import AcceleratorConfig, preset
from hw.rules import ShortageError

#: Banks of 256 words.
SMALL = preset("tiny").replace(activation_words=256)
#: A second one of half as many.
UNEQUAL = SMALL.replace(second_bank_words=128)
EITHER = pytest.mark.parametrize("config", [SMALL, UNEQUAL], ids=["equal banks", "unequal banks"])


def request(name: str, words: int, first: int, last: int, *apart: str) -> Request:
    return Request(name=name, words=words, first=first, last=last, apart=frozenset(apart))


@st.composite
def networks(draw) -> list[Request]:
    """Tensors in the order in which they are written, some of them to be kept apart from an earlier one."""
    requests: list[Request] = []
    for number in range(draw(st.integers(1, 8))):
        live = [r.name for r in requests if r.last >= number]
        apart = draw(st.lists(st.sampled_from(live), max_size=1)) if live else []
        requests.append(
            request(
                f"t{number}",
                draw(st.integers(1, 200)),
                number,
                number + draw(st.integers(0, 3)),
                *apart,
            )
        )
    return requests


def outcome(requests: list[Request], config: AcceleratorConfig) -> dict[str, Placement] | str:
    """The plan, or why there is none."""
    try:
        return plan(requests, config)
    except ValueError as error:
        return str(error)


@EITHER
@given(networks())
def test_live_tensors_never_overlap_and_residuals_lie_apart(config, requests):
    places = outcome(requests, config)
    if isinstance(places, str):
        assert places.startswith("activation memory ")
        return
    assert excess(requests, config) == 0
    assert list(places) == [r.name for r in requests]
    for r in requests:
        place = places[r.name]
        assert 0 <= place.base <= (256, config.second_bank_words or 256)[place.bank] - r.words
        for other in requests:
            there = places[other.name]
            if other is r or not r.meets(other) or there.bank != place.bank:
                continue
            assert other.name not in r.apart
            assert place.base + r.words <= there.base or there.base + other.words <= place.base


@EITHER
@given(networks())
def test_the_plan_depends_on_nothing_else(config, requests):
    assert outcome(requests, config) == outcome(requests, config)


def test_memory_is_used_again_in_time():
    chain = [request(f"t{n}", 250, n, n + 1) for n in range(6)]
    places = plan(chain, SMALL)
    assert [places[f"t{n}"].bank for n in range(6)] in ([0, 1] * 3, [1, 0] * 3)
    assert all(place.base == 0 for place in places.values())


def test_a_gap_between_living_tensors_is_used():
    requests = [
        request("a", 100, 0, 0),
        request("b", 100, 0, 9),
        request("c", 200, 0, 9),
        request("d", 100, 1, 9),
    ]
    places = plan(requests, SMALL)
    assert places["a"] == places["d"] == Placement(0, 0)


def test_the_search_goes_back_where_the_first_choice_leads_nowhere():
    requests = [request("a", 100, 0, 2), request("b", 100, 1, 2), request("c", 200, 2, 2)]
    places = plan(requests, SMALL)
    assert places["a"].bank == places["b"].bank != places["c"].bank


def test_a_residual_lies_in_the_other_bank():
    places = plan([request("a", 10, 0, 2), request("b", 10, 1, 2, "a")], SMALL)
    assert places["a"].bank != places["b"].bank


@pytest.mark.parametrize(
    ("config", "requests", "message"),
    [
        (
            UNEQUAL,
            [request("image", 10, 0, 1), request("big", 300, 1, 2)],
            "activation memory has banks of 256 and 128 words; big alone needs 300, 44 too many",
        ),
        (
            UNEQUAL,
            [request("a", 200, 0, 2), request("b", 200, 1, 2)],
            "activation memory holds 384 words; a, b are needed together and take 400, 16 too many",
        ),
        (
            UNEQUAL,
            [request("a", 130, 0, 2), request("b", 130, 1, 2)],
            "activation memory has 2 banks of 256 and 128 words; no arrangement of this network's tensors "
            "fits them (the largest, a, needs 130)",
        ),
        (
            SMALL,
            [request("image", 10, 0, 1), request("big", 300, 1, 2)],
            "activation memory has banks of 256 words; big alone needs 300, 44 too many",
        ),
        (
            SMALL,
            [request("a", 200, 0, 2), request("b", 200, 1, 2), request("c", 120, 2, 2)],
            "activation memory holds 512 words; a, b, c are needed together and take 520, 8 too many",
        ),
        (
            SMALL,
            [request("a", 200, 0, 2), request("b", 150, 1, 2), request("c", 150, 2, 2)],
            "activation memory has 2 banks of 256 words; no arrangement of this network's tensors "
            "fits them (the largest, a, needs 200)",
        ),
        (
            SMALL,
            [request("a", 1, 0, 2), request("b", 1, 0, 2, "a"), request("c", 1, 0, 2, "a", "b")],
            "activation memory has 2 banks of 256 words; no arrangement of this network's tensors "
            "fits them (the largest, a, needs 1)",
        ),
    ],
    ids=[
        *("unequal: one tensor", "unequal: several tensors", "unequal: fragments"),
        *("one tensor", "several tensors", "fragments", "three apart"),
    ],
)
def test_what_does_not_fit_is_named_with_what_is_missing(config, requests, message):
    with pytest.raises(ShortageError, match=f"^{re.escape(message)}$") as caught:
        plan(requests, config)
    assert caught.value.words == int(re.search(r", (\d+) too many|$", message).group(1) or 1)


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([request("a", 256, 0, 1), request("b", 256, 1, 2), request("c", 256, 2, 2)], 0),
        ([request("a", 300, 0, 2)], 44),
        # Counted at both moments.
        ([request("a", 300, 0, 2), request("b", 10, 1, 2)], 44 + 44),
        ([request("a", 200, 0, 1), request("b", 200, 1, 1), request("c", 150, 1, 1)], 350 - 256),
        # a and b take a bank each: the third has to lie beside one of them.
        ([request("a", 100, 0, 1), request("b", 120, 1, 1, "a"), request("c", 200, 1, 1)], 100 + 200 - 256),
        ([request("a", 100, 0, 1), request("b", 120, 1, 1), request("c", 200, 1, 1)], 0),
        ([request(f"t{n}", 50, 0, 0) for n in range(12)], 600 - 512),
    ],
    ids=["in time", "alone", "alone, for long", "no order", "apart", "together", "many"],
)
def test_missing_words_are_those_of_the_best_order_at_each_moment(requests, words):
    assert excess(requests, SMALL) == words


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([request("a", 256, 0, 1), request("b", 128, 1, 1), request("c", 128, 2, 2)], 0),
        ([request("a", 130, 0, 1), request("b", 120, 0, 1, "a")], 0),
        ([request("a", 130, 0, 1), request("b", 140, 0, 1, "a")], 2),
        ([request("a", 200, 0, 1), request("b", 130, 1, 1)], 2),
        ([request(f"t{n}", 50, 0, 0) for n in range(12)], 600 - 384),
    ],
    ids=["in time", "apart", "too large for the second", "no order", "many"],
)
def test_missing_words_of_unequal_banks(requests, words):
    assert excess(requests, UNEQUAL) == words


def test_a_tensor_may_fill_what_is_free():
    places = plan([request("a", 256, 0, 1), request("b", 100, 1, 3), request("c", 156, 1, 3)], SMALL)
    assert (places["b"].bank, places["c"]) == (places["c"].bank, Placement(places["b"].bank, 100))
