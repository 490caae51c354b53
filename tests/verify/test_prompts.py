"""Prompts of a user's own: they are judged beside the recipe's text, and can neither hide a failure nor make one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest

from model.chat import rendered
from pipeline.canonical import file_digest, read_json
from pipeline.command import run
from pipeline.errors import InputError, RecipeError
from pipeline.recipe.recipe import read_recipe
from pipeline.variants import model_file
from tests.conftest import ROOT
from tests.support.brief_recipe import brief_recipe
from verify.__main__ import main
from verify.check import Measure, Prompt, load
from verify.faults.surgery import Graft, rewire
from verify.prompting import OnPrompts, asked
from verify.reference import padding_cases, prompts
from verify.reference.corpus import Corpus
from verify.reference.model import Reference
from verify.run_checks import Evidence, Examination, Target

SOURCE = ROOT / "recipes" / "embedded"
SAID = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}"
TEMPLATE = SAID + "{% if add_generation_prompt %}<assistant>{% endif %}"


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(SOURCE, allow_pickle=False)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return brief_recipe(tmp_path)


def file_of(home: Path, *lines: str) -> Path:
    path = home / "own.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def judge(recipe: Path, build: Path, *arguments: object) -> int:
    return run(main, [*map(str, (recipe, "--build", build, "--no-runtimes", *arguments))])


def unseen(recipe: Path, reference: Reference) -> tuple[int, str]:
    """A token that the recipe's cases do not hold, and a prompt that ends in it."""
    read = read_recipe(recipe)
    corpus = Corpus(read.text_path, reference.tokenizer, read.verify.seed)
    known = {*corpus.ids.tolist(), *padding_cases.rare(reference, padding_cases.LENGTH).tolist()}
    for token in range(reference.dimensions.vocabulary):
        text = "The people" + reference.tokenizer.decode([token])
        if token not in known and reference.tokenizer(text)["input_ids"][-1] == token and text.isprintable():
            return token, text
    raise AssertionError("every token of the vocabulary is in the text")


def deaf(model: onnx.ModelProto, token: int, heard: int) -> None:
    """Read one token as another."""

    def instead(graft: Graft, value: str) -> str:
        same = graft.op("Equal", value, graft.number(token, np.int64))
        return graft.op("Where", same, graft.number(heard, np.int64), value)

    rewire(model, "input_ids", instead)


def test_a_fault_that_only_a_prompt_shows_fails_by_the_prompt(
    build: Path, recipe: Path, reference: Reference, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token, text = unseen(recipe, reference)
    model = onnx.load(build / "embedded" / "fp32" / model_file("fp32"))
    deaf(model, token, token + 1)
    faulty = tmp_path / "faulty.onnx"
    onnx.save(model, faulty)
    home = tmp_path / "build"
    shutil.copytree(build / "embedded" / "source", home / "embedded" / "source")
    arguments = ["--candidate", faulty, "--variant", "fp32"]
    assert judge(recipe, home, *arguments) == 0
    assert judge(recipe, home, *arguments, "--prompts", file_of(tmp_path, "The people")) == 0
    capfd.readouterr()
    assert judge(recipe, home, *arguments, "--prompts", file_of(tmp_path, "The people", text), "--explain") == 1
    error = capfd.readouterr().err
    assert "fp32 did not pass on your prompts" in error
    report = read_json(home / "embedded" / "candidate-report" / "report.json")
    assert all(result["passed"] for result in report["results"])
    bad = {m["name"]: m["detail"] for r in report["prompts"]["results"] for m in r["measures"] if not m["passed"]}
    assert bad["max_abs"] == "largest in line 2"
    assert report["explanations"][0]["variant"] == "fp32"
    page = (home / "embedded" / "candidate-report" / "report.html").read_text()
    assert "fp32: logits on your prompts at enable_all: max_abs" in page


def test_the_report_shows_the_prompts_and_counts_them_nowhere_else(build: Path, recipe: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(build, tmp_path / "build"))
    path = file_of(tmp_path, "Once upon a time there was", "<b>A | house</b>")
    home = own / "embedded" / "report"
    assert judge(recipe, own, "--variant", "fp32", "q4") == 0
    plain = read_json(home / "report.json")
    assert judge(recipe, own, "--variant", "fp32", "q4", "--prompts", path) == 0
    report = read_json(home / "report.json")
    schema = json.loads((ROOT / "verify" / "report" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema, format_checker=None).validate(report)
    assert plain["prompts"] is None
    assert (report["results"], report["headroom"]) == (plain["results"], plain["headroom"])
    table = report["prompts"]
    assert (table["file"], table["sha256"], table["count"]) == ("own.txt", file_digest(path), 2)
    assert [(r["variant"], r["check"]) for r in table["results"]] == [
        (variant, check)
        for check in ("logits", "divergence", "generation")
        for variant in ("fp32", "fp32_in_place", "q4", "q4_in_place")
    ]
    assert report["reproduce"]["commands"][-1].endswith(" --prompts own.txt")
    assert any("shown only" in line and "divergence.mean_kld" in line for line in report["notices"])
    for name, markup in (("report.html", "&lt;b&gt;A | house&lt;/b&gt;"), ("report.md", "&lt;b>A | house&lt;/b>")):
        form = (home / name).read_text()
        assert markup in form
        assert "line 2" in form
        assert file_digest(path) in form
    assert 'classname="q4.generation on your prompts"' in (home / "report.xml").read_text()


def test_a_small_sample_is_shown_a_larger_one_judged_with_its_error(reference: Reference, recipe: Path) -> None:
    read = read_recipe(recipe)
    corpus = Corpus(read.text_path, reference.tokenizer, 0)
    examination = OnPrompts(
        read, reference, corpus, {name: load(name) for name in ("logits", "divergence")}, {}, prompts=()
    )
    bound = read.limit("divergence", "mean_kld", "q4").bound

    def holds(value: float, compared: int, error: float) -> tuple[bool, float | None]:
        found = examination._mean("divergence", "q4", Measure("mean_kld", value, compared, error=error))
        return found.passed, found.bound

    assert holds(10 * bound, 99, 0) == (True, None)
    assert holds(float("nan"), 99, 0) == (False, None)
    assert holds(1.2 * bound, 100, 0.1 * bound) == (True, bound)
    assert holds(1.4 * bound, 100, 0.1 * bound) == (False, bound)
    share = read.limit("logits", "near_ties", "q4").bound
    ties = examination._mean("logits", "q4", Measure("near_ties", share + 0.05, 100))
    assert ties.passed
    assert not examination._mean("logits", "q4", Measure("near_ties", share + 0.05, 10_000)).passed


def partial(error: float, *flips: float) -> dict[str, Any]:
    """Return what `logits` finds in one case: its largest error, and the margins of the choices that are others."""
    rows = {
        "rows": np.full(1, error, np.float32),
        "at": np.zeros(1, np.int64),
        "by_rank": np.zeros((2, 4)),
        "ranked": 1,
    }
    counts = {"positions": 1, "compared": 1, "range": 1.0, "dependence": 0.0, "on_demand": None}
    return {"case": "line 1", "max_abs": error, "flips": list(flips), **rows, **counts}


def test_an_error_on_a_prompt_excuses_no_choice_in_the_recipe_s_text(reference: Reference, recipe: Path) -> None:
    """Near ties of the recipe's text are told by the error there, those of prompts by the larger of both."""
    read = read_recipe(recipe)
    corpus, slot = Corpus(read.text_path, reference.tokenizer, 0), (Target("q4", Path("q4.onnx")), "enable_all")
    plain = Examination(read, reference, corpus, {"logits": load("logits")}, {})
    own = OnPrompts(
        read, reference, corpus, {"logits": load("logits")}, {}, prompts=(Prompt("line 1", np.zeros(1, np.int64)),)
    )
    known: dict[str, float] = {}
    first = plain._conclude("logits", slot, Evidence([partial(0.1, 0.2)]), known)
    second = own._conclude("logits", slot, Evidence([partial(0.3, 0.2)]), known)
    assert known["logits.max_abs"] == 0.3
    assert known["logits.argmax_mismatch"] == 0, "at most the bound: what fails excuses nothing"
    found = [{entry.measure.name: entry for entry in result.measures} for result in (first, second)]
    assert [entries["argmax_mismatch"].passed for entries in found] == [False, True]
    assert second.series["by_prompt"] == {"line 1": {"max_abs": 0.3, "argmax_mismatch": 0, "near_ties": 1.0}}
    own._conclude("logits", slot, Evidence([partial(1e9)]), known)
    assert known["logits.max_abs"] == read.limit("logits", "max_abs", "q4").bound


def test_a_recipe_without_such_checks_is_refused() -> None:
    with pytest.raises(RecipeError, match="no check of the recipe is asked about prompts"):
        asked({"tokenizer": load("tokenizer")})


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("own.md", "a\n", None, "ends in .txt or .jsonl"),
        ("own.txt", "a\n\nb\n", 2, "the line is empty"),
        ("own.txt", "a\r\n", 1, "carriage return"),
        ("own.txt", "a\n" + "the people " * 300 + "\n", 2, "shorten it to 255 tokens"),
        ("own.jsonl", '{"prompt": "a"}\n{"prompt"}\n', 2, "invalid JSON"),
        ("own.jsonl", '{"text": "a"}\n', 1, "unknown key 'text'"),
        ("own.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n', 1, "has no chat template"),
    ],
)
def test_a_line_that_is_no_prompt_is_refused_and_nothing_is_written(
    recipe: Path, tmp_path: Path, build: Path, name: str, content: str, line: int | None, words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / name
    path.write_bytes(content.encode())
    home = tmp_path / "build"
    shutil.copytree(build / "embedded" / "source", home / "embedded" / "source")
    file = build / "embedded" / "fp32" / model_file("fp32")
    assert judge(recipe, home, "--candidate", file, "--variant", "fp32", "--prompts", path) == 3
    error = capfd.readouterr().err
    assert words in error
    assert f"where: {path}{'' if line is None else f':{line}'}\n" in error
    assert [entry.name for entry in (home / "embedded").iterdir()] == ["source"]


def ids_of(home: Path, tokenizer: Any, *lines: object) -> Sequence[list[int]]:
    path = home / "own.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return [prompt.ids.tolist() for prompt in prompts.read(path).prompts(tokenizer, 512)]


def test_messages_are_what_the_source_s_template_makes_of_them(reference: Reference, tmp_path: Path) -> None:
    own = type(reference.tokenizer).from_pretrained(SOURCE)
    own.chat_template = TEMPLATE
    said = {"messages": [{"role": "user", "content": "Who?"}]}
    (found,) = ids_of(tmp_path, own, said)
    assert found == own("<user> Who?\n<assistant>", add_special_tokens=False)["input_ids"]
    assert rendered(said["messages"], own, "x", answering=False) == "<user> Who?\n"
    own.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match="refuses it: roles must alternate") as refusal:
        ids_of(tmp_path, own, {"prompt": "a"}, said)
    assert refusal.value.where.endswith("own.jsonl:2")


def test_the_longest_prompt_leaves_room_for_one_token(reference: Reference, tmp_path: Path) -> None:
    own = prompts.read(file_of(tmp_path, "the people of the people"))
    (prompt,) = own.prompts(reference.tokenizer, 512)
    assert own.prompts(reference.tokenizer, len(prompt.ids) + 1)
    with pytest.raises(InputError, match=f"the prompt has {len(prompt.ids)} tokens"):
        own.prompts(reference.tokenizer, len(prompt.ids))
