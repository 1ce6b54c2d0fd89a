"""``python -m offramp.replications NAME --out FILE``: run one and write its result."""

import argparse
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path

from hw.config import preset
from hw.output import STANDARD_OUTPUT, check_file
from models.datasets.splits import NAMES
from offramp.files.result_file import provenance, write_json
from offramp.replications.start import Setting, official, on_accelerator
from offramp.replications.toy import half_width
from offramp.terminal.options import MOST_IMAGES, MOST_SEED

__all__ = ["REPLICATIONS", "main"]

#: By name of a module in this package with ``train``, which gives figures and integer networks, and ``checks``, which
#: judges them: what it begins with, what network that is, and on what data.
REPLICATIONS: dict[str, tuple[Callable[..., Setting], str, str]] = {
    "balance": (official, "ResNet-8 of MLPerf Tiny, official weights", "cifar10"),
    "binary_relax": (half_width, "ResNet-8 of half the width", "fashion-mnist"),
    "dab": (half_width, "ResNet-8 of half the width", "fashion-mnist"),
    "dasnet": (official, "ResNet-8 of MLPerf Tiny, official weights", "cifar10"),
    "dnr": (half_width, "ResNet-8 of half the width", "fashion-mnist"),
    "feedback": (half_width, "ResNet-8 of half the width", "fashion-mnist"),
    "gap": (half_width, "ResNet-8 of half the width", "fashion-mnist"),
    "jpnet": (official, "ResNet-8 of MLPerf Tiny, official weights", "cifar10"),
}

#: By what they begin with: the fastest preset placed and routed that all of their networks fit.
_CONFIGS: dict[Callable[..., Setting], str] = {official: "small-85f", half_width: "base-85f"}
_MEASURED = 200  # test images that are simulated
_MOST_EPOCHS = 10_000


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    """A whole number of the command line, in a range."""

    def number(text: str) -> int:
        value = int(text)
        if not lowest <= value <= highest:
            raise ArgumentTypeError(f"{text} is not in the range {lowest}..{highest}")
        return value

    return number


def main(arguments: list[str] | None = None) -> int:
    """Run a replication; returns the exit status."""
    parser = argparse.ArgumentParser(prog="offramp.replications", description="check a method's claims")
    parser.add_argument("name", choices=sorted(REPLICATIONS))
    parser.add_argument("--out", type=Path, required=True, help="file to write; - is standard output")
    parser.add_argument("--data", choices=NAMES, help="data set, of methods that train from scratch")
    parser.add_argument("--images", type=_number(1, MOST_IMAGES), default=10_000, help="training images")
    parser.add_argument("--test", type=_number(1, MOST_IMAGES), default=10_000, help="test images")
    parser.add_argument("--epochs", type=_number(1, _MOST_EPOCHS), default=6, help="of a stage of fine-tuning")
    parser.add_argument("--seed", type=_number(0, MOST_SEED), default=0)
    parser.add_argument("--config", help="preset of the accelerator; else the fastest one built that the networks fit")
    parser.add_argument("--root", type=Path, default=None, help="data folder")
    chosen = parser.parse_args(arguments)

    def progress(done: int, total: int, text: str) -> None:
        if done == total or done % 20 == 0:
            print(f"\r{text} ({done}/{total})\033[K", end="\n" if done == total else "", file=sys.stderr, flush=True)

    check_file(chosen.out)
    start, network, data = REPLICATIONS[chosen.name]
    config = chosen.config or _CONFIGS[start]
    if chosen.data is not None:
        if start is not half_width:
            parser.error(f"{chosen.name} begins with official weights, which are for {data}: --data must not be given")
        start, data = partial(half_width, data=chosen.data), chosen.data
    setting = start(
        images=chosen.images, test=chosen.test, epochs=chosen.epochs, seed=chosen.seed, root=chosen.root,
        progress=progress,
    )  # fmt: skip
    module, sizes = import_module(f"offramp.replications.{chosen.name}"), preset(config)
    figures, networks = module.train(setting)
    some = setting.dataset.test.take(_MEASURED)
    measured = {name: on_accelerator(network, sizes, some) for name, network in networks.items()}
    claims = module.checks(figures, measured)
    options = f"--data {data} " if chosen.data else ""
    options += f"--images {chosen.images} --test {chosen.test} --epochs {chosen.epochs} --seed {chosen.seed}"
    command = f"python -m offramp.replications {chosen.name} {options} --config {config}"
    write_json(
        chosen.out,
        {
            "method": chosen.name,
            "network": network,
            "dataset": data,
            "date": datetime.now(UTC).date().isoformat(),
            **provenance(command, chosen.seed),
            "figures": figures,
            "accelerator": measured,
            "checks": claims,
        },
    )
    for check in claims:
        line = f"{'holds' if check['holds'] else 'FAILS'}: {check['claim']}: {check['figures']}"
        print(line, file=sys.stderr if chosen.out == STANDARD_OUTPUT else sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
