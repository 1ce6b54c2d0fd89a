import inspect
import re

import pytest
from amaranth import Shape
from amaranth.lib import wiring

from hw.config import AcceleratorConfig
from hw.rtl import interfaces

#: Of few accumulators, so that lists can be split.
CONFIG = AcceleratorConfig(accumulators=64)
SIGNATURES = [
    each for each in vars(interfaces).values() if inspect.isclass(each) and each.__module__ == interfaces.__name__
]
SIGNATURES = [each for each in SIGNATURES if issubclass(each, wiring.Signature)]


def made(signature):
    """One of a config, where its sizes are those of a config; one of words, where it takes any."""
    takes = {"config": CONFIG, "shape": 32}
    return signature(*(takes[name] for name in inspect.signature(signature).parameters))


def stated(signature):
    """Direction of each member as its docstring has it, and its bits where they are a number."""
    _, members = inspect.getdoc(signature).split("Members\n-------\n")
    for names, flow, shape in re.findall(r"([\w, ]+?) : (In|Out)(?:\((\d+)\))?", members):
        for name in names.strip(", ").split(", "):
            yield name, (wiring.In if flow == "In" else wiring.Out), int(shape) if shape else None


@pytest.mark.parametrize("signature", SIGNATURES)
def test_docstrings_say_who_drives_what(signature):
    members = made(signature).members
    told = {name: (flow, bits) for name, flow, bits in stated(signature)}
    assert told.keys() == set(members)
    for name, (flow, bits) in told.items():
        assert (name, members[name].flow) == (name, flow)
        if bits is not None:
            assert (name, Shape.cast(members[name].shape).width) == (name, bits)
