import pytest

from models.frontends.runtimes import UnableError, installed


def test_a_runtime_that_is_missing_says_what_installs_it():
    with (
        pytest.raises(
            ModuleNotFoundError, match=r"^Some must be installed to compare with it: pip install a$"
        ) as caught,
        installed("Some", "a"),
    ):
        import no_such_runtime  # noqa: F401
    assert caught.value.name == "no_such_runtime"


def test_other_errors_of_an_import_are_as_they_are():
    with pytest.raises(UnableError, match=r"^x$"), installed("Some", "a"):
        raise UnableError("x")
