"""The command that adds an exit to a finished network."""

import numpy as np

from offramp.files.kinds import kind_of
from tests.offramp.command_line import run
from tests.offramp.intake.models import tflite_file


def test_an_exit_is_added_and_what_is_to_know_of_the_model_is_said(tmp_path):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=random.random((80, 4, 4, 1)), y=random.integers(0, 3, 80))
    options = ("--after", "conv2d_0", "--data", tmp_path / "x.npz", "--config", "tiny", "-o", tmp_path / "more.off")
    text, code = run("exit add", tflite_file(tmp_path), *options)
    assert code == 0
    said = " ".join(text.split())
    assert "classes of output tensor" in said
    assert "x.npz: 70 % to learn, 10 % to choose, 20 % to measure" in said
    assert f"next: offramp verify {options[-1]} --config tiny --data {options[3]}" in said
    assert kind_of(tmp_path / "more.off") == "network"
