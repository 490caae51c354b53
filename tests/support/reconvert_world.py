"""Three recipes, what their sources hold, and a runner without stages: what the tests of reconvert's cycle turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifact.manifest import Manifest
from pipeline.artifact.store import open_artifact, seal, staging
from pipeline.errors import InputError, UnavailableError
from pipeline.recipe.recipe import Recipe, read_recipe
from reconvert.cycle import Job, Row, cycle
from reconvert.folder import Folder
from reconvert.origin import Origin
from reconvert.retry import Patience
from reconvert.task import Command

RECIPE = """
name = "{name}"
architecture = "gpt2"
[source]
repository = "someone/{name}"
[variants]
q8.steps = [{{ scheme = "rtn" }}]
q4.steps = [{{ scheme = "rtn" }}]
[verify]
text = "text.txt"
checks = ["structure"]
"""
NAMES = ("one", "two", "three")


@dataclass
class Runner:
    """An executor whose stages take no time. `codes` holds exit codes to give, by recipe and label, in turn."""

    at_once: int = 1
    spreads: bool = False
    codes: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    runs: list[tuple[str, str]] = field(default_factory=list)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    words: str = "it went wrong"

    async def run(self, task: Command) -> int:
        recipe = read_recipe(Path(task.command[1]))
        home = Path(task.command[task.command.index("--build") + 1]) / recipe.name
        self.runs.append((recipe.name, task.label))
        self.commands.append(task.command)
        await asyncio.sleep(0)
        codes = self.codes.get((recipe.name, task.label), [])
        code = codes.pop(0) if codes else 0
        with task.log.open("a") as stream:
            stream.write(f"working\nerror: {self.words}\nbye\n" if code else "done\n")
        if code == -9:
            raise KeyboardInterrupt
        if task.stage == "convert" and not code:
            make(home, "source", content=task.command[-1])
            make(home, "fp32", content=task.command[-1])
        elif task.stage == "quantize" and not code:
            named = [name for name in recipe.variants if name in task.command] or list(recipe.variants)
            for name in named:
                make(home, name)
        elif task.stage == "verify":
            parents = {name: open_artifact(home / name, made_by="").digest for name in ("source", "fp32", "q8", "q4")}
            facts = {"verdict": "failed" if code else "passed", "complete": True}
            make(home, "report", parents=parents, facts=facts)
        return code

    def of(self, name: str) -> list[str]:
        return [label for recipe, label in self.runs if recipe == name]


def make(home: Path, variant: str, content: str = "", **fields: Any) -> None:
    options: dict[str, Any] = {"parents": {}, "facts": {}, **fields}
    with staging(home / variant) as staged:
        (staged / "file").write_text(variant + content)
        seal(staged, home / variant, Manifest("model", home.name, variant, {}, "r", "c", tools={}, **options))


class World:
    """Three recipes and what their sources hold; every `cycle` is one run of the job."""

    def __init__(self, home: Path) -> None:
        self.build = home / "build"
        self.runner, self.publisher = Runner(), Runner()
        self.sources = {name: self.origin("1", name) for name in NAMES}
        self.down = 0
        home.joinpath("text.txt").write_text("text")
        self.recipes = []
        for name in NAMES:
            path = home / f"{name}.toml"
            path.write_text(RECIPE.format(name=name))
            self.recipes.append(read_recipe(path))

    @staticmethod
    def origin(commit: str, content: str) -> Origin:
        return Origin(commit * 40, {"model.safetensors": content}, "mit", 1000)

    def look_up(self, recipe: Recipe) -> Origin:
        if self.down:
            self.down -= 1
            raise UnavailableError("the Hub cannot be reached", where=recipe.name, hint="wait")
        origin = self.sources.get(recipe.name)
        if origin is None:
            raise InputError("the Hub has no such repository", where=recipe.name, hint="look")
        return origin

    def cycle(self, **options: Any) -> dict[str, Row]:
        async def sleep(_: float) -> None:
            """At once."""

        self.runner.runs.clear()
        job = Job(
            self.build,
            self.runner,
            self.publisher,
            source=self.look_up,
            patience=Patience(tries=3, sleep=sleep),
            **options,
        )
        return {row.recipe: row for row in asyncio.run(cycle(self.recipes, job))}

    def folder(self, name: str) -> Folder:
        return Folder(self.build / name)
