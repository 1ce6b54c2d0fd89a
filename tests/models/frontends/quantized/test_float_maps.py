"""Maps that a program leaves in float: on images they are rounded, where they are read and nowhere else."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.frontends.quantized.float_maps import import_on_images
from models.frontends.quantized.reader import UnroundedError, import_quantized
from models.integer import golden
from tests.models.frontends.quantized.quantized_programs import (
    Block,
    Quantized,
    conv,
    converted,
    head,
    images,
    seeded,
)


def program_of(body, shape=(2, 2, 4, 4)):
    """A program of two images of what is written down."""
    return torch.export.export(Quantized(body).eval(), (torch.zeros(shape),))


def pooled(net, x):
    """An average of a map in float, which is also read as codes."""
    x = F.relu(conv(net, net.round(x), 4))
    y = net.round(F.avg_pool2d(x, 2), 0.02)
    return head(net, net.round(F.max_pool2d(conv(net, net.round(x), depth=4), 2) + y, 0.1))


def both(net, x):
    """A sum of two maps in float."""
    x = net.round(x)
    return head(net, net.round(conv(net, x, 2) + conv(net, x, 2, seed=1), 0.1))


@pytest.mark.parametrize(
    ("body", "nodes"),
    [
        (pooled, ("relu",)),
        (both, ("conv2d", "conv2d_1")),
        (lambda n, x: F.adaptive_avg_pool2d(F.relu(conv(n, n.round(x))), 1).flatten(1), ("relu",)),
        (lambda n, x: conv(n, F.dropout(F.relu(conv(n, n.round(x), 4)), training=False), depth=4).mean((2, 3)),
         ("relu", "conv2d_1")),
    ],
)  # fmt: skip
def test_maps_in_float_are_rounded_on_the_range_of_images(body, nodes):
    program, values = program_of(body), images(4, 4, 2, count=7)
    with pytest.raises(UnroundedError, match="read as it is") as said:
        import_quantized(program)
    assert set(said.value.nodes) <= set(nodes)
    before = str(program.graph)
    found = import_on_images(program, values)
    assert str(program.graph) == before
    assert torch.is_grad_enabled()
    names = found.notes[0].partition(":")[0].split(", ")
    assert sorted(names) == sorted(nodes)
    assert "on the range of 7 images" in found.notes[0]
    for name, (made, expected) in found.source.compared(values).items():
        assert name in found.source.outputs or np.abs(made - expected).max() <= 1, name
    with torch.no_grad():
        expected = torch.cat(
            [program.module()(torch.from_numpy(values[[n, n]].transpose(0, 3, 1, 2)))[:1] for n in range(7)]
        )
    head = found.network.layers[-1]
    codes = found.source.image_codes(values, found.source.tensors(found.source.given(values)))
    logits = golden.run(found.network, codes).logits[0] * head.output.scale
    assert np.abs(logits - expected.numpy()).max() < 0.05 * np.abs(expected.numpy()).max()


def test_what_reads_codes_reads_those_that_it_read():
    """The map is rounded for the pool; the convolution behind its own quantize gets what it got."""
    program, values = program_of(pooled), images(4, 4, 2, count=3)
    changed = import_on_images(program, values).source.program
    quantized = [
        node for node in changed.graph.nodes if "quantize_per_tensor" in node.name and node.args[0].name == "relu"
    ]
    assert len(quantized) == 2
    own = next(node for node in quantized if node.args[1] == 0.05)
    assert [user.target for user in next(iter(own.users)).users] == [torch.ops.aten.conv2d.default]


class Named(nn.Module):
    """Its image has a name that copies of graphs change."""

    def __init__(self):
        super().__init__()
        self.net = Quantized(pooled)

    def forward(self, input):
        return self.net(input)


def test_names_of_a_program_stay():
    program = torch.export.export(Named().eval(), (torch.zeros(1, 2, 4, 4),))
    found = import_on_images(program, images(4, 4, 2, count=3))
    assert found.source.program.graph_signature.user_inputs == ("input",)


def test_a_residual_network_of_functions_that_inductors_quantizer_leaves_partly_in_float():
    program, values = converted(seeded(Block), 3, 8, 8, inductor=True), images(8, 8, 3)
    found = import_on_images(program, values)
    assert found.notes[0].startswith("relu_2: left in float by the program, here rounded on the range")
    assert float(found.notes[0].partition("outputs are ")[2].split()[0]) > 35


@pytest.mark.parametrize(
    ("body", "values", "message"),
    [
        (lambda n, x: head(n, n.round(x)), images(4, 4, 2), "^images must go with a program that leaves maps in float"),
        (pooled, images(4, 2, 4), r"^images must be of shape \(N, 4, 4, 2\), not \(16, 4, 2, 4\)"),
        (pooled, images(4, 4, 2)[:0], r"^images must be of shape \(N, 4, 4, 2\), not \(0, 4, 4, 2\)"),
        (
            lambda n, x: head(n, F.gelu(n.round(F.avg_pool2d(conv(n, n.round(x)), 2)))), images(4, 4, 2),
            "^gelu: gelu isn't among the operators",
        ),
        (
            lambda n, x: head(n, n.dq(x) + 0.0), images(4, 4, 2),
            "^images must go with a program that takes floats, not torch.int8",
        ),
    ],
)  # fmt: skip
def test_what_images_do_not_help_is_refused(body, values, message):
    example = torch.zeros((2, 2, 4, 4), dtype=torch.int8 if "floats" in message else torch.float32)
    program = torch.export.export(Quantized(body).eval(), (example,))
    with pytest.raises(ValueError, match=message):
        import_on_images(program, values)
