import itertools

import numpy as np
import pytest
import torch

from models.methods.dnr import DynamicL2, Rewiring, layers_of
from models.methods.rewire import MODES
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.training.pieces import Piece
from models.training.train import Schedule, accuracy, fit, predict

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(8, 16), branch_width=4)
SGD = Schedule(epochs=4, lr=0.1, optimizer="sgd", policy="cosine")


@pytest.fixture(scope="module")
def few(digits):
    return digits.train.take(200)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_as_many_weights_from_the_first_step_to_the_last(few, mode, optimizer):
    class Count(Piece):
        def after_step(self, run):
            weights = dict(run.model.named_parameters())
            nonzero.append(sum(int(weights[name].count_nonzero()) for name in rewiring.masks))
            for name, mask in rewiring.masks.items():
                assert not weights[name][mask == 0].any()

    nonzero, rewiring = [], Rewiring(0.3, mode=mode)
    schedule = Schedule(epochs=4, lr=0.01, optimizer=optimizer)
    metrics = fit(initial(ARCHITECTURE, 0), few, schedule, seed=0, pieces=[rewiring, Count()])
    assert {epoch["nonzero"] for epoch in metrics} == {nonzero[0]}
    # A channel that came back stays zero while nothing is to be learnt from it.
    assert set(nonzero) == {nonzero[0]} if mode == "irregular" else max(nonzero) == nonzero[0]


def test_masks_move_less_and_less(few):
    class Watch(Piece):
        def before_epoch(self, run):
            masks.append({name: mask.clone() for name, mask in rewiring.masks.items()})

    masks, rewiring = [], Rewiring(0.3)
    fit(initial(ARCHITECTURE, 0), few, SGD, seed=0, pieces=[rewiring, Watch()])
    masks.append(rewiring.masks)
    changes = [
        sum(int((later[name] != mask).sum()) for name, mask in before.items())
        for before, later in itertools.pairwise(masks)
    ]
    assert changes[0] > changes[1] > changes[2] > changes[3] == 0


def test_densities_become_uneven(digits):
    metrics = fit(initial(ARCHITECTURE, 0), digits.train, SGD, seed=0, pieces=[Rewiring(0.2)])
    densities = [value for name, value in metrics[-1].items() if name.startswith("density of ")]
    assert max(densities) > 2 * min(densities)


@pytest.mark.slow
def test_a_sparse_network_learns(digits):
    model = initial(ARCHITECTURE, 0)
    rewiring = Rewiring(0.2)
    schedule = Schedule(epochs=20, lr=0.1, optimizer="sgd", policy="cosine")
    fit(model, digits.train, schedule, seed=0, pieces=[rewiring, DynamicL2()])
    assert accuracy(predict(model, digits.test.images)[-1], digits.test.labels) > 0.93


def test_rate_0_keeps_the_random_masks(few):
    rewiring, other = Rewiring(0.3, rate=0.0), Rewiring(0.3, rate=0.0)
    fit(initial(ARCHITECTURE, 0), few, SGD, seed=0, pieces=[rewiring])
    fit(initial(ARCHITECTURE, 1), few, Schedule(epochs=1, lr=0.1, optimizer="sgd"), seed=0, pieces=[other])
    assert all(torch.equal(mask, other.masks[name]) for name, mask in rewiring.masks.items())


def test_channel_mode_spares_what_reads_the_image():
    model = initial(ARCHITECTURE, 0)
    assert "stem.conv.weight" in layers_of(model, "irregular")
    assert "stem.conv.weight" not in layers_of(model, "channel")
    assert set(layers_of(model, "irregular")) - set(layers_of(model, "channel")) == {"stem.conv.weight"}


def test_the_penalty_pulls_towards_where_weights_were(few):
    class Check(Piece):
        def before_epoch(self, run):
            held = dict(run.model.named_parameters())
            before[run.epoch] = {name: held[name].detach().clone() for name in rewiring.masks}

        def loss(self, run, images, labels, outputs):
            found = penalty.loss(run, images, labels, outputs)
            if run.epoch < 2:
                assert found is None
                return
            held = dict(run.model.named_parameters())
            moved = sum((held[name] - before[run.epoch][name]).square().sum() for name in rewiring.masks)
            torch.testing.assert_close(found, 0.5 * 0.2 * moved, rtol=1e-4, atol=1e-6)
            if run.done % run.steps:
                (gradient,) = torch.autograd.grad(found, held["late.first.conv.weight"])
                wanted = 0.2 * (held["late.first.conv.weight"] - before[run.epoch]["late.first.conv.weight"])
                torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
                checked.append(run.epoch)

    before, checked, rewiring = {}, [], Rewiring(0.3)
    penalty = DynamicL2(rho=0.2, start=2)
    fit(initial(ARCHITECTURE, 0), few, SGD, seed=0, pieces=[rewiring, penalty, Check()])
    assert set(checked) == {2, 3}


def test_it_resumes_exactly(few, tmp_path):
    def pieces():
        return [Rewiring(0.3), DynamicL2(start=1)]

    def stop(done, total, text):
        if done > total // 2:
            raise KeyboardInterrupt

    path = tmp_path / "run"
    whole, part, again = (initial(ARCHITECTURE, 0) for _ in range(3))
    fit(whole, few, SGD, seed=0, pieces=pieces())
    with pytest.raises(KeyboardInterrupt):
        fit(part, few, SGD, seed=0, pieces=pieces(), checkpoint=path, progress=stop)
    fit(again, few, SGD, seed=0, pieces=pieces(), checkpoint=path)
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, again.state_dict()[name], err_msg=name)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Rewiring(0.0), "density must be above 0 and at most 1, not 0"),
        (lambda: Rewiring(0.5, rate=1.5), r"rewiring rate must be in 0\.\.1, not 1\.5"),
        (lambda: Rewiring(0.5, mode="row"), "mode must be one of irregular, channel, not 'row'"),
        (lambda: DynamicL2(rho=0.0), "rho must be positive, not 0"),
        (lambda: DynamicL2(start=-1), "start must not be negative, not -1"),
    ],
)
def test_impossible(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_pieces_that_do_not_fit(few):
    model = initial(ARCHITECTURE, 0)
    with pytest.raises(ValueError, match="rewiring of 'nothing' has no parameter of that name"):
        fit(model, few, SGD, seed=0, pieces=[Rewiring(0.5, names=["nothing"])])
    adadelta = Schedule(epochs=2, lr=0.1, optimizer="adadelta")
    with pytest.raises(ValueError, match="needs an optimizer with momentum, not Adadelta"):
        fit(model, few, adadelta, seed=0, pieces=[Rewiring(0.5)])
