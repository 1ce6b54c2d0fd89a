import json

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from offramp.errors import sentence


def caught(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_our_refusals_become_one_sentence():
    error = caught(lambda: AcceleratorConfig(pes=3))
    assert sentence(error) == "pes must be a power of two from 2 to 8, not 3"


def test_the_operating_systems_refusals_name_the_file(tmp_path):
    missing = tmp_path / "missing"
    assert sentence(caught(missing.read_bytes)) == f"{missing}: No such file or directory"
    assert sentence(ConnectionError("no way\nthere")) == "no way there"


@pytest.mark.parametrize(
    "action",
    [
        lambda: json.loads("{"),  # a ValueError of a library
        lambda: np.zeros(3).reshape(2, 2),
        lambda: {}["key"],
        lambda: 1 // 0,
    ],
)
def test_failures_of_the_program_are_no_sentence(action):
    assert sentence(caught(action)) is None
