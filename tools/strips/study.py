"""The figures of the study: a network on the machine that there is, and in strips on decoupled cores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hw.compiler.compile import Compilation, balanced_compilation
from hw.compiler.lower import lower
from hw.config import preset
from models.datasets.sources import data_folder
from models.integer import golden
from offramp.intake.programs import of_model
from offramp.intake.request import ModelRequest
from offramp.measure.workloads import make
from sim import simulate
from tools.strips.check import compared
from tools.strips.cut import Cut, cut_network, words_of
from tools.strips.machine import Machine
from tools.strips.placement import Bench, StripPlacement, StripTimes
from tools.strips.recurrence import STRIP_FIELDS
from tools.strips.work import Work

__all__ = ["CONFIG", "DEALT", "MACHINES", "Recipe", "Studied"]

CONFIG = preset("base-85f")
#: The machines that are looked at, all on an ECP5-85F.
MACHINES = {
    "base-85f": Machine(),
    "planned": Machine(list_words=1024, list_banks=1, bank_words=(1536, 1536), turn=4),
    "generous": Machine(
        list_words=1024, list_banks=1, bank_words=(2048, 1536), accumulators=64, job_queue=32, lanes=2, turn=4
    ),
}
#: What is taken from a machine, and from layers, its placement kept.
_CHANGES: dict[str, dict[str, int]] = {
    "one_lane": {"lanes": 1},
    "job_queue_8": {"job_queue": 8},
    "exchange_8": {"turn": 8},
    "one_deal": {"dealt_channels": 0},
}
#: Ways to cut a layer that are tried: many strips first, which need smaller rings.
_CUTS = (Cut(16), Cut(8), Cut(8, 2), Cut(4), Cut(4, 2))
#: Layers of up to so many output channels are dealt differently to even and odd columns.
DEALT = 16
#: Share of the list memories that the lists of a layer or group may take, so that others have a place beside them.
_SHARE_OF_LISTS = 0.6
#: A cut is better than one before whose strips take at least a hundredth less time.
_BETTER = 0.99
_ALL = slice(None)
#: Rows to spare that are more than any strip waits for.
_PLENTY = 64


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How placements are searched for and measured.

    Attributes
    ----------
    searched, measured : int
        Images that placements are searched with, and others that they are measured on.
    before, behind : int
        Images beside those that are measured, for these to have others in flight.
    steps : tuple of 2 int
        As :meth:`tools.strips.placement.Bench.search` takes them.
    """

    searched: int = 16
    measured: int = 64
    before: int = 6
    behind: int = 4
    steps: tuple[int, int] = (100_000, 12_000)

    @property
    def images(self) -> int:
        return self.searched + self.before + self.measured + self.behind

    @property
    def window(self) -> slice:
        """Those that are measured."""
        return slice(self.searched + self.before, self.images - self.behind)


class Studied:
    """A network, its images, and what the accelerator takes for them today."""

    def __init__(self, name: str, recipe: Recipe):
        if name.startswith("zoo:"):
            _, _, workload = of_model(ModelRequest(model=name, root=data_folder()), "cifar10", recipe.images)
        else:
            workload = make(name, recipe.images, 0)
        self.name, self.recipe, self.activity = name, recipe, workload.activity
        self.compilation: Compilation = balanced_compilation(workload.network, CONFIG, workload.activity)
        self.program = self.compilation.program()
        self.network = self.program.network
        self.golden = golden.run(self.network, workload.codes)
        self.simulated = simulate(self.program, workload.codes, golden=self.golden)
        self.products = self.simulated.products.sum(axis=1)

    def today(self) -> dict[str, Any]:
        """What the accelerator takes for the images that are measured."""
        cycles = float(self.simulated.cycles[self.recipe.window].mean())
        return {"cycles": cycles, "share": self._share(self.recipe.window, cycles)}

    def _share(self, images: slice, cycles: float) -> float:
        return float(self.products[images].mean() / CONFIG.multipliers / cycles)

    def check(self) -> dict[str, int]:
        """The recurrence compared with the product's simulator, on the images that placements are searched with."""
        searched = slice(0, self.recipe.searched)
        return compared(self.compilation, self.program, self._values(searched), self.simulated)

    def _values(self, images: slice) -> tuple[dict[str, np.ndarray], np.ndarray]:
        return {name: codes[images] for name, codes in self.golden.tensors.items()}, self.golden.exit_index[images]

    def work(self, cuts: Sequence[Cut], machine: Machine, images: slice = _ALL, *, dealt_channels: int = DEALT) -> Work:
        """The work of some images, in strips."""
        layers = cut_network(self.network, cuts, CONFIG, self.activity, dealt_channels=dealt_channels, fuse=True)
        return Work(layers, self.network, *self._values(images), CONFIG, lanes=machine.lanes, turn=machine.turn)

    @cached_property
    def _shapes(self) -> list[tuple[str, int, int]]:
        """Of every step: its layer's name, rows and channel words of its output."""
        steps = lower(self.network).steps
        return [(step.layer.name, step.result.output.shape[0], words_of(step.result.output.shape[2])) for step in steps]

    def cuts(self, machine: Machine) -> tuple[list[Cut], float]:
        """The way to cut each layer that takes fewest cycles alone, of those with lists that leave room for others; and
        the share of the limit if no core ever waited and all had equal work, whatever the lists.
        """
        images = slice(0, self.recipe.searched)
        chosen: dict[str, tuple[float, Cut]] = {}
        fastest: dict[str, float] = {}
        for cut in _CUTS:
            fits = [rows >= cut.strips and words % cut.groups == 0 for _, rows, words in self._shapes]
            work = self.work([cut if fit else Cut() for fit in fits], machine, images)
            bench = Bench(work, replace(machine, cores=len(work.layers)))
            own = np.array([strip.layer for strip in work.strips])
            busy = bench.time(bench.start(own, spare=_PLENTY), images).busy()[bench.hosts :]
            for number, layer in enumerate(work.layers):
                name, cycles = layer.step.layer.name, float(busy[own == number].sum())
                if layer.accumulators > machine.accumulators:
                    continue
                fastest[name] = min(cycles, fastest.get(name, cycles))
                if layer.list_words.max() > machine.list_words * _SHARE_OF_LISTS:
                    continue
                if name not in chosen or cycles < chosen[name][0] * _BETTER:
                    chosen[name] = cycles, cut if len(layer.strips) > 1 else Cut()
        return [chosen[name][1] if name in chosen else Cut() for name, *_ in self._shapes], self._share(
            images, sum(fastest.values()) / machine.cores
        )

    def figures(self, bench: Bench, placement: StripPlacement) -> dict[str, Any]:
        """What a placement gives on the images that it wasn't searched with."""
        recipe = self.recipe
        times = bench.time(placement, slice(recipe.searched, None))
        last = recipe.before - 1 + recipe.measured
        cycles = times.steady(recipe.before - 1, last)
        quarters = []
        for first in range(recipe.before - 1, last, recipe.measured // 4):
            end = first + recipe.measured // 4
            images = slice(recipe.searched + first + 1, recipe.searched + end + 1)
            quarters.append(self._share(images, times.steady(first, end)))
        busy = times.busy()[bench.hosts :]
        loads = np.bincount(placement.cores[bench.hosts :], busy, bench.machine.cores)
        return {
            "cycles": cycles,
            "share": self._share(recipe.window, cycles),
            "share_of_quarters": quarters,
            "share_without_waits": self._share(slice(recipe.searched, None), busy.sum() / bench.machine.cores),
            "fullest_core": loads.max() / loads.mean(),
            "latency": self._latency(bench, times, slice(recipe.before, last + 1)),
        }

    def _latency(self, bench: Bench, times: StripTimes, images: slice) -> float:
        """Cycles from the first word of an image to the decision at the exit that it takes."""
        heads = {int(row[STRIP_FIELDS.index("exit")]): number for number, row in enumerate(bench.work.table)}
        exits = bench.work.exits[self.recipe.searched :]
        ends = np.array([times.done[image, heads[int(taken)]] for image, taken in enumerate(exits)])
        return float((ends - times.started[:, 0])[images].mean())

    def search(self, machine: Machine, seeds: Sequence[int]) -> dict[str, Any]:
        """The best placement that searches find on a machine, and what is granted that it doesn't depend on."""
        cuts, bound = self.cuts(machine)
        bench = Bench(self.work(cuts, machine), machine)
        searched = slice(0, self.recipe.searched)
        tried = {number: bench.search(searched, number, self.recipe.steps) for number in seeds}
        placement, _ = min(tried.values(), key=lambda found: found[1])
        return {
            "bound": bound,
            "searches": {str(number): cost for number, (_, cost) in tried.items()},
            "cuts": {name: [cut.strips, cut.groups] for (name, *_), cut in zip(self._shapes, cuts, strict=True)},
            "cores": placement.cores.tolist(),
            "spare": placement.spare.tolist(),
        }

    def measure(self, machine: Machine, found: dict[str, Any]) -> dict[str, Any]:
        """What a placement gives and takes that was found, and what it gives when something is changed."""
        cuts = [Cut(*found["cuts"][name]) for name, *_ in self._shapes]
        placement = StripPlacement(np.array(found["cores"]), np.array(found["spare"]))
        bench = Bench(self.work(cuts, machine), machine)
        words = bench.memory(placement)
        changed = {}
        for key, change in _CHANGES.items():
            units = {name: value for name, value in change.items() if name != "dealt_channels"}
            other = replace(machine, **units)
            if other != machine or not units:
                work = self.work(cuts, other, dealt_channels=change.get("dealt_channels", DEALT))
                changed[key] = self.figures(Bench(work, other), placement)["share"]
        return {
            **self.figures(bench, placement),
            "list_words": words[:, 0].tolist(),
            "activation_words": words[:, 1].tolist(),
            "words_lacking": int(words[:, 2].sum()),
            "changed": changed,
            "slice": self.slice(cuts, machine, placement),
        }

    def slice(self, cuts: Sequence[Cut], machine: Machine, placement: StripPlacement) -> dict[str, Any]:
        """Spans of all strips of two images that run alone, and when these end: so much is quickly evaluated again."""
        images = slice(self.recipe.searched, self.recipe.searched + 2)
        bench = Bench(self.work(cuts, machine, images), machine)
        times = bench.time(placement, slice(None))
        return {"spans": times.spans().tolist(), "ends": times.done.max(axis=1).tolist()}
