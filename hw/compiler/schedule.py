"""Sixth pass: every command's order of work and lists, core by core, and where all lists lie."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from hw.compiler.memory.core_schedule import CoreSchedule, core_schedule
from hw.compiler.memory.kernel_lists import Lists, kernel_lists
from hw.compiler.memory.streaming import ListPlan, all_resident, streamed
from hw.compiler.place import Placed
from hw.compiler.steps.expansion import CoreTask, Expansion
from hw.compiler.steps.partition import Partition, bands_of
from hw.compiler.steps.step import Step
from hw.config import AcceleratorConfig
from hw.network.layers import multiply_accumulates
from hw.program.command import Command
from hw.program.image_layout import instruction_words

__all__ = ["Scheduled", "ScheduledCommand", "schedule"]


@dataclass(frozen=True)
class ScheduledCommand:
    """A command: what each core with work makes, and how.

    Attributes
    ----------
    step : Step
        That it is of.
    partition : Partition
        Of the step.
    tasks : tuple of CoreTask
    inputs : tuple of 2 int
        The input channels that are multiplied: the first, and the one after the last.
    schedules : tuple of CoreSchedule
        One for each task.
    """

    step: Step
    partition: Partition
    tasks: tuple[CoreTask, ...]
    inputs: tuple[int, int]
    schedules: tuple[CoreSchedule, ...]

    def command(self) -> Command:
        """Its description."""
        step, partition = self.step, self.partition
        depth = step.source.shape[2]
        first, last = self.tasks[0].channels[0], self.tasks[-1].channels[1]
        rows = bands_of(step, partition.bands)
        made = sum(end - start for start, end in rows)
        name = step.result.name if step.strip is None else f"{step.result.name}@{step.strip.number}"
        if partition.commands > 1:
            name += f"[{first}:{last}]"
        if partition.passes > 1:
            name += f"<{self.inputs[0]}:{self.inputs[1]}>"
        return Command(
            name=name,
            kind=step.layer.kind + ("+add" if step.add else ""),
            layer=step.layer.name,
            tensor=step.result.name,
            rows=tuple(rows),
            channels=(first, last),
            macs=multiply_accumulates(step.layer, made, last - first, (self.inputs[1] - self.inputs[0], depth)),
            groups=partition.groups,
            partial=self.schedules[0].partial,
            column_major=partition.column_major,
        )


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """Placed maps, and commands whose lists have places.

    Attributes
    ----------
    placed : Placed
    commands : tuple of ScheduledCommand
        In order.
    lists : ListPlan
        Where the lists of every command lie.
    """

    placed: Placed
    commands: tuple[ScheduledCommand, ...]
    lists: ListPlan


def schedule(placed: Placed) -> Scheduled:
    """Schedule every command, and place the lists: all in the list memories, or some read during the run.

    Raises
    ------
    ShortageError
        When list memories, or program memory for the table of what is read, are too small.
    """
    chosen = placed.chosen
    proven = chosen.expanded.proven
    config = proven.config
    commands = _commands(proven.steps, [option.expansion for option in chosen.options], config)
    lists = [{task.tile.core: done for task, done in zip(each.tasks, each.schedules, strict=True)} for each in commands]
    if not chosen.streamed:
        return Scheduled(placed=placed, commands=commands, lists=all_resident(lists, config))
    described = len(commands) + sum(step.select is not None for step in proven.steps)
    room = config.program_words - instruction_words(described, len(proven.network.exits))
    return Scheduled(placed=placed, commands=commands, lists=streamed(lists, chosen.cycles, room, config))


def _commands(
    steps: Sequence[Step], expansions: Sequence[Expansion], config: AcceleratorConfig
) -> tuple[ScheduledCommand, ...]:
    """The commands of all steps, in order."""
    found = []
    #: Strips of a layer share their lists where they are equal.
    made: dict[Hashable, Lists] = {}
    for step, expansion in zip(steps, expansions, strict=True):
        partition = expansion.partition
        for tasks, inputs in expansion.layers():
            schedules = []
            for task in tasks:
                key = step.layer.name, inputs, task.same_lists
                if key not in made:
                    made[key] = kernel_lists(task, inputs, config)
                schedules.append(core_schedule(step, task, inputs, partition.column_major, made[key], config))
            found.append(ScheduledCommand(step, partition, tasks, inputs, tuple(schedules)))
    return tuple(found)
