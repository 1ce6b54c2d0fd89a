"""A bitstream placed and routed from several seeds, of which the fastest is kept: clocks vary by tens of percent."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from models.datasets.sources import Progress
from offramp.background import Background, background

__all__ = ["clocks_of"]

#: Seconds between two looks at what runs.
_LOOK = 0.2


def clocks_of(
    config: str,
    board: str,
    clock_mhz: float,
    baud: int,
    seeds: Sequence[int],
    progress: Progress | None = None,
    *,
    link: str = "serial",
) -> dict[int, float]:
    """Highest clock in MHz by seed; each is built by a command of its own, as many at once as there are cores.

    Builds are kept in the cache. One that is synthesized already (:func:`fpga.flow.build.build` with another seed) is
    only placed and routed.

    Raises
    ------
    ValueError
        When a build fails; the message is its own.
    """
    found: dict[int, float] = {}
    waiting, running = list(seeds), dict[int, tuple[Background, ExitStack]]()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        while waiting or running:
            while waiting and len(running) < (os.cpu_count() or 1):
                seed = waiting.pop(0)
                own = stack.enter_context(ExitStack())
                running[seed] = own.enter_context(_begun(config, board, clock_mhz, baud, link, seed, Path(folder))), own
            for seed, (build, own) in list(running.items()):
                if build.wait(_LOOK):
                    found[seed] = float(build.result()["build"]["fmax_mhz"])
                    del running[seed]
                    own.close()
            if progress is not None:
                progress(len(found), len(seeds), "seeds placed and routed")
    return {seed: found[seed] for seed in seeds}


@contextmanager
def _begun(
    config: str, board: str, clock_mhz: float, baud: int, link: str, seed: int, folder: Path
) -> Iterator[Background]:
    options: dict[str, Any] = {"config": config, "board": board, "clock": clock_mhz, "baud": baud, "link": link}
    options["seed"] = seed
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    inside = folder / str(seed)
    with background(["build", *arguments, "--out", str(inside)], inside / "log", inside / "result.json") as build:
        yield build
