import errno
import json
import textwrap

import numpy as np
import pytest

from hw import numerics
from hw.config import AcceleratorConfig
from offramp.terminal.errors import sentence


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
    assert sentence(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"


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


def test_what_c_code_raises_in_our_frames_is_no_sentence():
    weights, bias = np.ones((3, 2), np.int8), np.ones(7, np.int64)
    error = caught(lambda: numerics.accumulator_range(weights, bias, -128, 127))
    assert isinstance(error, ValueError)
    assert sentence(error) is None


def ours(text):
    """A function of this text, as if it stood in a file of ours."""
    found = {}
    source = "import contextlib\ndef action():\n" + textwrap.indent(textwrap.dedent(text), "    ")
    exec(compile(source, numerics.__file__, "exec"), found)
    return found["action"]


@pytest.mark.parametrize(
    "text",
    [
        "(one,) = ()",
        "list(zip([1], [], strict=True))",
        "int('one')",
        "b'12'.decode().index('3')",
        "try:\n    int('one')\nfinally:\n    print()",
        "try:\n    int('one')\nexcept ValueError:\n    raise",
        "try:\n    int('one')\nexcept ValueError as error:\n    raise error",
        "with contextlib.suppress(TypeError):\n    int('one')",
        "[int(text) for text in ('1', 'one')]",
        "next(int(text) for text in ('one',))",
    ],
)
def test_a_clause_around_it_makes_no_sentence_of_it(text):
    error = caught(ours(text))
    assert isinstance(error, ValueError)
    assert sentence(error) is None


@pytest.mark.parametrize(
    "text",
    [
        "raise ValueError('it must be 1')",
        "raise FloatingPointError('it must be\\n1')",
        "try:\n    int('one')\nexcept ValueError as error:\n    raise ValueError('it must be 1') from error",
        "try:\n    raise ValueError('it must be 1')\nfinally:\n    print()",
        "try:\n    raise ValueError('it must be 1')\nexcept ValueError:\n    raise",
        "with contextlib.ExitStack() as stack:\n    raise ValueError('it must be 1')",
        "def values():\n    raise ValueError('it must be 1')\n    yield\n[value for value in values()]",
    ],
)
def test_our_refusals_become_one_sentence_through_any_clause(text):
    assert sentence(caught(ours(text))) == "it must be 1"
