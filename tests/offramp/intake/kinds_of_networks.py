"""Float modules of every structure that users bring, as factories of one file; images are 8x8x3, of one row 1x32x2."""

#: Factories of the file, each with the shape of its images and a kind of layer that it must become.
FACTORIES = {
    "plain": ("8,8,3", "conv2d"),
    "residual": ("8,8,3", "add"),
    "depthwise": ("8,8,3", "depthwise_conv2d"),
    "side_by_side": ("8,8,3", "max_pool2d"),
    "exits": ("8,8,3", "linear"),
    "one_row": ("1,32,2", "conv2d"),
}

NETWORKS = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, body, inputs=3, dimensions=2, groups=1):
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d)[dimensions - 1]
        self.body, self.stem, self.inner = body, conv(inputs, 8, 3, padding=1), conv(8, 8, 3, padding=1, groups=groups)
        self.norm, self.head, self.wide = nn.BatchNorm2d(8), nn.Linear(8, 5), nn.Linear(16, 5)

    def forward(self, x):
        return self.body(self, F.relu(self.stem(x)))


def made(body, **sizes):
    torch.manual_seed(3)
    return Net(body, **sizes)


def mean(x):
    return x.mean((2, 3))


def plain():
    return made(lambda net, x: net.head(mean(F.relu6(net.norm(net.inner(F.max_pool2d(x, 2)))))))


def residual():
    return made(lambda net, x: net.head(mean(F.relu(net.inner(x) + x))))


def depthwise():
    return made(lambda net, x: net.head(mean(F.relu6(net.inner(x)))), groups=8)


def side_by_side():
    return made(lambda net, x: net.wide(mean(torch.cat([F.relu(net.inner(x)), F.max_pool2d(x, 3, 1, 1)], 1))))


def exits():
    return made(lambda net, x: (net.head(mean(x)), net.head(mean(F.relu(net.inner(x))))))


def one_row():
    return made(lambda net, x: net.head(F.relu(net.inner(x)).mean(2)), inputs=2, dimensions=1)
"""
