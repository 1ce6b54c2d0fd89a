import numpy as np
import pytest

from hw.compiler.compile import compile_network
from sim import WeightSource, core_times, simulate
from sim.plan import Plan
from tests.sim.test_simulate import CONFIG, network, several


@pytest.mark.parametrize(("cores", "pes", "lanes"), [(1, 8, 2), (2, 8, 1), (8, 2, 1)])
def test_cores_take_as_long_as_the_layers(cores, pes, lanes):
    """Each layer ends with its last core, and a core when the lanes have taken its last row and written it."""
    net, codes = several()
    program = compile_network(net, CONFIG.replace(cores=cores, pes=pes, lanes=lanes))
    timing = simulate(program, codes)
    early, late = (int(np.flatnonzero(timing.exit_index == number)[0]) for number in (0, 1))
    for image in (early, late):
        found = core_times(program, codes[image : image + 1])
        ran = [name for name, end in zip(timing.layer_names, timing.layer_ends[image], strict=True) if end]
        assert list(dict.fromkeys(each.layer for each in found)) == ran
        for number, (name, layer) in enumerate(zip(ran, Plan(program).layers, strict=False)):
            own = [each for each in found if each.layer == name]
            end = timing.layer_ends[image, number]
            assert [each.core for each in own] == layer.parts[:, 0].tolist()
            assert {each.begin for each in own} == {end - timing.layer_cycles[image, number]}
            assert max(each.end for each in own) == end
            for each in own:
                assert (np.diff(each.rows) > 0).all()
                assert each.begin < each.rows[0] <= each.rows[-1] == each.end - layer.latency


def test_lists_that_come_during_the_run_delay_the_cores_as_they_do_the_layers():
    net, codes = several()
    program = compile_network(net, CONFIG.replace(list_words=512, loader=1, cores=2))
    source = WeightSource(latency=300)
    timing = simulate(program, codes[:1], source=source)
    assert timing.waited.any()
    found = core_times(program, codes[:1], source=source)
    ends = [
        max(each.end for each in found if each.layer == name) for name in dict.fromkeys(each.layer for each in found)
    ]
    assert ends == timing.layer_ends[0, : len(ends)].tolist()


def test_of_one_image():
    program = compile_network(network(), CONFIG)
    with pytest.raises(ValueError, match="times of cores must be of 1 image, not 2"):
        core_times(program, np.zeros((2, 6, 6, 3), np.int8))
