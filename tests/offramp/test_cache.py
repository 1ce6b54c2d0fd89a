"""What is kept is told from what is a user's own, counted, and removed but for what is being built."""

import os

import pytest
from filelock import FileLock

from offramp.cache import clean, described, folders

DIGEST = "0123456789abcdef"
BUILD, BITSTREAM, RUN = f"icarus-tiny-{DIGEST}", f"fpga/{DIGEST}", "runs/tmp0a_b1c2d"
PROGRAM = f"zoo/digits-{DIGEST[:12]}-{DIGEST[:12]}.off"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    return tmp_path


def put(root, **sizes):
    """Files of so many bytes."""
    for name, size in sizes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(size))


def test_a_cache_that_is_not_there_holds_nothing(root, monkeypatch):
    monkeypatch.setenv("OFFRAMP_CACHE", str(root / "none"))
    assert folders() == []
    assert described() == {"place": str(root / "none"), "entries": 0, "bytes": 0, "kinds": {}}
    assert clean() == ([], [])


def test_sizes_are_of_all_files_below_and_of_links_themselves(root):
    put(root, **{f"{BUILD}/a": 100, f"{BUILD}/deep/er/b": 20, "large": 5000})
    (root / BUILD / "link").symlink_to(root / "large")
    (found,) = folders()
    link = os.lstat(root / BUILD / "link").st_size
    assert (found.path, found.kind, found.size) == (root / BUILD, "builds for icarus", 120 + link)


def test_kinds_are_counted_apart_in_their_order(root):
    put(root, **{PROGRAM: 7, f"{BITSTREAM}/x": 5, f"{BUILD}/x": 3, f"verilator-{DIGEST}/x": 2, f"{RUN}/x": 1})
    put(root, **{f"zoo/mobile-{DIGEST[:12]}-{DIGEST[:12]}.off": 70})
    found = described()
    assert (found["entries"], found["bytes"]) == (6, 88)
    assert list(found["kinds"].items()) == [
        ("builds for verilator", {"entries": 1, "bytes": 2}), ("builds for icarus", {"entries": 1, "bytes": 3}),
        ("bitstreams", {"entries": 1, "bytes": 5}), ("programs of the zoo", {"entries": 2, "bytes": 77}),
        ("kept RTL runs and waveforms", {"entries": 1, "bytes": 1}),
    ]  # fmt: skip
    assert described(folders()[:1])["kinds"] == {"builds for verilator": {"entries": 1, "bytes": 2}}


@pytest.mark.parametrize(
    "name",
    [
        f"icarus-{DIGEST[:-1]}/x", f"icarus-{DIGEST.upper()}/x", f".verilator-{DIGEST}/x", f"other-{DIGEST}/x",
        f"fpga/{DIGEST}0/x", f"fpga/.{DIGEST}/x", "fpga/notes", "zoo/digits.off", f"zoo/a-{DIGEST}.off", "runs/mine/x",
        "runs/tmp0a_b1c2/x", "runs/tmp0A_B1C2D/x", "peers/mine/x",
    ],
)  # fmt: skip
def test_what_is_not_ours_stays(root, name):
    put(root, **{name: 5})
    assert folders() == []
    assert clean() == ([], [])
    assert (root / name).read_bytes() == bytes(5)


def test_what_is_being_built_is_left(root):
    put(root, **{f"{BUILD}/x": 3, f"{BITSTREAM}/x": 5, PROGRAM: 7})
    with FileLock(root / BUILD / "lock"):
        removed, left = clean()
    assert [found.path for found in removed] == [root / BITSTREAM, root / PROGRAM]
    assert [found.path for found in left] == [root / BUILD]
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} >= {f"{BUILD}/x"}
    assert [found.path for found in clean()[0]] == [root / BUILD]
    assert folders() == []
