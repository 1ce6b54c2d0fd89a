import torch

from models.training.hyperparameters import Schedule
from models.training.views import View, augmented

SCHEDULE = Schedule(epochs=1, lr=1, shift=2, flip=True, views=4)


def test_shift_moves_whole_images():
    images = torch.rand(64, 2, 5, 6, generator=torch.Generator().manual_seed(0)) + 1
    moved = augmented(images, Schedule(epochs=1, lr=1, shift=1), torch.Generator().manual_seed(3))
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    choices = [padded[:, :, row : row + 5, column : column + 6] for row in range(3) for column in range(3)]
    found = torch.stack([(choice == moved).flatten(1).all(dim=1) for choice in choices])
    assert (found.sum(dim=0) == 1).all()
    assert (found.sum(dim=1) > 0).all()


def test_flip_mirrors_about_half():
    images = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    flipped = augmented(images, Schedule(epochs=1, lr=1, flip=True), torch.Generator().manual_seed(3))
    mirrored = (flipped == images.flip(3)).flatten(1).all(dim=1)
    assert ((flipped == images).flatten(1).all(dim=1) ^ mirrored).all()
    assert 30 < mirrored.sum() < 70


def test_a_view_is_the_same_every_time():
    """Whatever is drawn elsewhere; other numbers and other seeds are other views."""
    images = torch.rand(64, 2, 5, 6, generator=torch.Generator().manual_seed(0)) + 1
    every = torch.arange(64)
    shown = View.of(SCHEDULE, 64, seed=3, number=1).show(images, every)
    torch.rand(3)
    assert torch.equal(View.of(SCHEDULE, 64, seed=3, number=1).show(images, every), shown)
    for seed, number in ((3, 0), (4, 1)):
        assert not torch.equal(View.of(SCHEDULE, 64, seed=seed, number=number).show(images, every), shown)
    chosen = torch.tensor([7, 3, 50])
    assert torch.equal(View.of(SCHEDULE, 64, seed=3, number=1).show(images[chosen], chosen), shown[chosen])


def test_views_move_as_far_as_they_may_and_mirror_in_turn():
    images = torch.rand(300, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    views = [View.of(SCHEDULE, 300, seed=0, number=number) for number in range(4)]
    assert {int(value) for view in views for value in view.offsets.flatten()} == set(range(5))
    assert torch.equal(views[0].mirrored, views[2].mirrored)
    assert torch.equal(views[0].mirrored, ~views[1].mirrored)
    assert 100 < views[0].mirrored.sum() < 200
    still = View.of(Schedule(epochs=1, lr=1, views=2), 300, seed=0, number=1)
    assert torch.equal(still.show(images, torch.arange(300)), images)
    turned = View.of(Schedule(epochs=1, lr=1, flip=True, views=2), 300, seed=0, number=1)
    expected = torch.where(turned.mirrored[:, None, None, None], images.flip(3), images)
    assert torch.equal(turned.show(images, torch.arange(300)), expected)
