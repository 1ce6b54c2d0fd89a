"""Names of the workloads, which take long to import (:mod:`offramp.measure.workloads`)."""

__all__ = ["WORKLOADS", "check_workload"]

WORKLOADS = ("resnet8-dense", "resnet8-w20", "resnet8-w10", "ds-cnn", "mobilenet-025")


def check_workload(name: str) -> None:
    """Refuse a workload that there isn't.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    if name not in WORKLOADS:
        raise ValueError(f"workload must be one of {', '.join(WORKLOADS)}, not {name!r}")
