from offramp.report.tables.units import count, percent, points, storage, usage


def test_figures_as_text():
    assert percent(0.85023) == "85.02 %"
    assert percent(1 / 3, 0) == "33 %"
    assert percent(None) == "-"
    assert (points(0.85023), points(None), points(0.5, 1)) == ("85.02", "-", "50.0")
    assert (count(1_234_567), count(1_234.56, 1), count(None), count(0)) == ("1,234,567", "1,234.6", "-", "0")
    assert usage({"used": 18_486, "available": 24_288}) == "18,486 of 24,288 (76 %)"
    assert storage(285_430_000) == "285.4 MB"
