"""What the runtimes of others that networks are compared with have in common: they may be missing, or unable."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["UnableError", "installed"]


class UnableError(ValueError):
    """A runtime can't run a file that is made for it, such as one that is newer than the runtime."""


@contextmanager
def installed(runtime: str, package: str) -> Iterator[None]:
    """Import a runtime within the block; where its package is missing, the error says what installs it.

    Parameters
    ----------
    runtime, package : str
        As people and as pip call it.

    Raises
    ------
    ModuleNotFoundError
        When the package isn't installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{runtime} must be installed to compare with it: pip install {package}", name=error.name
        ) from error
