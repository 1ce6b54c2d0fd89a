"""The passes up to a planner, or to a schedule, for tests of what stands behind them."""

from hw.compiler.choose import choose
from hw.compiler.expand import Expanded, expand
from hw.compiler.lower import lower
from hw.compiler.place import place
from hw.compiler.prove import prove
from hw.compiler.schedule import Scheduled, schedule
from hw.compiler.search.partition_options import Options
from hw.compiler.search.planner import Planner
from hw.config import AcceleratorConfig
from hw.network.network import Network

__all__ = ["expanded", "planner", "scheduled"]


def expanded(network: Network, config: AcceleratorConfig, **densities: float | None) -> Expanded:
    """All options of all steps."""
    return expand(prove(lower(network), config), Options(network, config, densities))


def planner(
    network: Network, config: AcceleratorConfig, *, in_place: bool = False, **densities: float | None
) -> Planner:
    """What the options cost together."""
    return expanded(network, config, **densities).planner(in_place=in_place)


def scheduled(network: Network, config: AcceleratorConfig, *, streamed: bool = False) -> Scheduled:
    """What the cheapest options come to, with lists that are kept or read."""
    chosen = choose(expanded(network, config), in_place=False, streamed=streamed, list_words=config.list_words)
    return schedule(place(chosen))
