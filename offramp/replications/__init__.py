"""Do the methods' claims hold here? Small training runs that check them, whose figures are committed as they come.

``python -m offramp.replications NAME --out FILE`` runs one on CIFAR-10 and ResNet-8 of MLPerf Tiny, beginning with the
official weights. A claim that doesn't hold is reported as that; nothing is tuned until it does.
"""
