"""From a PyTorch module to the handful of steps the accelerator knows: batch norms folded, ReLUs fused."""

from torch import nn

from hw.rules import check_image, require
from models.frontends.pytorch.arrange import arranged, exit_problems
from models.frontends.pytorch.calls import undisturbed
from models.frontends.pytorch.exported import export
from models.frontends.pytorch.guard import compare
from models.frontends.pytorch.operators import lowered
from models.frontends.pytorch.steps import Graph, GraphStep

__all__ = ["Graph", "GraphStep", "lower"]


def lower(model: nn.Module, shape: tuple[int, int, int]) -> Graph:
    """The steps of a network in evaluation mode.

    The network may be of any module of ordinary style, in forms of modules and of functions, in float32, float16,
    bfloat16 or float64; what counts are the operators it computes (:mod:`models.frontends.pytorch.operators`).
    Supported are convolution of one or two dimensions (padding with zeros, also by a padding before it; what groups and
    dilation leave out are weights of zero), batch norm behind it, ReLU behind any of convolution, linear layer and
    addition, addition of two maps, average pool without padding and mean over all positions, max pool, views that
    flatten, and linear layers, which end the network as the logits of an exit. Inputs of convolutions and linear layers
    may be winners alone (:mod:`models.networks.winners`). Weights are copied, as float32; those that a hook or a
    parametrization computes are computed now.

    What comes out has been compared with the module, in float on a few random images.

    Parameters
    ----------
    model : Module
        Takes one image tensor, returns the logits of one exit or a tuple of those of several, the final ones last.
        Neither its modes nor its buffers change.
    shape : tuple of 3 int
        Height, width, channels of an image.

    Raises
    ------
    ValueError
        When the network can't run on the accelerator, or holds a weight that is no number; the message names the
        modules and the lines of the network's code, and gives all reasons that don't follow from others: what reads
        the result of a refused operator is looked at, too.
    """
    check_image(shape)
    require(isinstance(model, nn.Module), f"model must be a torch.nn.Module, not {model!r}")
    with undisturbed(model):
        found = lowered(export(model, shape))
        steps = tuple(found.steps.values())
        problems = [*found.problems, *exit_problems(steps, found.exits)]
        if problems:
            raise ValueError("; ".join(problems))
        graph = arranged(shape, steps, found.exits)
        compare(graph, found)
    return graph
