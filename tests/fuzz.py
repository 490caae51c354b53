"""python -m tests.fuzz [--files N] [--engine NAME ...] [--only TARGET ...]: mutated files, to be read or refused.

Hypothesis mutates in this process. Atheris (libFuzzer, guided by the coverage of this project's Python code) runs in a
child process for each target, because it never returns.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from pipeline import command
from pipeline.command import say
from pipeline.errors import PipelineError, RecipeError
from pipeline.plugins import ROOT
from pipeline.typed import did_you_mean

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
LONGEST_S = 10.0  # for one file; the slowest, a tokenizer.json that both sides load, takes 0.1 s
ENGINES = ("hypothesis", "atheris")
Read = Callable[[bytes, Path], None]


class FoundError(Exception):
    """State what should not be: a write elsewhere, a file that takes long, a fuzzer that ended otherwise than well."""


@dataclass(frozen=True)
class Target:
    """A kind of file: real ones to start from, what reads them, and how many files to read."""

    name: str
    seeds: tuple[bytes, ...]
    read: Read
    files: int


class Watch:
    """While it is entered, FoundError for every file opened to write, made or removed outside one directory.

    It sees what Python does. The hook that sees it can never be taken away, so there is one, which looks at `allowed`.
    """

    allowed: Path | None = None
    installed = False

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    def __enter__(self) -> None:
        if not Watch.installed:
            sys.addaudithook(_hook)
            Watch.installed = True
        Watch.allowed = self._directory
        self._scratch, tempfile.tempdir = tempfile.tempdir, str(self._directory)  # readers make copies of their own

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        Watch.allowed, tempfile.tempdir = None, self._scratch


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if Watch.allowed is None or (event != "open" and event not in CHANGES):
        return
    path = arguments[0]
    if event in ("os.remove", "os.rmdir") and isinstance(arguments[1], int) and arguments[1] >= 0:
        path = Path(f"/proc/self/fd/{arguments[1]}").readlink() / str(path)  # relative to an open directory
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
        return
    if isinstance(path, int) or "__pycache__" in str(path):
        return
    if not os.path.realpath(str(path)).startswith((str(Watch.allowed), "/dev/", "/proc/self")):
        raise FoundError(f"{event} outside the build directory: {path}")


def attempt(read: Read, content: bytes, place: Path, *, longest_s: float = LONGEST_S) -> None:
    """Read one file: a refusal that says what, where and what to do is right; anything else that is raised goes on."""
    begin = time.monotonic()
    try:
        read(content, place)
    except PipelineError as error:
        assert error.what, "a refusal without words"
        assert error.where, "a refusal without a place"
        assert error.hint, "a refusal without advice"
    if time.monotonic() - begin > longest_s:
        raise FoundError(f"{time.monotonic() - begin:.0f} s for a file of {len(content)} bytes")


def warm_up(read: Read, seed: bytes, place: Path) -> None:
    """Read a real file, so that what is needed is imported, which takes long and may write caches."""
    attempt(read, seed, place, longest_s=600)


def with_hypothesis(target: Target, place: Path, seed: int) -> int:
    """Read mutated files; how many. The first finding is made small and raised."""
    from tests.fuzz_targets import mutated

    count = 0
    warm_up(target.read, target.seeds[0], place)

    @hypothesis.seed(seed)
    @settings(
        max_examples=target.files,
        deadline=None,
        database=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(content=mutated(target.seeds))
    def examples(content: bytes) -> None:
        nonlocal count
        count += 1
        attempt(target.read, content, place)

    with Watch(place):
        examples()
    return count


def with_atheris(target: Target, place: Path, seed: int) -> int:
    """Run libFuzzer on one target in a process of its own; how many files it read. FoundError for a finding."""
    corpus = place / "seeds"
    corpus.mkdir()
    for number, content in enumerate(target.seeds):
        (corpus / f"{number}").write_bytes(content)
    longest = max(map(len, target.seeds)) + 4096
    options = [f"-runs={target.files}", f"-seed={seed + 1}", f"-max_len={longest}", "-timeout=20", "-rss_limit_mb=6144"]
    words = [sys.executable, "-m", "tests.fuzz_atheris", target.name, place, *options, f"-artifact_prefix={place}/"]
    result = subprocess.run(
        [*map(str, words), str(corpus)], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
    )
    done = re.search(r"Done (\d+) runs", result.stderr)
    if result.returncode != 0 or done is None:
        raise FoundError(f"exit code {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-5000:]}")
    return int(done.group(1))


@contextmanager
def prepared(home: Path, files: int, only: list[str] | None = None) -> Iterator[list[Target]]:
    """The targets with their share of so many files; two tiny models are converted as seeds.

    RecipeError for a name in `only` that is no target: a run that reads nothing would look like one without findings.
    """
    from tests.fuzz_targets import WEIGHTS, OnnxReader, readers, seeds
    from tests.support.tiny_checkpoints import convert, write_checkpoint

    read = readers()
    for name in only or ():
        if name not in read:
            raise RecipeError(f"no target {name!r}", where="--only", hint=did_you_mean(name, read))

    models = []
    for graph in ("fused", "standard"):
        (home / graph).mkdir()
        if convert(write_checkpoint(home / f"{graph}-checkpoint"), home / graph, graph=graph) != 0:
            raise FoundError("the seeds could not be converted")
        models.append(home / graph / "tiny" / "fp32" / "onnx" / "model.onnx")
    real = seeds(tuple(models), home)
    names = [name for name in read if not only or name in only]
    total = sum(WEIGHTS.get(name, 1) for name in names)
    yield [Target(name, real[name], read[name], -(-files * WEIGHTS.get(name, 1) // total)) for name in names]
    for reader in read.values():
        if isinstance(reader, OnnxReader):
            reader.close()


def main(argv: Sequence[str] | None) -> int:
    """Run the engines on every target; exit code 1 after a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Read mutated files.")
    parser.add_argument(
        "--files", type=int, default=10_000, metavar="N", help="in all, over targets and engines (10000)"
    )
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=list(ENGINES), help="only these (both)")
    parser.add_argument("--only", nargs="+", metavar="TARGET", help="only these targets (all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of both engines (0)")
    arguments = parser.parse_args(argv)
    if arguments.files < 1:
        parser.error(f"--files {arguments.files}: nothing would be read")
    engines = {"hypothesis": with_hypothesis, "atheris": with_atheris}
    found = files = 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        with prepared(home, -(-arguments.files // len(arguments.engine)), arguments.only) as targets:
            for target in targets:
                for engine in arguments.engine:
                    place = home / f"{engine}-{target.name}"
                    place.mkdir()
                    started = time.monotonic()
                    try:
                        files += (count := engines[engine](target, place, arguments.seed))
                        say(f"{target.name}, {engine}: {count} files, {time.monotonic() - started:.0f} s")
                    except BaseException as error:  # a finding, of any kind (a panic in Rust is no Exception)
                        if isinstance(error, KeyboardInterrupt):
                            raise
                        found += 1
                        say(f"{target.name}, {engine}: FOUND")
                        traceback.print_exception(error, limit=-6)
    say(f"{files} files, {found} findings, {time.monotonic() - begin:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(command.run(main))
