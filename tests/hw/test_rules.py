import pytest

from hw.rules import check_identifier, check_image, first_line, integer, integers, require, shown, text


def test_integers_are_no_truth_values():
    assert integer(3)
    assert not integer(True)
    assert not integer(3.0)
    assert integers((1, 2), 2)
    assert not integers([1, 2], 2)
    assert not integers((1, True), 2)


def test_a_rule_that_holds_says_nothing():
    require(True, "nothing")
    with pytest.raises(ValueError, match=r"^it must hold$"):
        require(False, "it must hold")


@pytest.mark.parametrize(
    ("value", "right"), [("conv 1", True), ("", False), ("a\n", False), ("\ud800", False), (3, False)]
)
def test_texts_can_be_printed(value, right):
    assert text(value) is right


def test_values_are_shown_in_a_few_characters():
    assert shown((1, "a")) == "(1, 'a')"
    assert shown("x" * 1000) == f"'{'x' * 79}..."
    assert shown(1 << 20_000) == "a number of too many digits"


@pytest.mark.parametrize("name", ["a", "_9", "Core_2", "x" * 64])
def test_identifiers(name):
    check_identifier(name)


@pytest.mark.parametrize(
    "name", ["", "9a", "a-b", "a b", "ä", "x" * 65, "module", "wire", "logic", "import", "lambda", "a\n", "../a"]
)
def test_what_is_no_identifier_is_refused(name):
    with pytest.raises(ValueError, match=r"^name must be letters, digits and _, at most 64, .*, not "):
        check_identifier(name)


def test_shapes_of_images():
    check_image((4096, 4096, 1))
    for shape in ((4096, 4097, 1), (10**30, 1, 1)):
        with pytest.raises(ValueError, match="must be of an image of at most 16,777,216 values, not "):
            check_image(shape)
    for shape in ((8, 8), (8, 0, 1), (8.0, 8, 1), None):
        with pytest.raises(ValueError, match="shape must be a tuple of 3 positive integers"):
            check_image(shape)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a size must be 1.\nTraceback", "a size must be 1"),
        ("\n  two\nthree", "two"),
        ("", "RuntimeError"),
        ("x" * 500, "x" * 300),
    ],
)
def test_an_exception_says_one_line(said, expected):
    assert first_line(RuntimeError(said)) == expected
