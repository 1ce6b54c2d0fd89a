import pytest

from hw.config import AcceleratorConfig
from hw.program.isa import SelectKind
from hw.program.selection_encoding import selection_cycles
from hw.rtl.control.selector import Selector


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize("selector", [1, 2, 4])
@pytest.mark.parametrize("kind", SelectKind)
def test_compiler_and_hardware_state_the_same_cycles_of_a_selection(cores, selector, kind):
    config = AcceleratorConfig(cores=cores, selector=selector)
    for length, pitch in ((1, 1), (7, 3), (8191, 64)):
        assert selection_cycles(kind, length, pitch, config) == Selector.cycles(config, kind, length, pitch)
