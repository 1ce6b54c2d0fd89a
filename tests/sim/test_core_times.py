import numpy as np
import pytest

from hw.compiler.compile import compile_network
from sim import WeightSource, core_times, simulate
from sim.plan import Plan
from sim.timing import BEGIN
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
            assert [each.core for each in own] == layer.working[:, 0].tolist()
            assert {each.begin for each in own} == {end - timing.layer_cycles[image, number]}
            assert max(each.end for each in own) == end
            for each in own:
                assert (np.diff(each.rows) > 0).all()
                assert each.begin < each.rows[0] <= each.rows[-1] == each.end - layer.latency + BEGIN


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


@pytest.mark.parametrize("source", [None, WeightSource(latency=300)])
@pytest.mark.parametrize(("cores", "pes"), [(1, 8), (4, 2)])
def test_pes_do_together_what_the_layers_say(cores, pes, source):
    """Of each layer: products, and where all cycles went, of the PEs and of the cores that have no part in it."""
    net, codes = several()
    options = {"list_words": 512, "loader": 1} if source else {}
    config = CONFIG.replace(cores=cores, pes=pes, **options)
    program = compile_network(net, config)
    options = {"source": source} if source else {}
    timing, found = simulate(program, codes[:1], **options), core_times(program, codes[:1], **options)
    for number, name in enumerate(timing.layer_names):
        own = [each for each in found if each.layer == name]
        if not own:
            assert timing.layer_ends[0, number] == 0
            continue
        waited = int(timing.waited[0, number])
        cycles = int(timing.layer_cycles[0, number]) - waited
        resting = (config.cores - len(own)) * config.pes * cycles
        more = {"cores": resting, "load": waited * config.multipliers}
        for cause, spent in timing.spent.items():
            assert sum(sum(each.pe_spent[cause]) for each in own) + more.get(cause, 0) == spent[0, number]
        for each in own:
            assert len(each.pe_ends) == len(each.pe_jobs) == config.pes
            for pe, (end, jobs) in enumerate(zip(each.pe_ends, each.pe_jobs, strict=True)):
                spent = {cause: counts[pe] for cause, counts in each.pe_spent.items()}
                assert sum(spent.values()) == cycles
                assert end == each.begin + BEGIN + cycles - spent["cores"] - spent["barrier"] <= each.end
                assert (jobs > 0) == (spent["products"] > 0)
                assert jobs <= spent["products"]
        assert sum(max(each.pe_jobs) for each in own) <= timing.jobs[0, number]


def test_of_one_image():
    program = compile_network(network(), CONFIG)
    with pytest.raises(ValueError, match="times of cores must be of 1 image, not 2"):
        core_times(program, np.zeros((2, 6, 6, 3), np.int8))
