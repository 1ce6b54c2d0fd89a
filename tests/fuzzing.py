"""Changes of what files hold, drawn at random: words of images, keys and values of descriptions, lines of text."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["EXTREMES", "changed_array", "changed_bytes", "changed_image", "changed_text", "changed_tree", "places"]

#: Values that stand where others belong.
EXTREMES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 64, 10**400, 0.5, 1.0, -0.0,
    1e-320, 1e308, float("inf"), float("nan"), "", "input", "digits", "\ud800", "\0", "../etc", [], [[]], {}, {"a": 1},
    [None] * 3, [1, 1], [1] * 3, [1] * 4, [10**30, 1, 1], [10**9] * 3,
)  # fmt: skip
#: The same for TOML.
_TEXTS = (
    "-1", "0", "1", "2", "255", "1e9", "1e400", "inf", "nan", "-inf", "1_000_000_000", "0x" + "f" * 30,
    "0x" + "f" * 6000, "true", '""', '"input"', '"8/255"', '"1/0"', '"\\u0000"', "[]", "[[]]", "{}", "[1]", "[1, 1]",
    "[1, 1, 1]", "[1000000000, 1, 1]", "1979-05-27", "{a = 1}", "[" * 3000, '"' + "9" * 5000 + '/1"', '["a"]',
)  # fmt: skip


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a tree of tables and lists that holds something."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*here, key)
        yield from places(item, (*here, key))


def changed_tree(tree: Any, rng: np.random.Generator) -> tuple[Any, str]:
    """A copy of a JSON tree with one place changed, and what was done."""
    changed = json.loads(json.dumps(tree))
    every = list(places(changed))
    place = every[rng.integers(len(every))]
    there = changed
    for key in place[:-1]:
        there = there[key]
    key, kind = place[-1], int(rng.integers(8))
    value = there[key]
    if kind == 0:
        del there[key]
        return changed, f"{place} deleted"
    if kind == 1 and isinstance(there, dict):
        there[f"{key}2"] = there.pop(key)
        return changed, f"{place} renamed"
    if kind == 2 and isinstance(value, int) and not isinstance(value, bool):
        there[key] = value + int(rng.choice([-1, 1, 2, -value * 2, 8]))
    elif kind == 3 and isinstance(value, list) and value:
        there[key] = value[:-1] if rng.random() < 0.5 else [*value, value[0]]
    elif kind == 4 and isinstance(value, float):
        there[key] = value * float(rng.choice([-1, 2, 1e-30, 1e30]))
    elif kind == 5:
        other = changed
        for step in every[rng.integers(len(every))]:
            other = other[step]
        there[key] = copy.deepcopy(other)
    else:
        there[key] = copy.deepcopy(EXTREMES[rng.integers(len(EXTREMES))])
    return changed, f"{place} = {str(there[key])[:60]}"


def changed_image(images: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[dict[str, np.ndarray], str]:
    """Memory images with one word changed, or two exchanged, and what was done."""
    names = [name for name, image in images.items() if image.size]
    name = names[rng.integers(len(names))]
    image = images[name].copy()
    flat, kind = image.reshape(-1), int(rng.integers(5))
    place, other = (int(n) for n in rng.integers(flat.size, size=2))
    if kind <= 1:
        flat[place] ^= np.uint32(1 << int(rng.integers(32 if kind else 20)))
    elif kind == 2:
        flat[place] = flat[other]
    elif kind == 3:
        flat[[place, other]] = flat[[other, place]]
    else:
        flat[place] = (int(flat[place]) + int(rng.choice([1, -1, 8, 256]))) % (1 << 32)
    return images | {name: image}, f"{name} {place} by {kind}"


def changed_array(arrays: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[dict[str, np.ndarray], str]:
    """Named arrays with one changed: an element, its type, its shape, its name, or the whole left out."""
    names = sorted(arrays)
    name = names[rng.integers(len(names))]
    array, kind = arrays[name].copy(), int(rng.integers(8))
    others = {key: value for key, value in arrays.items() if key != name}
    if kind == 0:
        return others, f"{name} left out"
    if kind == 1:
        return others | {f"{name}2": array}, f"{name} renamed"
    if kind == 2:
        with np.errstate(all="ignore"):
            array = array.astype(
                rng.choice(["float64", "float32", "int64", "int8", "uint32", "int32", "float16", "bool"])
            )
    elif kind == 3:
        array = array[..., None] if rng.random() < 0.5 else array.reshape(-1)[: array.size // 2]
    elif kind == 4:
        array = arrays[names[rng.integers(len(names))]]
    elif array.size:
        values = {"f": [np.nan, np.inf, -1.0, 1e30, 0.5], "i": [0, 1, -1, 127], "u": [0, 1, 255], "b": [False]}
        array.reshape(-1)[rng.integers(array.size)] = rng.choice(values[array.dtype.kind])
    return others | {name: array}, f"{name} by {kind}"


def changed_bytes(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A file's bytes with a few changed, some left out or doubled, or its end cut, and what was done."""
    place, kind = int(rng.integers(len(data))), int(rng.integers(7))
    length = int(rng.integers(1, 9))
    if kind == 0:
        return data[:place], f"cut at {place}"
    if kind == 1:
        return data[:place] + data[place + length :], f"{length} left out at {place}"
    if kind == 2:
        return data[:place] + data[place : place + length] + data[place:], f"{length} doubled at {place}"
    if kind == 3:
        new = bytes([data[place] ^ 1 << int(rng.integers(8))])
    elif kind == 4:
        new = bytes(rng.integers(0, 256, length, dtype=np.uint8))
    else:  # a whole number of 1, 2, 4 or 8 bytes where such numbers stand
        size = int(rng.choice([1, 2, 4, 8]))
        place -= place % size
        value = int(rng.choice([0, 1, -1, 2, 127, 128, 255, 1 << 15, (1 << 31) - 1, -(1 << 31), (1 << 63) - 1]))
        new = (value % (1 << 8 * size)).to_bytes(size, "little")
    return data[:place] + new + data[place + len(new) :], f"{new.hex()} at {place}"


def changed_text(text: str, rng: np.random.Generator) -> tuple[str, str]:
    """A TOML text with a value, a line or a letter changed, and what was done."""
    lines, kind = text.splitlines(), int(rng.integers(6))
    number = int(rng.integers(len(lines)))
    line = lines[number]
    if kind == 0:
        return "\n".join([*lines[:number], *lines[number + 1 :]]), f"line {number} left out"
    if kind == 1:
        return "\n".join([*lines[: number + 1], *lines[number:]]), f"line {number} doubled"
    if kind == 2 or " = " not in line:
        place = int(rng.integers(max(1, len(text))))
        return text[:place] + str(rng.choice(list('a0"[]{}=.,#\n-\x00é'))) + text[place + 1 :], f"letter {place}"
    equals = [n for n in range(len(line)) if line.startswith(" = ", n)]
    after = equals[rng.integers(len(equals))] + 3
    rest = line[after:]
    end = next((n for n, letter in enumerate(rest) if letter in ",}" and rest[0] != "["), len(rest))
    value = _TEXTS[rng.integers(len(_TEXTS))]
    lines[number] = line[:after] + value + rest[end:]
    return "\n".join(lines), f"line {number}: {lines[number][:80]}"
