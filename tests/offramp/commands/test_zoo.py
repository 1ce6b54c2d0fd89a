"""The command of the zoo: its table, and figures that are measured."""

import json

from models.zoo import entries, entry
from offramp import stages
from offramp.measure import zoo_figures
from tests.offramp.command_line import run


def test_the_zoo_lists_every_network(tmp_path):
    text, code = run("zoo", "--json", tmp_path / "z.json")
    assert code == 0
    found = json.loads((tmp_path / "z.json").read_text())["networks"]
    for network in found:
        assert network["name"] in text
        assert {
            *("name", "method", "dataset", "accuracy_float", "accuracy_int8", "accuracy_pgd20", "nonzero_weights"),
            *("products_share", "mean_cycles", "exit_share", "accuracy_worst", "activation_density", "share_of_limit"),
        } <= network.keys()


def test_every_file_of_the_zoo_is_measured_once(monkeypatch):
    asked = []
    monkeypatch.setattr(stages, "dataset", lambda name, *_: name)
    monkeypatch.setattr(zoo_figures, "measure", lambda *found, **options: asked.append((*found, options["sample"])))
    assert run("zoo", "--measure", "digits", "--images", 30, "--attacked", 20)[1] == 0
    assert asked == [("digits", "digits", zoo_figures.Sample(images=30, attacked=20))]
    asked.clear()
    assert run("zoo", "--measure", "all", "--timing")[1] == 0
    assert sorted(entry(name).file for name, _, _ in asked) == sorted({found.file for found in entries()})
    assert {(source, sample) for _, source, sample in asked} == {(found.dataset, None) for found in entries()}
