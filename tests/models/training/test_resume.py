import math

import numpy as np
import pytest
import torch
from torch import nn

from hw import container
from models.training import train
from models.training.hyperparameters import Schedule
from models.training.pieces import Piece
from models.training.standard_pieces import AdversarialExamples, Projection, Ramp, Validation
from models.training.train import fit
from tests.models.training.annealed import Annealed

EPOCHS = 4


class Noisy(nn.Module):
    """Batch norm, dropout and a convolution: statistics and torch's generator matter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(4 * 36, 10))
        self.strength = 0.0

    def forward(self, x):
        x = self.norm(self.conv(x))
        if self.training:
            x = x + self.strength * torch.randn(x.shape)
        return (self.body(x),)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Noisy()


class KilledError(Exception):
    """Stands for a signal in the middle of a run."""


class Counter(Piece):
    """Keeps a sum of what it saw; stops the run in the middle of an epoch when asked to."""

    def __init__(self, killed_in=None):
        self.killed_in, self.seen, self.ended = killed_in, torch.zeros(10), False

    def batch(self, run, images, labels):
        if run.epoch == self.killed_in and run.done % run.steps == 2:
            raise KilledError
        self.seen += torch.bincount(labels, minlength=10)
        return images, labels

    def after_epoch(self, run):
        run.record("seen", float(self.seen.sum()))

    def state_dict(self):
        return {"seen": self.seen, "shape": (10,), "name": "counter", "none": None, "by number": {3: [True, 0.1]}}

    def load_state_dict(self, state):
        assert state["shape"] == (10,)
        assert (state["name"], state["none"], state["by number"]) == ("counter", None, {3: [True, 0.1]})
        self.seen = state["seen"]

    def end(self, run):
        self.ended = True


def trained(few, path, schedule, killed_in=None, progress=None):
    """One run: the network's state, its metrics, what the counter saw."""
    model, counter = network(), Counter(killed_in)

    def put(value):
        model.strength = value

    pieces = [
        Annealed(Ramp(first=0.1, last=0.5, geometric=True), put),
        Projection({"conv.weight": lambda weight: weight.sign() * weight.abs().mean()}),
        AdversarialExamples(eps=0.1, steps=2, share=0.5),
        counter,
        Validation(few),
    ]
    metrics = fit(model, few, schedule, seed=7, pieces=pieces, checkpoint=path, progress=progress)
    assert counter.ended
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}, metrics, counter.seen.numpy()


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(epochs=EPOCHS, lr=0.01, batch=32, shift=1),
        Schedule(epochs=EPOCHS, lr=0.05, batch=32, optimizer="sgd", policy="steps", flip=True, channels_last=True),
        Schedule(epochs=EPOCHS, lr=0.5, batch=32, optimizer="adadelta", policy="constant"),
    ],
    ids=lambda schedule: f"{schedule.optimizer} {schedule.policy}",
)
@pytest.mark.parametrize("kept_every", [0.0, math.inf])
def test_a_killed_run_ends_as_if_it_had_never_stopped(digits, tmp_path, monkeypatch, schedule, kept_every):
    """Also one that was kept within an epoch, which goes on at its step."""
    few = digits.train.take(200)
    monkeypatch.setattr(train, "_KEPT_EVERY", kept_every)
    whole = trained(few, None, schedule)
    path = tmp_path / "progress.off"
    for epoch in (1, 3):
        with pytest.raises(KilledError):
            trained(few, path, schedule, killed_in=epoch)
    torch.rand(5)  # torch's own generator has no influence
    said = []
    resumed = trained(few, path, schedule, progress=lambda done, total, text: said.append(done))
    assert said[0] == 7 * 3 + 1 + (2 if kept_every == 0 else 0)  # 200 images are 7 batches
    for name, value in whole[0].items():
        np.testing.assert_array_equal(resumed[0][name], value, err_msg=name)
    assert resumed[1] == whole[1]
    assert len(whole[1]) == EPOCHS
    np.testing.assert_array_equal(resumed[2], whole[2])
    again = trained(few, path, schedule)  # nothing left to do
    np.testing.assert_array_equal(again[0]["conv.weight"], whole[0]["conv.weight"])
    assert list(tmp_path.iterdir()) == [path]


def stopped(model, few, schedule, path, *pieces):
    """A run that ends in its second epoch, and leaves its file."""
    with pytest.raises(KilledError):
        fit(model, few, schedule, seed=0, pieces=[*pieces, Stop()], checkpoint=path)


class Stop(Piece):
    """Ends the first run in its second epoch."""

    def before_epoch(self, run):
        if run.epoch == 1:
            raise KilledError


def test_another_run_is_refused(digits, tmp_path):
    few, path = digits.train.take(64), tmp_path / "progress.off"
    schedule = Schedule(epochs=1, lr=0.01)
    fit(network(), few, schedule, seed=0, checkpoint=path)
    for other, seed, pieces in [
        (Schedule(epochs=2, lr=0.01), 0, []),
        (schedule, 1, []),
        (schedule, 0, [Validation(few)]),
    ]:
        with pytest.raises(ValueError, match="must be of the same settings, seed, data and network as this run"):
            fit(network(), few, other, seed=seed, pieces=pieces, checkpoint=path)
    with pytest.raises(ValueError, match="must be of the same settings"):
        fit(network(), digits.train.take(65), schedule, seed=0, checkpoint=path)


def test_a_damaged_file_is_refused(digits, tmp_path):
    few, path = digits.train.take(64), tmp_path / "progress.off"
    schedule = Schedule(epochs=1, lr=0.01)
    fit(network(), few, schedule, seed=0, checkpoint=path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="altered: the checksum does not match"):
        fit(network(), few, schedule, seed=0, checkpoint=path)
    container.write(path, b"OFFRCKPT", 1, {}, {})
    with pytest.raises(ValueError, match="must be a part of a training, not a trained or compressed network"):
        fit(network(), few, schedule, seed=0, checkpoint=path)


def test_a_run_of_a_gpu_goes_on_without_one(digits, tmp_path):
    """Its file holds the state of the GPU's generator as well."""
    few, path, schedule = digits.train.take(64), tmp_path / "progress.off", Schedule(epochs=1, lr=0.01)
    model = network()
    fit(model, few, schedule, seed=0, checkpoint=path)
    manifest, arrays = container.read(path, b"OFFRPART", 1)
    pairs = manifest["state"]["$pairs"]
    manifest["state"]["$pairs"] = [[name, {"$array": "gpu"} if name == "cuda" else kept] for name, kept in pairs]
    container.write(path, b"OFFRPART", 1, manifest, arrays | {"gpu": np.zeros(16, np.uint8)})
    resumed = network()
    fit(resumed, few, schedule, seed=0, checkpoint=path)
    assert torch.equal(resumed.conv.weight, model.conv.weight)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, value) for key in ("metrics", "pieces", "policy", "torch", "model") for value in (7, [], None, "x")),
        *(("metrics", [value]) for value in (7, {"$pairs": []}, {"$pairs": [["loss", "low"]]}, {"$pairs": [[3, 0.5]]})),
        *(("epochs", value) for value in (0, 2, 7, "1", True)),
        ("generator", {"$array": "none"}),
        ("generator", {"$array": "tensor0"}),
        ("optimizer", {"$pairs": []}),
    ],
)
def test_an_impossible_state_is_refused(digits, tmp_path, key, value):
    few, path = digits.train.take(64), tmp_path / "progress.off"
    schedule = Schedule(epochs=2, lr=0.01)
    stopped(network(), few, schedule, path)
    manifest, arrays = container.read(path, b"OFFRPART", 1)
    manifest["state"]["$pairs"] = [[name, value if name == key else kept] for name, kept in manifest["state"]["$pairs"]]
    container.write(path, b"OFFRPART", 1, manifest, arrays)
    with pytest.raises(ValueError, match=r"progress.off: must hold a state of this run: .*: delete it to begin anew"):
        fit(network(), few, schedule, seed=0, pieces=[Stop()], checkpoint=path)


def changed(node, name, value):
    """A tree of pairs, lists and tuples with whatever has this name replaced."""
    if isinstance(node, dict):
        parts = node.get("$pairs", node.get("$tuple", []))
        if "$pairs" in node:
            return {"$pairs": [[key, value if key == name else changed(part, name, value)] for key, part in parts]}
        return {"$tuple": [changed(part, name, value) for part in parts]} if "$tuple" in node else node
    return [changed(part, name, value) for part in node] if isinstance(node, list) else node


@pytest.mark.parametrize("kind", ["adamw", "sgd", "adadelta"])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lr", "x", r"optimizer\.0\.lr must be .*, not 'x'"),
        ("lr", 0.9, r"optimizer\.0\.lr must be .*, not 0\.9"),
        ("initial_lr", None, r"optimizer\.0\.initial_lr must be .*, not None"),
        ("last_epoch", 0, r"policy\.last_epoch must be 2, not 0"),
        ("_last_lr", [], r"policy\._last_lr must be a list of 1, not \[\]"),
        ("params", [0], r"optimizer\.0\.params must be a list of 6, not \[0\]"),
        ("conv.weight", 1.0, r"model\.conv\.weight must be torch\.float32 \(4, 1, 3, 3\), not 1\.0"),
        ("none", 1, r"Counter\.none must be NoneType, not 1"),
        ("shape", [10], r"Counter\.shape must be a tuple of 1, not \[10\]"),
    ],
)
def test_a_part_of_another_form_is_named(digits, tmp_path, kind, name, value, said):
    few, path = digits.train.take(64), tmp_path / "progress.off"
    schedule = Schedule(
        epochs=2, lr=0.01, optimizer=kind, policy="one-cycle" if kind == "adamw" else "cosine", batch=32
    )
    stopped(network(), few, schedule, path, Counter())
    manifest, arrays = container.read(path, b"OFFRPART", 1)
    container.write(path, b"OFFRPART", 1, manifest | {"state": changed(manifest["state"], name, value)}, arrays)
    with pytest.raises(ValueError, match=f"progress.off: must hold a state of this run: {said}: delete it to begin"):
        fit(network(), few, schedule, seed=0, pieces=[Counter(), Stop()], checkpoint=path)


@pytest.mark.parametrize("steps", [np.float32(-1), np.float32(3), np.float32(1.5)])
def test_an_optimizer_of_other_steps_is_refused(digits, tmp_path, steps):
    few, path = digits.train.take(64), tmp_path / "progress.off"
    schedule = Schedule(epochs=2, lr=0.01, batch=32)
    stopped(network(), few, schedule, path)
    manifest, arrays = container.read(path, b"OFFRPART", 1)
    counted = [name for name, array in arrays.items() if array.shape == () and array.dtype == np.float32]
    container.write(path, b"OFFRPART", 1, manifest, arrays | {counted[0]: np.array(steps)})
    with pytest.raises(ValueError, match=rf"steps of parameter \d must be in 1\.\.2, not {steps:g}: delete"):
        fit(network(), few, schedule, seed=0, pieces=[Stop()], checkpoint=path)


@pytest.fixture
def inside(digits, tmp_path, monkeypatch):
    """What a run keeps of its second epoch in progress; a function that runs it anew or goes on."""
    few, path = digits.train.take(128), tmp_path / "progress.off"
    schedule = Schedule(epochs=2, lr=0.01, batch=32)
    monkeypatch.setattr(train, "_KEPT_EVERY", 0.0)

    def run(path=path, killed_in=None):
        return fit(network(), few, schedule, seed=0, pieces=[Counter(killed_in)], checkpoint=path)

    with pytest.raises(KilledError):
        run(killed_in=1)
    return path.with_name("progress.step.off"), run


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("losses", [], r"losses must be those of 1\.\.4 steps"),
        ("losses", [0.5] * 5, r"losses must be those of 1\.\.4 steps"),
        ("losses", ["low"], r"losses must be those of 1\.\.4 steps"),
        ("losses", [0.5], r"policy\.last_epoch must be 5, not 6"),
        ("order", {"$array": "tensor0"}, r"order must be torch\.int64"),
        ("recorded", {"$pairs": [[3, 0.5]]}, "metrics of epoch 1 must be numbers by name"),
        ("epochs", "1", "epochs must be a whole number"),
    ],
)
def test_an_impossible_state_within_an_epoch_is_refused(inside, key, value, said):
    path, run = inside
    manifest, arrays = container.read(path, b"OFFRPART", 1)
    manifest["state"]["$pairs"] = [[name, value if name == key else kept] for name, kept in manifest["state"]["$pairs"]]
    container.write(path, b"OFFRPART", 1, manifest, arrays)
    with pytest.raises(ValueError, match=rf"progress.step.off: must hold a state of this run: {said}.*: delete it"):
        run()


def test_what_is_left_of_an_epoch_that_was_done_is_ignored(inside, tmp_path):
    """A run may stop after it has written the one file, and before the other is gone."""
    path, run = inside
    other = tmp_path / "other.off"
    with pytest.raises(KilledError):
        run(other, killed_in=0)
    (tmp_path / "other.step.off").rename(path)
    assert run() == run(tmp_path / "whole.off")
