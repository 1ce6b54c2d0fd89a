"""The report of the zoo and of the published methods."""

from collections.abc import Callable, Iterator
from typing import Any

from offramp.report.pages.section import Section
from offramp.report.plots.chart import Chart
from offramp.report.plots.claims import attacked_networks, claims_held
from offramp.report.plots.tradeoffs import accuracy_against_cycles
from offramp.report.tables import methods, zoo_tables

__all__ = ["methods_sections", "zoo_sections"]


def zoo_sections(networks: list[dict[str, Any]]) -> list[Section]:
    """The zoo's networks (:class:`models.zoo.ZooEntry`)."""
    clock = zoo_tables.pll_clock(networks)
    return [
        Section(
            title="Networks",
            charts=(
                *_each(networks, lambda data: accuracy_against_cycles(networks, data, clock)),
                *_each(networks, lambda data: attacked_networks(networks, data)),
            ),
            tables=(zoo_tables.networks(networks), *zoo_tables.on_configs(networks)),
            note="Accuracies are of the whole test set, but for those of the first images that were attacked at 8/255: "
            "clean, under PGD-20, and under all attacks in turn (models.attacks.robustness). Active activations are "
            "multiplied. Images/s are those over the bitstream's serial link; in brackets whether core or link is the "
            "limit. Products have two nonzero factors and are a "
            "share of the dense multiply-accumulates without early exits.",
        )
    ]


def methods_sections(found: dict[str, Any]) -> list[Section]:
    """The methods' committed results (:func:`offramp.report.tables.methods.collect`) and the networks of the zoo."""
    results = found["methods"]
    runs = [f"{result['method']}: {result['command']}, {result['date']}" for result in results.values()]
    return [
        *zoo_sections(found["networks"]),
        Section(
            title="Claims of the methods",
            charts=tuple(_each(results.values(), lambda data: claims_held(results, data))),
            tables=(methods.claims(results),),
            note="worst is the share of the attacked images that withstand every attack; all attacks beside it were on "
            "the same ones, the first of the test set, as many as attacked says.",
        ),
        Section(
            title="The methods' networks on the accelerator",
            tables=(methods.accelerator(results),),
            note="Means over 200 test images, by the simulator.",
        ),
        Section(
            title="One exit rule on a network as it is, pruned, quantized and both",
            tables=(methods.orthogonality(results),),
            note=f"A branch is added to each, and taken where its largest softmax is 0.9 or more "
            f"({methods.tried(results, 'dab')}).",
        ),
        Section(
            title="As many weights of every output channel, or of every layer only",
            tables=(methods.balance(results),),
            note=f"Both networks have the same density in every layer ({methods.tried(results, 'balance')}).",
        ),
        Section(title="Where it comes from", tables=tuple(runs)),
    ]


def _each(found: Any, chart: Callable[[str], Chart]) -> Iterator[Chart]:
    """A figure for each data set."""
    return map(chart, dict.fromkeys(each["dataset"] for each in found))
