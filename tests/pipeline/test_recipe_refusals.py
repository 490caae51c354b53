"""Test what is refused in a recipe, and with which words: what is wrong, where, and what to do."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pipeline.errors import USAGE, RecipeError
from pipeline.recipe.recipe import read_recipe
from tests.support import small_recipe
from tests.support.small_recipe import RECIPE, read, toml

CHECKS = "known: cache, divergence, generation, logits, structure, tokenizer, twin, weights"
SCHEMES = "known: auto, float16, gptq, hqq, kquant, nf4, rtn"

path = small_recipe.path


def refusal(path: Path, text: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        read(path, text)
    assert caught.value.exit_code == USAGE
    assert caught.value.where.startswith(str(path))
    return caught.value


# Each row: the text to find, what to put in its place, and the refusal's what, where (after the file) and hint.
ROWS = [
    # the top of the file
    ('name = "tiny"\n', "", "missing key 'name'", "", "add name; see recipes/ for examples"),
    ('name = "tiny"\n', 'name = "tiny"\nnmae = 1\n', "unknown key 'nmae'", "", "did you mean 'name'?"),
    (
        'name = "tiny"\n',
        'name = "tiny"\nx = 1\n',
        "unknown key 'x'",
        "",
        (
            "known: architecture, calibration, defaults, external_data_above, graph, in_place, name, publish, source, "
            "tolerances"
        ),
    ),
    (
        'name = "tiny"\n',
        'name = "tiny"\nexternal_data_above = -1\n',
        "-1 bytes are no limit of a file",
        ": external_data_above",
        "write 0 (always beside the graph) to 2000000000",
    ),
    (
        'name = "tiny"\n',
        'name = "tiny"\nexternal_data_above = 2000000001\n',
        "2000000001 bytes are no limit of a file",
        ": external_data_above",
        "write 0 (always beside the graph) to 2000000000",
    ),
    (
        'name = "tiny"\n',
        'name = "tiny"\ndefaults = { wsam = "fp32" }\n',
        "no device 'wsam'",
        ": defaults",
        "did you mean 'wasm'?",
    ),
    (
        'name = "tiny"\n',
        'name = "tiny"\nin_place = ["q4f61"]\n',
        "'q4f61' is not made by this recipe",
        ": in_place",
        "did you mean 'q4f16'?",
    ),
    (
        'name = "tiny"\n',
        'name = "tiny"\ndefaults = { wasm = "int4" }\n',
        "'int4' is not made by this recipe",
        ": defaults.wasm",
        "known: fp16, fp32, q4f16",
    ),
    (
        '{ scheme = "rtn"',
        '{ at = 2020-01-01, scheme = "rtn"',
        "datetime.date(2020, 1, 1) is no option's value",
        ": variants.q4f16.steps[0]: at",
        "write a finite number, a text",
    ),
    (
        '{ scheme = "rtn"',
        '{ at = [nan], scheme = "rtn"',
        "[nan] is no option's value",
        ": variants.q4f16.steps[0]: at",
        "write a finite number, a text",
    ),
    ('"tiny"', "3", "expected str, found int 3", ": name", "write a value of type str"),
    ('"tiny"', '""', "'' cannot name a directory", ": name", "use a-z 0-9 . _ -"),
    ('"tiny"', '"../tiny"', "'../tiny' cannot name a directory", ": name", "use a-z 0-9 . _ -"),
    ('"tiny"', '".."', "'..' cannot name a directory", ": name", "use a-z 0-9 . _ -"),
    ('"tiny"', '"a/b"', "'a/b' cannot name a directory", ": name", "use a-z 0-9 . _ -"),
    ('"tiny"', '"Tiny"', "'Tiny' cannot name a directory", ": name", "use a-z 0-9 . _ -"),
    ('"tiny"', '"tiny\\n"', "'tiny\\n' cannot name a directory", ": name", "use a-z 0-9 . _ -"),
    ('"tiny"', f'"{"a" * 300}"', "'aaa", ": name", "use a-z 0-9 . _ -"),
    ('"gpt2"', '"gtp2"', "'gtp2' does not exist", ": architecture", "did you mean 'gpt2'?"),
    ('"gpt2"', '"../gpt2"', "'../gpt2' does not exist", ": architecture", "known: "),
    ('"gpt2"', '"__init__"', "'__init__' does not exist", ": architecture", "known: "),
    ('"gpt2"', '["gpt2"]', "expected str, found list ['gpt2']", ": architecture", "write a value of type str"),
    # source
    ('repository = "someone/tiny"\n', "", "missing key 'repository'", ": source", "add repository = ..."),
    ("repository =", "repositry =", "unknown key 'repositry'", ": source", "did you mean 'repository'?"),
    ('"someone/tiny"', "false", "expected str, found bool False", ": source: repository", "of type str"),
    ("[source]", "[source]\nallow_pickle = 1", "expected bool, found int 1", ": source: allow_pickle", "of type bool"),
    ("layers = 2", "layer = 2", "unknown key 'layer'", ": source: expect", "did you mean 'layers'?"),
    ("layers = 2", "layers = 2.0", "expected int, found float 2.0", ": source: expect: layers", "of type int"),
    ("tied = true", "tied = 1", "expected bool, found int 1", ": source: expect: tied", "of type bool"),
    # variants
    ("fp16 = { steps", "fp61 = { steps", "'fp61' is not a variant", ": variants", "did you mean 'fp16'?"),
    ("fp16 = { steps", "fp32 = { steps", "'fp32' is not a variant", ": variants", "known: bnb4, fp16, int8, q2, "),
    ("fp16 = { steps", "fp16 = { stesp", "unknown key 'stesp'", ": variants.fp16", "did you mean 'steps'?"),
    ('fp16 = { steps = [{ scheme = "float16" }] }', "fp16 = {}", "missing key 'steps'", ": variants.fp16", "add steps"),
    (
        'fp16 = { steps = [{ scheme = "float16" }] }',
        "fp16 = 1",
        "expected a table, found int",
        ": variants.fp16",
        "write a table",
    ),
    ('[{ scheme = "float16" }] }', "[] }", "no steps", ": variants.fp16", 'add steps = [{ scheme = "..." }]'),
    ('[{ scheme = "float16" }] }', "[1] }", "expected Mapping, found int 1", ": variants.fp16: steps[0]", "Mapping"),
    ('[{ scheme = "float16" }] }', "[{}] }", "a step needs a scheme", ": variants.fp16.steps[0]", "write { scheme ="),
    (
        '[{ scheme = "float16" }] }',
        "[{ scheme = 1 }] }",
        "a step needs a scheme",
        ": variants.fp16.steps[0]",
        "write {",
    ),
    (', { scheme = "float16"', ', { scheme = "int3"', "'int3' does not exist", ": variants.q4f16.steps[1]", SCHEMES),
    (
        '"rtn"',
        '"rtm"',
        "'rtm' does not exist",
        ": variants.q4f16.steps[0]",
        "did you mean 'rtn'?",
    ),
    # verify
    ('text = "text/heldout.txt"\n', "", "missing key 'text'", ": verify", "add text = ..."),
    ('checks = ["structure", "logits"]\n', "", "missing key 'checks'", ": verify", "add checks = ..."),
    ('["structure", "logits"]', "[]", "nothing would be checked", ": verify", "name at least one check and one level"),
    ('["structure", "logits"]', '"logits"', "expected tuple, found str 'logits'", ": verify: checks", "of type tuple"),
    ('["structure", "logits"]', '["logit"]', "'logit' does not exist", ": verify: checks", f"{CHECKS}; did you mean"),
    ('["structure", "logits"]', '["x"]', "'x' does not exist", ": verify: checks", CHECKS),
    ('["structure", "logits"]', "[1]", "expected str, found int 1", ": verify: checks[0]", "of type str"),
    ("[verify]", "[verify]\nlevels = []", "nothing would be checked", ": verify", "at least one check and one level"),
    (
        "[verify]",
        '[verify]\nlevels = ["all"]',
        "unknown level 'all'",
        ": verify: levels",
        "known: disable_all, enable_all",
    ),
    ("[verify]", "[verify]\nseed = -1", "negative seed -1", ": verify: seed", "0 or more"),
    (
        "[verify]",
        "[verify]\ncontext = 0",
        "0 positions cannot be judged",
        ": verify.context",
        "write a positive number",
    ),
    ("[verify]", "[verify]\nseed = 1.5", "expected int, found float 1.5", ": verify: seed", "of type int"),
    ("[verify]", "[verify]\ntimeout_s = 0", "timeout_s and memory_gb must be positive", ": verify", "positive numbers"),
    (
        "[verify]",
        "[verify]\nmemory_gb = -1",
        "timeout_s and memory_gb must be positive",
        ": verify",
        "positive numbers",
    ),
    ("[verify]", "[verify]\ntimeout_s = nan", "nan is not a finite number", ": verify: timeout_s", "a finite number"),
    ("[verify]", "[verify]\ntimeout_s = inf", "inf is not a finite number", ": verify: timeout_s", "a finite number"),
    ("[verify]", "[verify]\ntimeout = 9", "unknown key 'timeout'", ": verify", "did you mean 'timeout_s'?"),
    ("[verify]", "[verify]\nsettings = {}", "unknown key 'settings'", ": verify", "name the check itself: cache, "),
    ("logits = { cases", "lgits = { cases", "unknown key 'lgits'", ": verify", "known: "),
    ("logits = { cases = 3 }", "logits = 3", "expected Mapping, found int 3", ": verify: settings.logits", "Mapping"),
    # tolerances
    (
        "[tolerances.logits.max_abs]",
        "[tolerances]\nlogits_range = 0\n[tolerances.logits.max_abs]",
        "0.0 is no range",
        ": tolerances.logits_range",
        "the largest absolute value",
    ),
    (
        "[tolerances.logits.max_abs]",
        '[tolerances]\nmeasured_on = "AVX2"\n[tolerances.logits.max_abs]',
        "expected tuple",
        ": tolerances: measured_on",
        "write a value of type",
    ),
    ("[tolerances.logits.max_abs]", "[tolerances.logit.max_abs]", "'logit' does not exist", ": tolerances", CHECKS),
    (
        'reason = "rounding of float32"\n',
        "",
        "a tolerance needs a reason",
        ": tolerances.logits.max_abs",
        "add reason =",
    ),
    ('"rounding of float32"', '" "', "a tolerance needs a reason", ": tolerances.logits.max_abs", 'add reason = "..."'),
    ('"rounding of float32"', "1", "a tolerance needs a reason", ": tolerances.logits.max_abs", 'add reason = "..."'),
    ("fp32 = { max", "fp23 = { max", "unknown variant 'fp23'", ": tolerances.logits.max_abs", "did you mean 'fp32'?"),
    ("fp32 = { max", "q8 = { max", "unknown variant 'q8'", ": tolerances.logits.max_abs", "known: fp16, fp32, q4f16"),
    ("max = 1e-4", "max = -1e-4", "negative tolerance -0.0001", ": tolerances.logits.max_abs.fp32", "not negative"),
    (
        "max = 1e-4",
        "max = 1e-6",
        "measured 2e-05 is outside the bound 1e-06",
        ": tolerances.logits.max_abs.fp32",
        "widen nothing so that something passes",
    ),
    ("min = 0.99", "min = -1", "negative tolerance -1.0", ": tolerances.logits.agreement.fp16", "not negative"),
    ("max = 1e-4", "max = nan", "nan is not a finite number", ": tolerances.logits.max_abs.fp32", "finite number"),
    ("max = 1e-4", "max = inf", "inf is not a finite number", ": tolerances.logits.max_abs.fp32", "finite number"),
    (
        "max = 1e-4",
        "max = true",
        "expected float, found bool True",
        ": tolerances.logits.max_abs.fp32",
        "of type float",
    ),
    ("max = 1e-4", 'max = "1"', "expected float, found str '1'", ": tolerances.logits.max_abs.fp32", "of type float"),
    ("measured = 2e-5", "measured = nan", "nan is not a finite", ": tolerances.logits.max_abs.fp32", "finite number"),
    (", measured = 2e-5", "", "not a limit", ": tolerances.logits.max_abs.fp32", "write { max = ..., measured = ... }"),
    ("max = 1e-4", "max = 1, min = 0", "not a limit", ": tolerances.logits.max_abs.fp32", "or { min = ..., measured"),
    ("max = 1e-4", "atol = 1e-4", "not a limit", ": tolerances.logits.max_abs.fp32", "write { max = ..."),
    ("{ max = 1e-4, measured = 2e-5 }", "1e-4", "not a limit", ": tolerances.logits.max_abs.fp32", "write { max = ..."),
    # not TOML, or more than tomllib can hold
    ("[source]", "[source", "not TOML: Expected ']'", "", "correct the line that it names"),
    ("[source]", "[name]", "not TOML: ", "", "correct the line that it names"),
    ("layers = 2", "layers = 2, layers = 2", "not TOML: ", "", "correct the line that it names"),
    ("[verify]", f"[verify]\nseed = {'9' * 5000}", "not TOML: Exceeds the limit", "", "correct the line that it names"),
    ("[verify]", f"[verify]\ntimeout_s = 0x{'f' * 5000}", "(too long to show) is not", ": verify: timeout_s", "finite"),
    (
        "[verify]",
        f"[verify]\ntext = 0x{'f' * 5000}\n#",
        "not TOML: Cannot overwrite",
        "",
        "correct the line that it names",
    ),
    ('"tiny"', f"0x{'f' * 5000}", "expected str, found int (too long to show)", ": name", "of type str"),
    ("[verify]", f"[verify]\nseed = {'[' * 5000}", "not TOML: maximum recursion", "", "correct the line that it names"),
]


@pytest.mark.parametrize(
    ("find", "put", "what", "where", "hint"), ROWS, ids=[f"{i}-{row[2][:40]}" for i, row in enumerate(ROWS)]
)
def test_refuses(path: Path, find: str, put: str, what: str, where: str, hint: str) -> None:
    assert find in RECIPE
    error = refusal(path, RECIPE.replace(find, put, 1))
    assert error.what.startswith(what)
    assert error.where == f"{path}{where}"
    assert hint in error.hint


@pytest.mark.parametrize("key", ["name", "architecture", "source", "variants", "verify"])
def test_refuses_a_missing_part(path: Path, key: str) -> None:
    table = tomllib.loads(RECIPE)
    del table[key]
    error = refusal(path, toml(table))
    assert (error.what, error.hint) == (f"missing key {key!r}", f"add {key}; see recipes/ for examples")


@pytest.mark.parametrize("key", ["source", "variants", "verify", "tolerances"])
@pytest.mark.parametrize("value", [1, "text", [], True])
def test_refuses_a_part_that_is_no_table(path: Path, key: str, value: object) -> None:
    error = refusal(path, toml({**tomllib.loads(RECIPE), key: value}))
    assert error.what.startswith("expected ")
    assert error.where == f"{path}: {key}"


def test_refuses_what_is_not_utf8(path: Path) -> None:
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(RecipeError, match="not TOML: 'utf-8' codec can't decode") as caught:
        read_recipe(path)
    assert caught.value.hint == "correct the line that it names"


@pytest.mark.parametrize(("name", "reason"), [("missing.toml", "No such file"), (".", "Is a directory")])
def test_refuses_what_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / name)
    assert caught.value.what.startswith(f"cannot be read: {reason}")
    assert (caught.value.where, caught.value.hint) == (str(tmp_path / name), "name a file in recipes/")


def test_no_more_positions_are_judged_than_the_model_has(path: Path) -> None:
    sizes, judged = ('"mit" }', '"mit", context = 64 }'), ("[verify]", "[verify]\ncontext = 65")
    with pytest.raises(RecipeError, match="65 positions cannot be judged") as caught:
        read(path, RECIPE.replace(*sizes).replace(*judged))
    assert "at most 64, or leave it out" in caught.value.hint
