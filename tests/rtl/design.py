"""The design of the quick tests on RTL, with every unit.

Verilator takes a minute to build each: they have this one, and ``tiny``, which the demo's test needs.
"""

from hw.config import preset

#: Small enough that lists of random networks are read during the run, and maps are made in strips.
QUICK = preset("tiny").replace(
    cores=4, lanes=2, loader=1, list_words=256, activation_words=256, classes=256, fast_sums=1
)
