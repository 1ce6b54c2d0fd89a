import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from hw.compiler.compile import compile_balanced
from hw.config import preset
from hw.network.dense_products import final_products
from models import zoo
from models.attacks import pgd
from models.compression.quantize import encode
from models.integer import golden
from models.integer.surrogate import Surrogate
from models.methods.detector import decisions, with_ranges
from models.recipes.checkpoint import load_compressed, save_compressed
from offramp.files import paths, program_files
from offramp.measure import zoo_figures as measuring
from sim import simulate, time_batch, worst_case

FEW = measuring.Sample(images=50, attacked=20)
LEAST = measuring.Sample(images=20, attacked=1)


def multiplied_share(network, codes):
    """Of all activations but logits, those that aren't zero; the network leaves out no others."""
    tensors, logits = network.tensors(), {found.logits for found in network.exits}
    maps = {name: found for name, found in golden.run(network, codes).tensors.items() if name not in logits}
    nonzero = sum(np.count_nonzero(found != tensors[name].zero_point) for name, found in maps.items())
    return nonzero / sum(found.size for found in maps.values())


@pytest.fixture(scope="module", autouse=True)
def _few_queries():
    """Attacks that only ask for scores ask a few times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "_STRENGTH", replace(measuring._STRENGTH, queries=20, samples=(4, 4)))
        yield


@pytest.fixture
def result(small):
    """What ``offramp train RECIPE`` would have written beside the compressed network."""
    return described(small)


def described(small):
    return {
        "recipe": {"name": "small", "about": "a test", "config": "tiny"},
        "recipe_digest": "abc",
        "seed": 0,
        "metrics": small.network.metrics,
    }


@pytest.fixture(scope="module")
def measured(small, tmp_path_factory):
    """A zoo of the network, measured on the fewest images."""
    folder, path = tmp_path_factory.mktemp("zoo"), small.folder / paths.COMPRESSED
    return folder, measuring.add(path, described(small), small.source, method="mine", folder=folder, sample=LEAST)


@pytest.fixture
def made(measured, tmp_path):
    """Its entries, and a zoo of the test's own."""
    shutil.copytree(measured[0], tmp_path / "zoo")
    return measured[1], tmp_path / "zoo"


def test_figures_are_measured(small, result, tmp_path):
    path = small.folder / paths.COMPRESSED
    made = measuring.add(path, result, small.source, method="mine", folder=tmp_path, sample=FEW)
    assert [entry.name for entry in made] == ["small", "small-dense"]
    entry, dense = made
    network, few = load_compressed(path).network, small.source.test.take(50)
    found = golden.run(network, encode(few.images, network), keep=False)
    assert entry.accuracy_int8 == found.accuracy(few.labels)
    assert entry.exit_share == pytest.approx(found.exit_share()[0])
    assert (entry.method, entry.config) == ("mine", "tiny")
    assert (entry.images, entry.attacked) == (50, 20)
    twenty = small.source.test.take(20)
    assert entry.accuracy_clean == golden.run(network, encode(twenty.images, network), keep=False).accuracy(
        twenty.labels
    )
    changed = pgd(Surrogate(network), twenty.images, twenty.labels, eps=8 / 255, steps=20, seed=0)
    attacked = golden.run(network, encode(changed, network), keep=False)
    assert entry.accuracy_pgd20 == attacked.accuracy(twenty.labels)
    assert 0 <= entry.accuracy_worst <= min(entry.accuracy_pgd20, entry.accuracy_clean)
    assert entry.accuracy_float == small.network.metrics["pruned_final"]
    assert entry.nonzero_weights == sum(
        int(np.count_nonzero(array)) for name, array in network.arrays() if name.endswith("/weight")
    )
    assert entry.products_share < entry.products_share_full < dense.products_share < 1
    assert dense.exit_share == 0
    assert dense.accuracy_float == small.network.metrics["float_final"]
    assert entry.mean_cycles < dense.mean_cycles
    products = entry.products_share * entry.multiply_accumulates
    assert entry.share_of_limit == pytest.approx(products / (4 * entry.mean_cycles))
    there = compile_balanced(network, preset("small-85f"), load_compressed(path).activity)
    routed = simulate(there, encode(few.images, network))
    assert (entry.routed, entry.routed_cycles) == ("small-85f", routed.cycles.mean())
    assert (entry.routed_worst, entry.routed_bound) == (routed.cycles.max(), worst_case(there))
    assert entry.routed_back_to_back == time_batch(there, routed).cycles_per_image
    assert entry.routed_cycles < entry.routed_worst < entry.routed_bound
    assert entry.activation_density == pytest.approx(multiplied_share(network, encode(few.images, network)))
    assert dense.multiply_accumulates == entry.multiply_accumulates == final_products(network)


def test_a_network_that_the_routed_config_cannot_hold_has_no_figures_there(small, monkeypatch):
    monkeypatch.setattr(measuring, "_ROUTED", "tiny,activation_words=32")
    network, activity = small.network.network, small.network.activity
    found = measuring.timing(network, activity, small.source, preset("single"), images=3)
    assert {name: value for name, value in found.items() if name.startswith("routed")} == dict.fromkeys(
        ("routed", "routed_cycles", "routed_worst", "routed_bound", "routed_back_to_back")
    )
    assert found["mean_cycles"] > 0


def test_what_the_detector_flags_is_measured(small, result, tmp_path):
    compressed = load_compressed(small.folder / paths.COMPRESSED)
    codes = encode(small.source.test.take(50).images, compressed.network)
    narrow = with_ranges(compressed.network, codes, 0.2)
    save_compressed(tmp_path / "ranges.off", replace(compressed, network=narrow))
    sample = replace(FEW, attacked=1)
    entry, dense = measuring.add(tmp_path / "ranges.off", result, small.source, folder=tmp_path / "zoo", sample=sample)
    assert entry.flagged == decisions(narrow, codes).out_of_range.mean() > 0.1
    assert dense.flagged == 0


@pytest.mark.slow
def test_measuring_anew_finds_the_same(small, made):
    made, folder = made
    assert measuring.measure("small-dense", small.source, folder=folder, sample=LEAST) == made
    assert zoo.entries(folder) == made
    elsewhere = measuring.measure("small", small.source, folder=folder, sample=LEAST, config="single")
    assert [(entry.config, entry.accuracy_int8) for entry in elsewhere] == [
        ("single", entry.accuracy_int8) for entry in made
    ]
    assert all(new.mean_cycles < old.mean_cycles for new, old in zip(elsewhere, made, strict=True))
    (folder / "small.off").write_bytes(b"")
    with pytest.raises(ValueError, match=r"small.off: altered"):
        measuring.measure("small", small.source, folder=folder, sample=LEAST)
    assert zoo.entries(folder) == elsewhere


def test_timing_anew_keeps_the_rest(small, made, monkeypatch):
    made, folder = made
    older = [replace(entry, accuracy_worst=0.5, mean_cycles=1.0, routed="single") for entry in made]
    fields = [{key: value for key, value in asdict(entry).items() if key != "sha256"} for entry in older]
    assert zoo.put(small.network, fields, folder) == older
    monkeypatch.setattr(measuring, "figures", lambda *_, **__: pytest.fail("measured"))
    anew = measuring.measure("small", small.source, folder=folder, sample=None)
    assert anew == zoo.entries(folder) == [replace(entry, accuracy_worst=0.5) for entry in made]
    elsewhere = measuring.measure("small-dense", small.source, folder=folder, sample=None, config="single")
    assert [entry.config for entry in elsewhere] == ["single", "single"]
    cycles = [entry.mean_cycles for entry in elsewhere]
    assert all(new < old.mean_cycles for new, old in zip(cycles, made, strict=True))
    timed = [replace(entry, config="tiny", mean_cycles=1.0, share_of_limit=1.0) for entry in elsewhere]
    assert timed == [replace(entry, mean_cycles=1.0, share_of_limit=1.0) for entry in anew]


def test_an_unpruned_network_that_is_too_large_is_counted_on_a_config_that_it_fits(small, made):
    made, folder = made
    narrow = "tiny,list_words=1024"
    elsewhere = measuring.measure("small", small.source, folder=folder, sample=None, config=narrow)
    assert [entry.config for entry in elsewhere] == [narrow, "small-85f"]
    dense = elsewhere[1]
    assert dense.mean_cycles == dense.routed_cycles == made[1].routed_cycles
    assert zoo.entries(folder) == elsewhere


def test_a_network_must_fit_the_config_that_is_named(small, result, tmp_path, monkeypatch):
    for narrow, roomier in (("tiny,list_words=256", ("small-85f",)), ("tiny,list_words=1024", ())):
        monkeypatch.setattr(measuring, "_ROOMIER", roomier)
        words = narrow.partition("=")[2]
        with pytest.raises(ValueError, match=f"list memory holds {words} words a PE; this network needs"):
            measuring.add(
                small.folder / paths.COMPRESSED, result, small.source, config=narrow, folder=tmp_path, sample=LEAST
            )
    assert not list(tmp_path.iterdir())


def test_results_of_something_else_are_refused(small, result, tmp_path):
    del result["recipe_digest"]
    with pytest.raises(ValueError, match="the result beside it must hold 'recipe_digest': a recipe's"):
        measuring.add(small.folder / paths.COMPRESSED, result, small.source, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_of_the_zoo_are_programs(small, made, tmp_path, monkeypatch):
    made, folder = made
    monkeypatch.setattr(zoo, "entry", lambda name: next(e for e in made if e.name == name.removeprefix("zoo:")))
    original = zoo.load
    monkeypatch.setattr(zoo, "load", lambda entry: original(entry, folder))
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "cache"))
    found = program_files.program(Path("zoo:small"))
    assert found.config == preset("tiny")
    codes = encode(small.source.test.images[:20], found.network)
    assert golden.run(found.network, codes, keep=False).accuracy(small.source.test.labels[:20]) == made[0].accuracy_int8
    assert program_files.program(Path("zoo:small@single")).config == preset("single")
    with pytest.raises(ValueError, match="huge"):
        program_files.program(Path("zoo:small@huge"))
