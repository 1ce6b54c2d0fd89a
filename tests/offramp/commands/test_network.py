"""Commands that make networks: from training to a program, from outside, and to files of others."""

import json
import re
import sys

import numpy as np
import pytest

from hw.config import preset
from hw.network.network import INPUT
from hw.network.network_file import NetworkFile, load, save
from models.datasets import splits
from models.integer import golden
from offramp import cli
from offramp.files import paths
from offramp.files.kinds import kind_of
from offramp.report.pages.result_page import page_of, read_result
from tests.hw.network.neutral_page import page_functions
from tests.offramp.command_line import refused, run
from tests.offramp.intake.kinds_of_networks import FACTORIES, NETWORKS
from tests.offramp.intake.models import MODULE, tflite_file
from tests.offramp.recipe import RECIPE
from tests.random_networks import NetworkMaker


def test_help_says_what_a_recipe_without_a_stage_makes():
    assert "A recipe without a quantize table makes" in " ".join(run("train", "--help")[0].split())


def test_the_stages_from_training_to_a_program(tmp_path, quick_recipe):
    out = tmp_path / "out"
    files = [tmp_path / f"{number}.json" for number in range(3)]
    assert run("train", "--seed", 3, "--out", out, "--json", files[0])[1] == 0
    assert run("compress", out / paths.TRAINED, "--seed", 3, "--out", out, "--json", files[1])[1] == 0
    assert run("compile", out / paths.COMPRESSED, "--config", "tiny", "--out", out, "--json", files[2])[1] == 0
    trained, compressed, compiled = (json.loads(file.read_text()) for file in files)
    assert trained["seed"] == compressed["seed"] == 3
    assert trained["command"] == "train"
    assert trained["metrics"]["float_final"] == compressed["metrics"]["float_final"] > 0.5
    assert len(compressed["curve"]["thresholds"]) > 1
    lengths = [stage.schedule.epochs for stage in quick_recipe.train]
    assert [len(history) for history in trained["epochs"].values()] == lengths
    assert [len(history) for history in compressed["epochs"].values()] == [
        stage.schedule.epochs for stage in (*quick_recipe.compress, quick_recipe.quantize, quick_recipe.dense)
    ]
    assert compiled["config_digest"] == preset("tiny").digest()
    assert 0 < compiled["memories"]["lists"]["used"] <= compiled["memories"]["lists"]["available"]


def test_a_file_or_a_folder_for_a_program_is_named_in_either_way(small, tmp_path):
    made = (small.folder / paths.PROGRAM).read_bytes()
    for option, out, file in (
        ("-o", "mine.off", "mine.off"),
        ("--out", "new/mine.off", "new/mine.off"),
        ("-o", "folder", f"folder/{paths.PROGRAM}"),
    ):
        arguments = ("compile", small.folder / paths.COMPRESSED, "--config", "tiny", option, tmp_path / out)
        text, code = run(*arguments, "--json", tmp_path / "c.json")
        assert code == 0
        assert (tmp_path / file).read_bytes() == made
        assert json.loads((tmp_path / "c.json").read_text())["file"] == str(tmp_path / file)
        assert f"next: offramp simulate {tmp_path / file}" in text
    (tmp_path / "there.off").mkdir()
    run("compile", small.folder / paths.COMPRESSED, "--config", "tiny", "-o", tmp_path / "there.off")
    assert (tmp_path / "there.off" / paths.PROGRAM).read_bytes() == made


def test_a_compressed_network_is_written_where_it_is_named(tmp_path, quick_recipe):
    assert run("train", "-o", tmp_path)[1] == 0
    text, code = run("compress", tmp_path / paths.TRAINED, "-o", tmp_path / "more" / "mine.off")
    assert code == 0
    assert f"next: offramp compile {tmp_path / 'more' / 'mine.off'}" in text
    assert kind_of(tmp_path / "more" / "mine.off") == "compressed"
    assert (tmp_path / "more" / paths.PROGRESS).is_dir()
    assert not (tmp_path / paths.COMPRESSED).exists()


def test_a_compilation_is_explained(small, tmp_path):
    file = tmp_path / "c.json"
    arguments = (small.folder / paths.COMPRESSED, "--config", "tiny", "--out", tmp_path, "--json", file)
    text, code = run("compile", *arguments, "--explain")
    assert code == 0
    found = json.loads(file.read_text())
    said = found["explanation"]
    assert (said["refusal"], said["attempts"][-1]["refusal"]) == (None, None)
    lists = next(use for use in said["memories"] if use["memory"] == "lists")
    assert lists["used"] == found["memories"]["lists"]["used"]
    assert all(
        name in text for name in ("bands x groups", "runner-up", "used words", "taken", said["layers"][0]["layer"])
    )
    assert (tmp_path / paths.PROGRAM).read_bytes() == (small.folder / paths.PROGRAM).read_bytes()
    text, code = run("compile", *arguments)
    assert "runner-up" not in text
    assert "explanation" not in json.loads(file.read_text())


def test_without_a_config_the_smallest_that_fits_is_compiled_for(small, tmp_path, monkeypatch):
    monkeypatch.setattr("offramp.intake.programs.TRIED", ("tiny,activation_words=32", "tiny", "single"))
    file = tmp_path / "c.json"
    text, code = run("compile", small.folder / paths.COMPRESSED, "--out", tmp_path, "--json", file)
    assert code == 0
    assert "tiny: " in text
    found = json.loads(file.read_text())
    assert (found["config"], found["config_digest"]) == ("tiny", preset("tiny").digest())


def test_a_refusal_is_explained(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("offramp.intake.programs.preset", lambda name: preset(name).replace(list_words=64))
    monkeypatch.setattr("offramp.intake.programs.advice", lambda *found: "it fits --config single")
    file = tmp_path / "c.json"
    arguments = (
        "compile",
        small.folder / paths.COMPRESSED,
        "--config",
        "tiny",
        "--out",
        tmp_path,
        "--json",
        file,
    )
    monkeypatch.setattr(sys, "argv", ["offramp", *map(str, arguments), "--explain"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    out, err = capsys.readouterr()
    said = json.loads(file.read_text())["explanation"]
    assert f"offramp: tiny: {said['refusal']}; {said['advice']}\n" in err
    assert said["advice"] == "it fits --config single"
    assert said["refusal"].startswith("list memory holds 64 words a PE; ")
    assert all(name in out for name in ("outcome", "used words", "at least"))
    # No stage is shown as done; the error says why, and so the tables don't.
    assert "✓" not in out + err
    assert "refused" not in out
    assert "instead" not in out
    assert not (tmp_path / paths.PROGRAM).exists()
    # Without being asked for it, nothing is explained or written.
    file.unlink()
    assert refused(monkeypatch, capsys, *arguments) == f"tiny: {said['refusal']}; {said['advice']}"
    assert not file.exists()


def test_no_larger_config_is_looked_for_where_none_helps(tmp_path, monkeypatch, capsys):
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, 2049)
    file = tmp_path / "many.off"
    save(file, NetworkFile(network=maker.network("net"), origin="a test", activity={}))
    said = refused(monkeypatch, capsys, "compile", file, "--out", tmp_path)
    expected = "net: classes must be from 2 to 2048, not 2049; that holds for every config: change the network"
    assert said == expected
    assert refused(monkeypatch, capsys, "bench", file) == f"base-85f: {expected}"


def test_an_import_says_that_no_config_runs_so_many_classes(tmp_path):
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, 2049)
    file = tmp_path / "many.off"
    save(file, NetworkFile(network=maker.network("net"), origin="a test", activity={}))
    text, code = run("import", file, "-o", tmp_path / "out.off", "--json", tmp_path / "i.json")
    note = "no config runs it: classes must be from 2 to 2048, not 2049"
    assert code == 0
    assert json.loads((tmp_path / "i.json").read_text())["notes"] == [note]
    assert f"note     {note}\n" in text
    assert "checked  not against a source: the file holds no source\n" in text
    assert text.rstrip().endswith(f"next: offramp export {tmp_path / 'out.off'}")


def test_a_recipe_file_from_training_to_its_result(tmp_path):
    path, out = tmp_path / "small.toml", tmp_path / "out"
    path.write_text(RECIPE)
    _, code = run("train", path, "--seed", 2, "--out", out)
    assert code == 0
    result = json.loads((out / paths.RESULT).read_text())
    assert (result["seed"], result["data"], result["recipe"]["name"]) == (2, "digits", "small")
    assert {"git", "versions", "python", "recipe_digest"} <= result.keys()
    assert run("compile", out / paths.COMPRESSED, "--config", "tiny", "--out", out)[1] == 0


def test_a_model_is_exported_as_a_file_of_others_and_taken_again(tmp_path, monkeypatch, capsys):
    model = tflite_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("export", model, "-o", "again.tflite", "--json", "export.json")[1] == 0
    found = json.loads((tmp_path / "export.json").read_text())
    assert found["file"] == "again.tflite"
    assert "folder" not in found
    assert page_of(read_result(tmp_path / "export.json")).title == "offramp export"
    described = []
    for file in (model, "again.tflite"):
        assert run("info", file, "--json", "info.json")[1] == 0
        layers = json.loads((tmp_path / "info.json").read_text())["network"]["layers"]
        described.append([{key: each[key] for key in each if key != "name"} for each in layers])
    assert described[0] == described[1]
    message = refused(monkeypatch, capsys, "export", model, "-o", "again.onnx")
    assert re.fullmatch(r"small can't be a file of ONNX: .*accumulators .* rounding twice, .* as \.tflite, .*", message)
    assert not (tmp_path / "again.onnx").exists()
    (tmp_path / "folder.onnx").mkdir()
    assert "folder.onnx: Is a directory" in refused(monkeypatch, capsys, "export", model, "-o", "folder.onnx")


def test_a_module_of_a_user_is_compressed(tmp_path, monkeypatch, capsys):
    (tmp_path / "net.py").write_text(MODULE)
    module = f"{tmp_path / 'net.py'}:net"
    digits = splits.load("digits").train
    np.savez(tmp_path / "first.npz", images=digits.images.transpose(0, 3, 1, 2), labels=digits.labels)
    data = ("--data", tmp_path / "first.npz")
    options = (*data, "--keep", "30%", "--epochs", 1, "--config", "tiny", "--out", tmp_path)
    text, code = run("compress", module, *options, "--json", tmp_path / "c.json")
    assert code == 0
    said = " ".join(text.split())
    assert f"next: offramp verify {tmp_path / 'network.off'} --config tiny --data {data[1]}" in said
    found = json.loads((tmp_path / "c.json").read_text())
    assert (found["keep"], found["model"]) == (0.3, module)
    assert len(found["epochs"]["fine-tune"]) == 1
    (history,) = page_of(read_result(tmp_path / "c.json")).sections[0].charts
    assert history.data["stage"][0] == "fine-tune"
    assert found["after"]["weights"] <= 0.31 * found["before"]["weights"]
    assert kind_of(tmp_path / "network.off") == "network"
    assert found["notes"] == []
    first = tmp_path / "first.npz"
    assert found["measured_on"] == f"{first}, 20 % to measure"
    assert "whether the module was trained on them isn't known" in said
    (tmp_path / "net.py").write_text(
        f"{MODULE}\n\ndef flat():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    named = (*options[:-1], tmp_path / "mine.off")
    text, _ = run("compress", f"{tmp_path / 'net.py'}:flat", *named, "--json", tmp_path / "c.json")
    (note,) = json.loads((tmp_path / "c.json").read_text())["notes"]
    assert note.startswith("images of shape (1, 8, 8) are taken as height, width, channels (1, 8, 8); ")
    assert "--shape says which" in " ".join(text.split())
    assert kind_of(tmp_path / "mine.off") == "network"
    assert (
        refused(monkeypatch, capsys, "compress", module)
        == "--data must name labelled images that a module is fine-tuned on"
    )
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08")
    assert refused(monkeypatch, capsys, "compress", tmp_path / "net.onnx") == (
        f"{tmp_path / 'net.onnx'} must be module.py:factory or a trained network, whose weights compress can train; "
        "offramp import takes it as it is"
    )
    for keep in ("0", "120%", "much"):
        text = f"--keep must be above 0 and at most 1, or in percent, not {keep!r}"
        assert refused(monkeypatch, capsys, "compress", module, "--data", "digits", "--keep", keep) == text


@pytest.mark.parametrize("factory", FACTORIES)
def test_exported_integers_say_all_that_is_computed(factory, tmp_path, monkeypatch):
    """What the page's code makes of the two files, in NumPy alone, is what golden makes of the network."""
    monkeypatch.chdir(tmp_path)
    shape, kind = FACTORIES[factory]
    (tmp_path / "nets.py").write_text(NETWORKS)
    assert run("import", f"nets.py:{factory}", "--shape", shape, "-o", "net.off")[1] == 0
    assert run("export", "net.off", "-o", "integers")[1] == 0
    network = load(tmp_path / "net.off").network
    assert kind in {layer.kind for layer in network.layers}
    assert len(network.exits) == 1 + (factory == "exits")
    described = json.loads((tmp_path / "integers" / "network.json").read_text())
    with np.load(tmp_path / "integers" / "arrays.npz") as arrays:
        codes = np.random.default_rng(7).integers(-128, 128, (4, *network.input.shape)).astype(np.int8)
        found = page_functions()["run"](described, dict(arrays), codes)
    expected = golden.run(network, codes).tensors
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
