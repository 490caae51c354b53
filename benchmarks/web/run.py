"""Every configuration in turn, in every round: loaded, prefilled, decoded, released."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from benchmarks import engine
from benchmarks.engine import FileSizes, Site
from benchmarks.program import ProgramError
from benchmarks.progress import progress
from benchmarks.results import Absent
from benchmarks.schedule import Spread, spread, turns
from benchmarks.web.engine import NodeEngine, Web
from pipeline.canonical import file_digest
from pipeline.command import say
from pipeline.errors import InputError

LOG = "logs/web.txt"
MOST = 300  # characters of an error that are shown


@dataclass(frozen=True)
class WebEntry:
    """One configuration: tokens per second of the median token of a round; seconds of loading and of the prefill."""

    key: str
    size: int  # bytes on disk
    sha256: str
    decode: Spread
    load_s: Spread
    prefill_s: Spread


@dataclass(frozen=True)
class WebResults:
    """Everything that one run measured."""

    name: str
    wasm: str
    threads: int
    rounds: int
    entries: Sequence[WebEntry]
    absent: Sequence[Absent]
    restless: int  # measurements that began although the engine was still compiling in the background
    environment: Mapping[str, Any] = field(default_factory=dict)


def entry(key: str, size: int, sha256: str, answers: Sequence[Mapping[str, Any]]) -> WebEntry:
    """The figures of the engine's answers, one of each round."""
    rates = spread([1 / statistics.median(answer["decode"]) for answer in answers])
    loads, prefills = (spread([answer[part] for answer in answers]) for part in ("load", "prefill"))
    return WebEntry(key, size, sha256, rates, loads, prefills)


def measure(site: Site, chosen: Sequence[tuple[str, str]], web: Web, rounds: int) -> WebResults:
    """Measure the chosen (engine, configuration) pairs, after a round that is not counted; what fails is absent."""
    absent: list[Absent] = []
    places = _places(site, chosen, absent)
    answers: dict[str, list[Mapping[str, Any]]] = {key: [] for key in places}
    restless = 0
    with closing(NodeEngine(web, site.directory / LOG)) as node:
        for number in range(rounds + 1):
            title = f"round {number} of {rounds}" if number else "warm up"
            for key in progress(title, turns(tuple(answers), number)):
                restless += number > 0 and not node.settle()
                try:
                    answers[key].append(node.measure(places[key].path))
                except ProgramError as error:
                    del answers[key]
                    _leave(absent, key, f"failed ({title}): {str(error)[:MOST]}", f"see {LOG}")
    about = answers[next(iter(answers))][0]["versions"] if answers else {}
    entries = [entry(key, places[key].size, file_digest(places[key].path), found[1:]) for key, found in answers.items()]
    return WebResults(site.home.name, web.wasm, web.threads, rounds, entries, absent, restless, about)


def _places(site: Site, chosen: Sequence[tuple[str, str]], absent: list[Absent]) -> dict[str, FileSizes]:
    places = {}
    for name, configuration in chosen:
        try:
            places[f"{name}/{configuration}"] = engine.load(name).place(site, configuration)
        except InputError as error:
            _leave(absent, f"{name}/{configuration}", error.what, error.hint)
    return places


def _leave(absent: list[Absent], key: str, reason: str, hint: str) -> None:
    say(f"{key}: absent: {reason}")
    absent.append(Absent(key, reason, hint))
