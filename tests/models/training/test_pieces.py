import torch
from torch import nn

from models.training.pieces import WatchingPiece


def test_a_piece_sees_what_a_module_computes_until_the_run_ends():
    piece, module, seen = WatchingPiece(), nn.ReLU(), []
    piece.watch(module, lambda module, inputs, output: seen.append(output))
    module(torch.ones(1))
    piece.end(None)
    module(torch.ones(1))
    assert len(seen) == 1
