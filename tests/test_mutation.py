"""The list of mutants is whole, and the committed result is of this list and good enough."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from offramp.files.result_file import read_json
from tests import mutation
from tests.mutation import Mutant, Tree, judge, noted, objections, problems, read, summary

RESULT = mutation.ROOT / "baselines" / "mutants.json"
PACKAGES = {"hw", "sim", "models", "fpga", "offramp"}
GOOD = Mutant(
    file="hw/program/bits.py",
    old="return -(-bits_of(layout) // 32)",
    new="return bits_of(layout) // 32",
    tests=("tests/hw/program/test_bits.py::test_other_numbers_of_words_are_refused",),
)


def result_of(mutant: Mutant, status: str = "killed") -> dict:
    found = {"file": mutant.file, "old": mutant.old, "new": mutant.new, "tests": list(mutant.tests), "status": status}
    return found | {name: why for name in ("equivalent", "survives") if (why := getattr(mutant, name))}


def test_every_mutant_of_the_list_can_be_applied():
    mutants = read()
    assert problems(mutants) == []
    assert len(mutants) >= 100
    assert {mutant.file.partition("/")[0] for mutant in mutants} == PACKAGES


def test_the_committed_result_is_of_this_list_and_good_enough():
    result = read_json(RESULT)
    fields = ("file", "old", "new", "equivalent", "survives")
    found = [(*(each.get(name, "") for name in fields), tuple(each["tests"])) for each in result["mutants"]]
    expected = [(*(getattr(mutant, name) for name in fields), mutant.tests) for mutant in read()]
    assert found == expected, "tests/mutants.toml was changed: run make mutants, or make mutants ARGS=--new"
    assert objections(result["mutants"]) == []
    assert summary(result["mutants"]).items() <= result.items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "hw/none.py"}, "there is no such file"),
        ({"old": "nowhere in it"}, "must stand in the file once, not 0 times"),
        ({"old": "layout"}, r"must stand in the file once, not \d+ times"),
        ({"new": GOOD.old}, "it changes nothing"),
        ({"tests": ()}, "it names no test"),
        ({"tests": ("tests/hw/none.py",)}, "there is no tests/hw/none.py"),
        (
            {"tests": ("tests/hw/program/test_bits.py::test_none",)},
            "there is no test test_none in tests/hw/program/test_bits.py",
        ),
        ({"equivalent": "a", "survives": "b"}, "it is equivalent or it survives, not both"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_of_all_of_it(change, message):
    wrong = replace(GOOD, **change)
    found = problems([GOOD, wrong, GOOD])
    assert len(found) == 2
    assert found[0].startswith(f"{wrong.file}: ")
    assert re.search(message, found[0])
    assert found[1] == "hw/program/bits.py: a mutant stands in the list twice"


def test_a_mutant_is_killed_or_survives_and_the_tree_is_as_before(tmp_path):
    mutation._SERVER.set_forkserver_preload(["numba", "amaranth.sim", "hypothesis", "pytest"])
    tree = Tree(tmp_path)
    source = (mutation.ROOT / GOOD.file).read_text(encoding="utf-8")
    assert judge(tree, GOOD, 300)["status"] == "killed"
    harmless = replace(GOOD, new="return -(-bits_of(layout) // 32) * 1")
    assert judge(tree, harmless, 300)["status"] == "survived"
    assert judge(tree, harmless, 0.01)["timeout"]
    whole = (GOOD.tests[0].partition("::")[0],)
    without = judge(tree, replace(GOOD, old=" // 32", new="", tests=whole), 300)
    assert (without["status"], without["new"], objections([without])) == ("killed", "", [])
    assert (tree.folder / GOOD.file).read_text(encoding="utf-8") == source
    none = replace(GOOD, tests=("tests/hw/program/test_bits.py::test_none",))
    with pytest.raises(RuntimeError, match=r"must pass without a mutant"):
        mutation.run([none], workers=1, timeout=300, progress=print, keep=print)


@pytest.mark.slow
def test_the_command_runs_tests_of_the_changed_tree_and_not_of_its_own(tmp_path):
    """The command has imported packages of the tree before its tests run."""
    command = [sys.executable, "tools/mutants", str(tmp_path / "none.json"), "--workers", "1", "--only", GOOD.file]
    found = subprocess.run(command, cwd=mutation.ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "1 killed, 0 survived, 0 equivalent" in found.stderr.splitlines()


def test_a_reason_that_the_list_gives_later_is_in_the_result():
    found = result_of(GOOD, "survived") | {"seconds": 1.0}
    for why, status in (("equivalent", "equivalent"), ("survives", "survived")):
        later = replace(GOOD, **{why: "because"})
        assert noted(later, found) == result_of(later, status) | {"seconds": 1.0}
    assert noted(replace(GOOD, equivalent="because"), result_of(GOOD))["status"] == "killed"


def test_results_that_are_not_good_enough_say_why():
    mutants = [replace(GOOD, new=str(n)) for n in range(40)]
    results = [result_of(mutant) for mutant in mutants]
    assert objections(results) == []
    results[0] = result_of(mutants[0], "survived")
    assert objections(results) == [f"{mutants[0].name}: survived, and the list doesn't say why"]
    results[0] = result_of(replace(mutants[0], survives="because"), "survived")
    results[1] = result_of(replace(mutants[1], equivalent="because"), "equivalent")
    assert objections(results) == []
    assert summary(results) == {"killed": 38, "survived": 1, "equivalent": 1, "share": 38 / 39}
    results[1]["status"] = "killed"
    assert objections(results) == [f"{mutants[1].name}: is called equivalent, but killed"]
    many = [result_of(replace(m, survives="because"), "survived") for m in mutants[:3]] + results[3:]
    assert objections(many) == ["92.5% of the mutants that aren't equivalent were killed, not 95%"]
