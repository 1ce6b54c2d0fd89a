"""The layouts of programs and of the host stream, and values for them."""

from typing import Any

from hypothesis import strategies as st

from hw.program import isa, protocol
from hw.program.bits import FieldEnum


def kinds(base: type) -> dict[str, Any]:
    """All layouts, or all enumerations, by name."""
    named = {name: value for module in (isa, protocol) for name, value in vars(module).items()}
    found = {name: value for name, value in named.items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if issubclass(value, base) and value is not base}


def values_of(layout) -> st.SearchStrategy:
    """Valid values of every field, nested as the layout is."""
    fields: dict[str, st.SearchStrategy] = {}
    for name, field in layout.fields.items():
        if field.nested:
            fields[name] = values_of(field.kind)
        elif isinstance(field.kind, type) and issubclass(field.kind, FieldEnum):
            fields[name] = st.sampled_from(list(field.kind))
        else:
            fields[name] = st.integers(field.low, field.high)
    return st.fixed_dictionaries(fields)


def plain(values: Any) -> Any:
    """Members of enumerations as their numbers."""
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    return getattr(values, "value", values)
