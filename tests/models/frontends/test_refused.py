import torch

from models.frontends.refused import OPERATOR, refused


def test_zeros_of_the_sizes_for_each_image():
    for device in ("cpu", "meta"):
        found = refused(torch.ones(3, 2, 5, device=device), [4, 1], "reason")
        assert (found.shape, found.dtype) == ((3, 4, 1), torch.float32)
    assert not refused(torch.ones(3, 2), [4], "reason").any()


def test_an_exported_graph_holds_it_with_its_reason():
    class Net(torch.nn.Module):
        def forward(self, x):
            return refused(x, [2], "no such operator")

    (node,) = [node for node in torch.export.export(Net(), (torch.ones(1, 3),)).graph.nodes if node.target == OPERATOR]
    assert node.args[1:] == ([2], "no such operator")
