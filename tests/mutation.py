"""Mutants: small faults put into the code on purpose, each of which the tests that mirror the file must notice.

The list is ``tests/mutants.toml``. Every mutant is put into a copy of the tree, in which then only its tests run.
"""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "mutants.toml"
#: Share of the mutants that aren't equivalent which must be killed.
LEAST = 0.95
#: Compiled by Numba, whose cache doesn't see all changes: their mutants get an empty one.
_COMPILED = ("sim/kernel.py", "sim/vector.py", "models/integer/elementwise.py")
#: Imported once, before processes for tests are forked: what takes longer than many tests.
_LIBRARIES = [
    "torch",
    "numba",
    "amaranth.sim",
    "hypothesis",
    "pytest",
    "sklearn.datasets",
    "typer",
    "safetensors.numpy",
]
_SERVER = multiprocessing.get_context("forkserver")
#: Exit codes of tests, pytest's and so much: all passed; some failed, or their files couldn't be read (a file, or one
#: test of it). Others are of no tests at all.
_PYTEST = 10
_PASSED, _FAILED = _PYTEST, (_PYTEST + 1, _PYTEST + 2, _PYTEST + 4)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A fault.

    Parameters
    ----------
    file : str
        Path from the root.
    old, new : str
        Of the file: text that stands in it exactly once, and what takes its place.
    tests : tuple of str
        Test files, or tests of one (``file::name``), of which one must fail.
    equivalent : str
        Why nothing can notice it; empty for all others.
    survives : str
        Why its tests don't notice it, where they don't; empty for all others.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""
    survives: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.file}: {self.old.strip()!r} -> {self.new.strip()!r}"

    @property
    def key(self) -> str:
        """What it is: two results with the same one are of the same fault and tests."""
        return "\n".join((self.file, self.old, self.new, *self.tests))


def read(path: Path = LIST) -> list[Mutant]:
    """The mutants of a list."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]


def problems(mutants: Sequence[Mutant], root: Path = ROOT) -> list[str]:
    """What keeps mutants from being applied, all at once."""
    found = []
    for mutant in mutants:
        source = root / mutant.file
        count = source.read_text(encoding="utf-8").count(mutant.old) if source.is_file() else -1
        if count < 0:
            found.append(f"{mutant.name}: there is no such file")
        elif count != 1:
            found.append(f"{mutant.name}: the old text must stand in the file once, not {count} times")
        if mutant.old == mutant.new:
            found.append(f"{mutant.name}: it changes nothing")
        if mutant.equivalent and mutant.survives:
            found.append(f"{mutant.name}: it is equivalent or it survives, not both")
        if not mutant.tests:
            found.append(f"{mutant.name}: it names no test")
        for test in mutant.tests:
            path, _, name = test.partition("::")
            if not (root / path).is_file():
                found.append(f"{mutant.name}: there is no {path}")
            elif name and f"def {name.partition('[')[0]}(" not in (root / path).read_text(encoding="utf-8"):
                found.append(f"{mutant.name}: there is no test {name} in {path}")
    twice = {mutant.key for n, mutant in enumerate(mutants) if mutant.key in {m.key for m in mutants[:n]}}
    return found + [f"{key.splitlines()[0]}: a mutant stands in the list twice" for key in sorted(twice)]


def copy_tree(target: Path) -> None:
    """Copy the tree as it is, without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _run_tests(folder: Path, caches: Path, log: Path, tests: tuple[str, ...]) -> None:
    """Run tests of a copy of the tree in this process, in which nothing of the tree itself may stay imported."""
    os.setsid()
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in sys.modules if (ROOT / name.partition(".")[0]).is_dir()]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *(place for place in sys.path if Path(place).resolve() != ROOT)]
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(caches)}
    code = 1
    try:
        import numba
        import pytest

        numba.config.CACHE_DIR = str(caches)
        options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist"]
        code = _PYTEST + int(pytest.main([*options, *tests]))
    finally:
        # What libraries would do at the end takes longer than many tests.
        os._exit(code)


class Tree:
    """A copy of the tree that tests run in, with caches of its own.

    Parameters
    ----------
    folder : Path
        An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tree"
        copy_tree(self.folder)
        self._caches = folder / "caches"
        self._caches.mkdir()
        self._process: Any = None
        # Python takes compiled files by the second of their source's last change.
        self._second = int(time.time())

    def run(self, tests: Sequence[str], timeout: float, *, fresh: bool = False) -> tuple[int | None, str]:
        """Exit code of pytest (None after the timeout) and the end of its output; ``fresh``: with an empty cache."""
        caches = Path(tempfile.mkdtemp(dir=self._caches.parent)) if fresh else self._caches
        log = self._caches.parent / "log"
        self._process = _SERVER.Process(target=_run_tests, args=(self.folder, caches, log, tuple(tests)))
        self._process.start()
        self._process.join(timeout)
        code = self._process.exitcode
        self.stop()
        self._process.join()
        if fresh:
            shutil.rmtree(caches)
        return code, log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def stop(self) -> None:
        """End the tests that run, and what they have started."""
        if self._process is not None and self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()

    @contextmanager
    def changed(self, name: str, old: str, new: str) -> Iterator[None]:
        """Change a file while the block runs, and put it back as it was: what is cached of it holds again then."""
        path = self.folder / name
        original, before = path.read_text(encoding="utf-8"), path.stat().st_mtime_ns
        path.write_text(original.replace(old, new), encoding="utf-8")
        self._second += 1
        os.utime(path, (self._second, self._second))
        try:
            yield
        finally:
            path.write_text(original, encoding="utf-8")
            os.utime(path, ns=(before, before))


def judge(tree: Tree, mutant: Mutant, timeout: float) -> dict[str, Any]:
    """Whether the tests of a mutant notice it.

    Raises
    ------
    RuntimeError
        When pytest couldn't do its work.
    """
    start = time.monotonic()
    with tree.changed(mutant.file, mutant.old, mutant.new):
        code, output = tree.run(mutant.tests, timeout, fresh=mutant.file in _COMPILED)
    # A process that a signal has ended crashed: that is noticed, too.
    if code is not None and code >= 0 and code not in (_PASSED, *_FAILED):
        raise RuntimeError(f"{mutant.name}: its tests could not run ({code}):\n{output}")
    found = {"status": "killed" if code != _PASSED else "survived", "seconds": round(time.monotonic() - start, 1)}
    return noted(mutant, found | ({"timeout": True} if code is None else {}))


def noted(mutant: Mutant, found: dict[str, Any]) -> dict[str, Any]:
    """What was found of a mutant, with what the list says of it now."""
    said = {name: value for name, value in asdict(mutant).items() if value or name == "new"}
    said["tests"] = list(mutant.tests)
    measured = {name: found[name] for name in ("status", "seconds", "timeout") if name in found}
    if measured["status"] != "killed":
        measured["status"] = "equivalent" if mutant.equivalent else "survived"
    return said | measured


def run(
    mutants: Sequence[Mutant],
    *,
    workers: int,
    timeout: float,
    progress: Callable[[int, int, str], None],
    keep: Callable[[Mutant, dict[str, Any]], None],
) -> None:
    """Judge mutants, in copies of the tree; first, their tests must pass without any.

    Parameters
    ----------
    timeout : float
        Seconds for the tests of a mutant; one that takes longer is killed.
    keep : callable
        Called with each mutant and what :func:`judge` found, one at a time.

    Raises
    ------
    RuntimeError
        When tests fail without a mutant, or pytest couldn't do its work.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    data = ROOT.parent / "shared" / "data"
    if data.is_dir():
        os.environ.setdefault("OFFRAMP_DATA", str(data))
    _SERVER.set_forkserver_preload(_LIBRARIES)
    every = sorted({mutant.tests for mutant in mutants})
    total, lock, done = len(every) + len(mutants), threading.Lock(), 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(workers) as pool:
        places = [Path(folder) / str(number) for number in range(workers)]
        for place in places:
            place.mkdir()
        every_tree, trees = [Tree(place) for place in places], SimpleQueue[Tree]()
        for tree in every_tree:
            trees.put(tree)

        def with_tree(work: Callable[[Tree], Any], text: str) -> Any:
            nonlocal done
            tree = trees.get()
            try:
                found = work(tree)
            finally:
                trees.put(tree)
            with lock:
                done += 1
                progress(done, total, text)
            return found

        def clean(tests: tuple[str, ...]) -> None:
            code, output = with_tree(lambda tree: tree.run(tests, 10 * timeout), "without mutants")
            if code != _PASSED:
                raise RuntimeError(f"{' '.join(tests)}: must pass without a mutant:\n{output}")

        def mutated(mutant: Mutant) -> None:
            found = with_tree(lambda tree: judge(tree, mutant, timeout), mutant.file)
            with lock:
                keep(mutant, found)

        try:
            list(pool.map(clean, every))
            list(pool.map(mutated, mutants))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for tree in every_tree:
                tree.stop()
            raise


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts, and the share killed of those that aren't equivalent."""
    counts = {status: sum(r["status"] == status for r in results) for status in ("killed", "survived", "equivalent")}
    return counts | {"share": counts["killed"] / max(1, counts["killed"] + counts["survived"])}


def objections(results: Sequence[dict[str, Any]]) -> list[str]:
    """Why results aren't good enough."""
    found = []
    for result in results:
        name = Mutant(**{key: result[key] for key in ("file", "old", "new", "tests")}).name
        if result["status"] == "killed" and "equivalent" in result:
            found.append(f"{name}: is called equivalent, but killed")
        if result["status"] == "survived" and "survives" not in result:
            found.append(f"{name}: survived, and the list doesn't say why")
    share = summary(results)["share"]
    if share < LEAST:
        found.append(f"{share:.1%} of the mutants that aren't equivalent were killed, not {LEAST:.0%}")
    return found
