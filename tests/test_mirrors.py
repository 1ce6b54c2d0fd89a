"""Every module of the hardware, its simulator and its boards has a test file at the same place below ``tests``."""

from pathlib import PurePosixPath

import pytest

from tests.test_names import FILES, PYTHONS, ROOT

PACKAGES = ("hw/", "sim/", "fpga/")


def mirror(module: str) -> str:
    """Where the tests of a module are."""
    path = PurePosixPath(module)
    return f"tests/{path.with_name('test_' + path.name)}"


def test_every_module_has_tests_of_its_own():
    modules = [file for file in FILES if file.startswith(PACKAGES) and PurePosixPath(file).name not in PYTHONS]
    assert len(modules) > 100
    assert [module for module in modules if not (ROOT / mirror(module)).exists()] == []


@pytest.mark.parametrize(
    ("module", "expected"),
    [("hw/config.py", "tests/hw/test_config.py"), ("hw/rtl/core/pe.py", "tests/hw/rtl/core/test_pe.py")],
)
def test_the_rule_itself(module, expected):
    assert mirror(module) == expected
