"""Test what may not be published: every refusal, with its reason, before anything is asked of the Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from publish.evidence import not_run
from tests.support import rehearsing
from tests.support.rehearsing import FIRST, SHARED, Build, Publisher, offline, shared_files

build = rehearsing.build
Change = Callable[[Build], Any]


def other_report(**changes: Any) -> Change:
    return lambda build: build.report(build.parents(), **changes)


def results(**changes: Any) -> list[dict[str, Any]]:
    """Results that pass, but for changes to the last."""
    found: list[dict[str, Any]] = [
        {"variant": name, "check": "structure", "level": "any", "passed": True, "failure": None, "measures": []}
        for name in FIRST
    ]
    return [*found[:-1], {**found[-1], **changes}]


def another_variant(build: Build) -> None:
    build.contents = {**FIRST, "q8": b"made later"}
    build.variant("q8", build.recipe.variant_digest("q8"), {"fp32": build.parents()["fp32"]})


def edit(name: str, old: str, new: str) -> Change:
    def change(build: Build) -> None:
        path = build.home / name
        path.write_text(path.read_text().replace(old, new))

    return change


def disagreement(shared: dict[str, bytes]) -> Change:
    def change(build: Build) -> None:
        build.shared = shared
        build.variant("q8", build.recipe.variant_digest("q8"), {"fp32": build.parents()["fp32"]})
        build.report(build.parents())

    return change


def test_dry_run_without_a_hub(build: Build) -> None:
    assert "the Hub was not asked" in offline(build)
    tree = build.home / "small" / "repo"
    names = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    graphs = {"onnx/model.onnx", "onnx/model_q4.onnx", "onnx/model_quantized.onnx"}
    about = {"README.md", "manifest.json", "provenance.json", "report/report.json", "report/report.md"}
    page = {"index.html", "page.json", *(name for name in names if name.startswith("assets/"))}
    assert names == {*graphs, *about, *page, *SHARED}
    assert "repo: unchanged" in offline(build)


def of_another_file(build: Build) -> None:
    """A report that `verify --reference` made, with all that another report has."""
    path = build.home / "small" / "report" / "manifest.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps({**table, "source": {"origin": "onnx", "file": "other.onnx", "digest": "0" * 64}}))


PROMPTS = {"file": "own.txt", "sha256": "0" * 64, "count": 1, "results": []}

CASES: dict[str, tuple[Change, str]] = {
    "no report": (lambda b: shutil.rmtree(b.home / "small" / "report"), "artifact not found"),
    "failed": (other_report(verdict="failed"), "the verdict is 'failed'"),
    "failed in part": (other_report(results=results(passed=False)), "q4: structure did not pass"),
    "incomplete": (other_report(complete=False, not_judged=["q4"]), "the report is incomplete: q4"),
    "older": (another_variant, "the report is about another q8 than the one there now"),
    "other bytes": (
        other_report(candidates=[{"variant": name, "bytes": 1, "sha256": "0"} for name in FIRST]),
        "the report is about other bytes than onnx/model.onnx",
    ),
    "more": (
        lambda b: b.report({**b.parents(), "fp16": "0" * 64}),
        "the report is about another fp16 than the one there now",
    ),
    "fewer": (
        lambda b: b.report({name: d for name, d in b.parents().items() if name != "q4"}),
        "the report does not judge q4",
    ),
    "another ONNX file": (of_another_file, "one ONNX file against another, not against PyTorch"),
    "own prompts": (other_report(prompts=PROMPTS), "shows prompts of your own (own.txt), for everybody to read"),
    "check did not run": (other_report(results=results(check="other")), "did not run: structure on q4"),
    "required runtime did not run": (
        other_report(not_run=[{"what": "optimum", "reason": "not installed", "required": True}]),
        "a required check or runtime did not run: optimum: not installed",
    ),
    "runtime of the recipe did not run": (
        edit("small.toml", "[publish]\n", '[publish]\nrequire = ["optimum"]\n'),
        "did not run: optimum on fp32",
    ),
    "other text": (edit("text.txt", "some", "other"), "judged by other settings, tolerances or text"),
    "older verify": (
        lambda b: b.report(b.parents(), code="0" * 64),
        "judged by another version of verify than this one",
    ),
    "no licence": (lambda b: b.make(FIRST, license_=None), "the source states no licence"),
    "changed licence": (lambda b: b.make(FIRST, license_="gpl-3.0"), "the source's licence is 'gpl-3.0'"),
    "unknown file": (lambda b: b.make(FIRST, {"config.json": b"{}", "run.py": b"x"}), "file run.py is unknown"),
    "other tokenizers": (
        disagreement(shared_files(tokenizer=b"")),
        "the variants do not agree about tokenizer.json",
    ),
    "other configs": (
        disagreement(shared_files(config=b'{"of": 1}')),
        "the variants do not agree about config.json",
    ),
    "fewer files": (disagreement({"config.json": b"{}"}), "the variants do not agree about having tokenizer.json"),
    "private key": (
        lambda b: b.make(FIRST, {"config.json": b"-----BEGIN EC PRIVATE KEY-----"}),
        "a private key is in the file, at byte 0",
    ),
    "altered": (
        lambda b: (b.home / "small/q8/onnx/model_quantized.onnx").write_bytes(b"altered"),
        "differs from its digest in the manifest",
    ),
}


def test_offline_asks_nobody_for_a_trusted_publishers_token(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_OIDC_RESOURCE", "someone/small")
    monkeypatch.setenv("HF_OIDC_ID_TOKEN", "an identity")
    assert "the Hub was not asked" in offline(build)


def test_own_prompts_are_published_when_asked_to(build: Build) -> None:
    other_report(prompts=PROMPTS)(build)
    found = Publisher(build, "someone/small")("--offline", "--own-prompts", code=0)
    assert "report/report.json" in found


@pytest.mark.parametrize("name", CASES)
def test_refused(build: Build, name: str) -> None:
    offline(build)
    change, reason = CASES[name]
    change(build)
    assert reason in offline(build, code=3)


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("small.toml", "small-ONNX", "some one", "is no repository"),
        ("small.toml", '"small-ONNX"', '"x"\ntag = "a b"', "no tag can begin with"),
        ("small.toml", '"small-ONNX"', '"x"\nprivat = true', "did you mean 'private'?"),
    ],
)
def test_recipe_refused(build: Build, name: str, old: str, new: str, reason: str) -> None:
    edit(name, old, new)(build)
    assert reason in offline(build, code=2)


def test_recipe_that_expects_no_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsing, "RECIPE", rehearsing.RECIPE.replace('license = "mit"\n', ""))
    made = Build(tmp_path)
    made.make(FIRST)
    assert "the recipe does not say which licence it expects" in offline(made, code=3)


def test_card_with_another_licence_than_the_one_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsing, "RECIPE", rehearsing.RECIPE.replace('"mit"', '"gpl-3.0"'))
    made = Build(tmp_path)
    made.make(FIRST, license_="gpl-3.0")
    assert "the source's card says 'mit', not the licence 'gpl-3.0'" in offline(made, code=3)


@pytest.mark.parametrize("name", ["x](javascript:alert(1)) <img src=x>", "a`<b>/`c"])
def test_name_of_the_source_is_no_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(rehearsing, "RECIPE", rehearsing.RECIPE.replace("someone/small", name))
    monkeypatch.setattr(rehearsing, "SOURCE", name)
    made = Build(tmp_path)
    made.make(FIRST)
    offline(made)
    text = (made.home / "small" / "repo" / "README.md").read_text().split("---", 2)[2]
    tokens = MarkdownIt("commonmark").parse(text)
    children = [child for token in tokens for child in (token, *(token.children or ()))]
    assert not {child.type for child in children} & {"html_inline", "html_block"}
    assert not [child for child in children if str(child.attrs.get("href", "")).startswith("javascript:")]


def test_recipe_without_a_repository(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline import command
    from publish.__main__ import main

    words = [str(build.home / "small.toml"), "--build", str(build.home), "--offline"]
    assert command.run(main, words) == 2
    assert "names no owner" in capsys.readouterr().err


def test_what_did_not_run() -> None:
    optional = {"what": "browser", "reason": "no Chromium", "required": False}
    assert not_run({"not_run": [optional]}) == []
    assert not_run({"not_run": [optional, {**optional, "required": True}]}) == ["browser: no Chromium"]


def verify(table: str) -> Change:
    """The recipe's table [verify] changed, and a report by the changed recipe, which says nothing of it."""

    def change(build: Build) -> None:
        edit("small.toml", 'checks = ["structure"]\n', table)(build)
        build.report(build.parents())

    return change


def test_a_runtime_without_which_verify_gives_no_pass_is_asked_for_again(build: Build) -> None:
    verify('checks = ["structure"]\nruntimes = { run = ["optimum"], require = ["optimum"] }\n')(build)
    assert "a required check or runtime did not run: optimum on fp32" in offline(build, code=3)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({"not_run": []}, "a required check or runtime did not run: browser, webgpu on fp32"),
        ({"not_run": [f"browser, webgpu: {name}" for name in FIRST]}, None),
        ({"not_run": ["browser, webgpu: fp32"]}, "did not run: browser, webgpu on q8"),
        ({"level": "webgpu"}, None),
        ({"level": "plain, 1 thread"}, "did not run: browser, webgpu on fp32"),
    ],
)
def test_a_required_configuration_ran_or_the_report_says_why_a_variant_cannot(
    build: Build, there: dict[str, Any], words: str | None
) -> None:
    table = 'runtimes = { run = ["browser"], require = ["browser, webgpu"] }\n'
    verify(f'checks = ["structure"]\n{table}')(build)
    reasons = [{"what": what, "reason": "no kernel", "required": False} for what in there.get("not_run", ())]
    shown = {**results()[0], "runtime": "browser", "level": there.get("level")}
    own = [{**shown, "variant": name} for name in build.contents if "level" in there]
    build.report(build.parents(), not_run=reasons, results=[*results(), *own])
    assert (words or "") in offline(build, code=0 if words is None else 3)


def test_what_pages_load_on_webgpu_unasked_was_judged_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = rehearsing.RECIPE.replace("[publish]", '[defaults]\nwebgpu = "q8"\n[publish]')
    monkeypatch.setattr(rehearsing, "RECIPE", changed)
    build = Build(tmp_path)
    build.make(FIRST)
    assert "q8, which pages load on WebGPU unasked (defaults.webgpu), was not judged there" in offline(build, code=3)
    shown = {**results()[0], "variant": "q8", "runtime": "browser", "level": "webgpu"}
    build.report(build.parents(), results=[*results(), {**shown, "variant": "fp32"}])
    offline(build, code=3)
    build.report(build.parents(), results=[*results(), shown])
    offline(build)


def test_the_check_of_foreign_files_is_not_missed(build: Build) -> None:
    """`verify` leaves it out for what the recipe makes; a recipe that names it could never be published."""
    verify('checks = ["structure", "twin"]\n')(build)
    offline(build)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("small.toml", 'checks = ["structure"]', 'checks = ["tokenizer"]'),
        ("small.toml", "[publish]", '[tolerances.structure.x]\nreason = "wide"\nq8 = {max=9, measured=1}\n[publish]'),
        ("small.toml", 'checks = ["structure"]', 'checks = ["structure"]\nlevels = ["enable_all"]'),
    ],
)
def test_a_recipe_that_judges_otherwise_now_is_not_what_was_verified(
    build: Build, name: str, old: str, new: str
) -> None:
    edit(name, old, new)(build)
    assert "the report was judged by other settings, tolerances or text" in offline(build, code=3)


@pytest.mark.parametrize("text", ['{"scenarios": [{}]}', "[]", '{"scenarios": null}', "{"])
def test_benchmarks_of_another_form_are_refused_by_name(build: Build, text: str) -> None:
    place = build.home / "small" / "benchmarks" / "bench.json"
    place.parent.mkdir()
    place.write_text(text)
    assert "bench.json" in offline(build, code=3)
