import datetime
from dataclasses import dataclass

import pytest

from hw.typed import call, said


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: float
    count: int = 1
    name: str = "a"
    on: bool = False
    places: tuple[float, ...] = ()
    pair: tuple[int, int] = (1, 1)
    shares: dict[str, float] | None = None
    maybe: float | None = None

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f"rate must not be negative, not {self.rate}")


def test_kinds():
    found = call(
        Settings,
        {
            "rate": "8/255", "count": 3, "name": "b", "on": True, "places": [0.5, 1], "pair": [2, 3],
            "shares": {"x": 1}, "maybe": 2,
        },
        "stage",
    )  # fmt: skip
    assert found == Settings(
        rate=8 / 255, count=3, name="b", on=True, places=(0.5, 1.0), pair=(2, 3), shares={"x": 1.0}, maybe=2.0
    )
    assert isinstance(found.maybe, float)
    assert call(Settings, {"rate": 1, "maybe": None}, "stage").maybe is None


def test_given_arguments_are_no_settings():
    def maker(context, *, weight: float) -> tuple:
        return (context, weight)

    assert call(maker, {"weight": 1}, "piece", "here") == ("here", 1.0)
    with pytest.raises(ValueError, match="piece: 'context' is unknown: settings are weight"):
        call(maker, {"weight": 1, "context": "there"}, "piece", "here")


def test_made_arguments_are_no_settings():
    assert call(Settings, {"count": 3}, "stage", rate=2) == Settings(rate=2, count=3)
    with pytest.raises(ValueError, match="stage: 'rate' is unknown: settings are count, name"):
        call(Settings, {"rate": 1}, "stage", rate=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "stage: rate must be given"),
        ({"rate": 1, "rat": 2}, "stage: 'rat' is unknown: settings are rate, count, name, on"),
        ({"rate": -1}, "stage: rate must not be negative, not -1"),
        ({"rate": True}, "stage: rate must be a number, not True"),
        ({"rate": "high"}, "stage: rate must be a number or a fraction such as \"8/255\", not 'high'"),
        ({"rate": "1/0"}, "stage: rate must be a number or a fraction"),
        ({"rate": 1, "count": 1.5}, "stage: count must be a whole number, not 1.5"),
        ({"rate": 1, "on": 1}, "stage: on must be true or false, not 1"),
        ({"rate": 1, "name": 3}, "stage: name must be a text, not 3"),
        ({"rate": 1, "places": 0.5}, "stage: places must be a list of numbers or names, not 0.5"),
        ({"rate": 1, "places": ["x"]}, "stage: places must be a number or a fraction"),
        ({"rate": 1, "pair": [1]}, r"stage: pair must be a list of 2 values, not \[1\]"),
        ({"rate": 1, "shares": [1]}, r"stage: shares must be a table of names and values, not \[1\]"),
        ({"rate": 1, "shares": {"x": "y"}}, "stage: shares.x must be a number or a fraction"),
        ({"rate": float("nan")}, "stage: rate must be a finite number, not nan"),
        ({"rate": float("inf")}, "stage: rate must be a finite number, not inf"),
        ({"rate": 1 << 20_000}, "stage: rate must be a finite number, not a number of too many digits"),
        ({"rate": f"{'9' * 39}/1" * 3}, "stage: rate must be a number or a fraction"),
        ({"rate": datetime.date(2026, 1, 1)}, r"stage: rate must be a number, not datetime.date\(2026, 1, 1\)"),
        ({"rate": 1, "count": 1 << 63}, "stage: count must be a whole number of at most 63 bits, not 92"),
        ({"rate": 1, "name": "a\0"}, r"stage: name must be a text of characters that can be printed, not 'a\\x00'"),
        ({"rate": 1, "name": "\ud800"}, "stage: name must be a text of characters that can be printed"),
        ({"rate": 1, "name": ["x"] * 1000}, r"stage: name must be a text, not \['x', .{,80}\.\.\.$"),
        ({"rate": 1, "shares": {3: 1}}, "stage: shares: a name must be a text, not 3"),
    ],
)
def test_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        call(Settings, settings, "stage")


def test_what_is_said_leaves_defaults_out():
    assert said(Settings(rate=1.0)) == {"rate": 1.0}
    assert said(Settings(rate=1.0, count=1, places=(0.5,))) == {"rate": 1.0, "places": [0.5]}
    assert said((Settings(rate=2.0), {"kind": "x"})) == [{"rate": 2.0}, {"kind": "x"}]
