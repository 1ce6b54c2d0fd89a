"""Networks that say themselves what their steps are called."""

from collections.abc import Mapping

from torch import nn

__all__ = ["NamedSteps"]


class NamedSteps(nn.Module):
    """A network whose modules are one step each, and that says what each step is called.

    Attributes
    ----------
    step_names : dict of str to str
        By the modules' names; a step's may be any, also one that no module can have.
    """

    step_names: Mapping[str, str]
