"""External memory that lists come from during a run, as the RTL's bench plays it and the simulator times it."""

from dataclasses import dataclass

__all__ = ["PROMPT", "WeightSource"]


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """External memory that delivers at a constant rate.

    Parameters
    ----------
    latency : int
        Cycles from the one in which a burst is asked for to its first beat, at least 1.
    cycles_per_beat : int
        From one beat to the next, also of the next burst; at least 1.

    Raises
    ------
    ValueError
        When one is less.
    """

    latency: int = 16
    cycles_per_beat: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")


#: What is meant where nothing else is said.
PROMPT = WeightSource()
