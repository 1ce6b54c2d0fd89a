import numpy as np
import pytest
import torch
from torch import nn

from hw import container
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.training.distillation import Distillation
from models.training.pieces import Piece
from models.training.train import Schedule, fit, predict

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)
VIEWS = Schedule(epochs=5, lr=0.02, batch=64, shift=1, flip=True, views=2)


class Silent(Piece):
    """Labels teach nothing."""

    criterion = True

    def loss(self, run, images, labels, outputs):
        return 0 * outputs[-1].sum()


@pytest.mark.slow
def test_a_student_follows_its_teacher(digits, trained):
    """With the teacher's logits only, without labels, the student answers as the teacher does; its early exit where
    that is taught as well."""
    teacher = trained.model()
    taught = predict(teacher, digits.test.images)[-1].argmax(1)
    alike = {}
    for exits in (0.0, 1.0):
        model = initial(ARCHITECTURE, 0)
        fit(
            model, digits.train, Schedule(epochs=10, lr=0.02), seed=0,
            pieces=[Silent(), Distillation(teacher, exits=exits)],
        )  # fmt: skip
        alike[exits] = [float((head.argmax(1) == taught).mean()) for head in predict(model, digits.test.images)]
    assert min(alike[0.0][-1], alike[1.0][-1]) > 0.85
    assert alike[1.0][0] > alike[0.0][0] + 0.15


class Counting(nn.Module):
    """A teacher that counts the images it is asked about."""

    def __init__(self, model):
        super().__init__()
        self.model, self.asked = model, 0

    def forward(self, x):
        self.asked += len(x)
        return self.model(x)


class Killed(Piece):
    """Ends the run before this epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def before_epoch(self, run):
        if run.epoch == self.epoch:
            raise KeyboardInterrupt


def taught(teacher, split, folder, *, checkpoint=None, killed=None, seed=5, schedule=VIEWS):
    model = initial(ARCHITECTURE, 0)
    fit(
        model, split, schedule, seed=seed, checkpoint=checkpoint,
        pieces=[Silent(), Distillation(teacher, exits=0.5, folder=folder), Killed(killed)],
    )  # fmt: skip
    return {name: value.numpy() for name, value in model.state_dict().items()}


def test_of_fixed_views_the_teacher_sees_each_once(digits, trained, tmp_path):
    """Kept logits are those of the very images that the student sees, and a later run finds them."""
    few, seen = digits.train.take(200), []

    class Seen(Piece):
        def batch(self, run, images, labels):
            for index, image in zip(run.chosen.tolist(), images, strict=True):
                seen.append((run.view, index, image.clone()))
            return images, labels

    teacher = Counting(trained.model())
    distillation = Distillation(teacher, folder=tmp_path)
    fit(initial(ARCHITECTURE, 0), few, VIEWS, seed=5, pieces=[Silent(), distillation, Seen()])
    assert teacher.asked == 2 * 200
    assert len(list(tmp_path.iterdir())) == 2
    assert [(view, index) for view, index, _ in seen[: 2 * 200]] != [(view, index) for view, index, _ in seen[-400:]]
    logits = {}
    for number, path in ((int(path.stem.rpartition("-")[2]), path) for path in tmp_path.iterdir()):
        logits[number] = torch.from_numpy(container.read(path, b"OFFRPART", 1)[1]["logits"])
    assert logits[0].shape == (200, 10)
    assert logits[0].dtype == torch.float16
    with torch.no_grad():
        expected = trained.model()(torch.stack([image for *_, image in seen]))[-1]
    found = torch.stack([logits[view][index] for view, index, _ in seen]).float()
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.002)
    again = Counting(trained.model())
    taught(again, few, tmp_path)
    assert again.asked == 0
    taught(again, few, tmp_path, seed=6)
    assert again.asked == 400


def test_kept_logits_and_a_resumed_run_give_equal_weights(digits, trained, tmp_path):
    few = digits.train.take(200)
    whole = taught(trained.model(), few, None)
    path = tmp_path / "progress.off"
    for epoch in (1, 4):
        with pytest.raises(KeyboardInterrupt):
            taught(trained.model(), few, tmp_path / "kept", checkpoint=path, killed=epoch)
    resumed = taught(trained.model(), few, tmp_path / "kept", checkpoint=path)
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


def test_damaged_logits_are_refused(digits, trained, tmp_path):
    few = digits.train.take(100)
    taught(trained.model(), few, tmp_path)
    path = next(iter(tmp_path.iterdir()))
    for logits in (np.zeros((100, 10)), np.zeros((99, 10), np.float16), np.full((100, 10), np.nan, np.float16)):
        container.write(path, b"OFFRPART", 1, {}, {"logits": logits})
        with pytest.raises(ValueError, match="must hold finite float16 logits of 100 images: delete it"):
            taught(trained.model(), few, tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distillation(nn.Identity(), weight=0), "weight of distillation must be positive, not 0"),
        (lambda: Distillation(nn.Identity(), temperature=-1), "temperature of distillation must be positive, not -1"),
        (lambda: Distillation(nn.Identity(), exits=-1), "exits of distillation must not be negative, not -1"),
    ],
)
def test_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
