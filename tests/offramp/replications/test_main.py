import json

import pytest

from offramp.replications import __main__ as command


class Quick:
    """A replication that trains nothing."""

    @staticmethod
    def train(setting):
        return {"images": len(setting.dataset.train), "epochs": setting.epochs}, {}

    @staticmethod
    def checks(figures, measured):
        return [{"claim": "there are 50 images", "holds": figures["images"] == 50, "figures": figures}]


def test_it_writes_figures_checks_and_where_they_come_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "import_module", lambda name: Quick)
    options = ["--data", "digits", "--images", "50", "--test", "20", "--epochs", "3", "--seed", "4"]
    assert command.main(["gap", "--out", str(tmp_path / "gap.json"), *options]) == 0
    found = json.loads((tmp_path / "gap.json").read_text(encoding="utf-8"))
    assert found["figures"] == {"images": 50, "epochs": 3}
    assert found["dataset"] == "digits"
    assert found["command"] == f"python -m offramp.replications gap {' '.join(options)} --config base-85f"
    assert found["seed"] == 4
    assert capsys.readouterr().out.startswith("holds: there are 50 images")


def test_official_weights_are_for_one_data_set(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["jpnet", "--out", str(tmp_path / "x.json"), "--data", "digits"])
    assert (
        "jpnet begins with official weights, which are for cifar10: --data must not be given" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [("--images", "0"), ("--test", "-1"), ("--epochs", "0"), ("--seed", "-1"), ("--seed", "9" * 20)],
)
def test_numbers_out_of_range_are_refused(tmp_path, capsys, option, value):
    with pytest.raises(SystemExit) as end:
        command.main(["gap", "--out", str(tmp_path / "x.json"), f"{option}={value}"])
    assert end.value.code == 2
    assert f"argument {option}: {value} is not in the range" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        command.main(["gap", "--out", str(tmp_path / "file" / "x.json")])
