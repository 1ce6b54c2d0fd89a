"""Compiles an integer network to a program, in one straight line of passes.

    (fold ->) lower -> prove -> expand -> choose -> place -> schedule -> emit

Every layer becomes one or more LAYER instructions on the same data path. A convolution's weights become lists (module
:mod:`hw.compiler.memory.sparse`) indexed by class of input column, kernel row and input channel. Each command is split
over the cores. Stored channel ``c`` belongs to PE ``c % pes`` of its core.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hw.compiler.attempts import Attempt, attempts
from hw.compiler.expand import Expanded, expand
from hw.compiler.fold import fold_constants
from hw.compiler.load_balance import balance
from hw.compiler.lower import Lowered, lower
from hw.compiler.prove import Proven, prove
from hw.compiler.search.least import check_memories
from hw.compiler.search.partition_options import Options
from hw.config import AcceleratorConfig
from hw.network.network import Network
from hw.program.program import Program
from hw.rules import MisfitError, ShortageError

__all__ = ["Balanced", "Compilation", "balanced_compilation", "compilation", "compile_balanced", "compile_network"]


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """All that came of compiling a network: what every pass made, every attempt, and the program or why there is none.

    Attributes
    ----------
    network : Network
    config : AcceleratorConfig
    lowered : Lowered or None
        None where the network can't be lowered.
    proven : Proven or None
        None where its numbers don't fit the config.
    expanded : Expanded or None
        The options of every step that were considered; None where it was refused before.
    attempts : tuple of Attempt
        In order; the last one made the program, if any did.
    refusal : MisfitError or None
        Why there is no program.
    """

    network: Network
    config: AcceleratorConfig
    lowered: Lowered | None = None
    proven: Proven | None = None
    expanded: Expanded | None = None
    attempts: tuple[Attempt, ...] = ()
    refusal: MisfitError | None = None

    @property
    def told(self) -> Attempt | None:
        """The attempt to tell of: that which made the program, or the last that came to a choice, if any did."""
        return next((attempt for attempt in reversed(self.attempts) if attempt.chosen is not None), None)

    def program(self) -> Program:
        """The program.

        Raises
        ------
        MisfitError
            Where there is none: the refusal.
        """
        if self.refusal is not None:
            raise self.refusal
        program = self.attempts[-1].program
        assert program is not None
        return program


def compilation(
    network: Network,
    config: AcceleratorConfig,
    densities: Mapping[str, float | None] | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Compilation:
    """Compile an integer network for a config, and keep all that came of it.

    Parameters
    ----------
    densities : dict of str to (float or None), optional
        Expected share of nonzero activations by tensor, 0..1, that the work is balanced for.
    report : function
        Called with what begins.

    Raises
    ------
    ValueError
        When a density is impossible. A network that doesn't fit is no error here: see ``Compilation.refusal``.
    """
    network = fold_constants(network, config)
    lowered = proven = expanded = None
    found: tuple[Attempt, ...] = ()
    refusal: MisfitError | None = None
    try:
        lowered = lower(network)
        proven = prove(lowered, config)
        options = Options(network, config, densities)
        # Options take longer to find: only for a network that may fit.
        report("bounds of every memory")
        check_memories(proven.network, proven.steps, options, config)
        report("options of every layer")
        expanded = expand(proven, options)
    except MisfitError as error:
        refusal = error
    else:
        found = tuple(attempts(expanded, options, report))
        refusal = _reason(found)
    return Compilation(
        network=network,
        config=config,
        lowered=lowered,
        proven=proven,
        expanded=expanded,
        attempts=found,
        refusal=refusal,
    )


def _reason(found: tuple[Attempt, ...]) -> MisfitError | None:
    """Why no attempt made a program: what memories lack in the last of those that they were too small for."""
    if found[-1].program is not None:
        return None
    refusals = [attempt.refusal for attempt in found if attempt.refusal is not None]
    whole = [attempt.refusal for attempt in found if attempt.way.strips == 1]
    if whole[-1] is not None and not isinstance(whole[-1], ShortageError):
        return whole[-1]
    return [refusal for refusal in refusals if isinstance(refusal, ShortageError)][-1]


def compile_network(
    network: Network, config: AcceleratorConfig, densities: Mapping[str, float | None] | None = None
) -> Program:
    """Compile an integer network for a config.

    Parameters
    ----------
    densities : dict of str to (float or None), optional
        Expected share of nonzero activations by tensor, 0..1, that the work is balanced for.

    Raises
    ------
    ValueError
        When a layer can't run on it; the message names the layer or the memory, and by how much it is too small
        (:class:`hw.rules.MisfitError`).
    """
    return compilation(network, config, densities).program()


class Balanced:
    """A network that is compiled for several configs, with its channels renumbered so that all PEs get equal work.

    Parameters
    ----------
    activity : mapping of str to float array (channels,)
        Share of activations that are multiplied, 0..1, by tensor and channel; what is known of it, if anything.
    """

    def __init__(self, network: Network, activity: Mapping[str, np.ndarray]):
        self._network, self._activity = network, activity
        #: Renumbered, by PEs of a core: the order depends on nothing else of a config.
        self._renumbered: dict[int, Network] = {}

    def compilation(self, config: AcceleratorConfig, report: Callable[[str], None] = lambda text: None) -> Compilation:
        """Compile for a config, and keep all that came of it; ``report`` is called with what begins."""
        if config.pes not in self._renumbered:
            self._renumbered[config.pes] = balance(self._network, config, self._activity)
        densities = {name: float(shares.mean()) for name, shares in self._activity.items()}
        return compilation(self._renumbered[config.pes], config, densities, report)


def balanced_compilation(
    network: Network,
    config: AcceleratorConfig,
    activity: Mapping[str, np.ndarray],
    report: Callable[[str], None] = lambda text: None,
) -> Compilation:
    """Compile with the channels renumbered so that all PEs get equal work, and keep all that came of it.

    Parameters
    ----------
    activity : mapping of str to float array (channels,)
        As of :class:`Balanced`.
    report : function
        Called with what begins.
    """
    return Balanced(network, activity).compilation(config, report)


def compile_balanced(network: Network, config: AcceleratorConfig, activity: Mapping[str, np.ndarray]) -> Program:
    """Compile with the channels renumbered so that all PEs get equal work (:func:`hw.compiler.load_balance.balance`).

    The program's network is the renumbered one.

    Parameters
    ----------
    activity : mapping of str to float array (channels,)
        As of :func:`balanced_compilation`.

    Raises
    ------
    ValueError
        As :func:`compile_network`.
    """
    return balanced_compilation(network, config, activity).program()
