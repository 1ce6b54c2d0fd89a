"""The functions of the page that defines exported integers: what computes them, without anything of ours."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["page_functions"]

_PAGE = Path(__file__).parents[3] / "docs" / "integer-network.md"


def page_functions() -> dict[str, Callable[..., Any]]:
    """The page's functions by name; ``run(network, arrays, codes)`` gives all tensors."""
    scope: dict[str, Any] = {}
    (code,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    exec(compile(code, _PAGE.name, "exec"), scope)
    return scope
