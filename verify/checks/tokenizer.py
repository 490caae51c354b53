"""tokenizer: do the files beside the graph turn text into the same ids, and state the same model, as the source's?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model import generation as settings
from model import guard
from model.checkpoint import read_object
from pipeline.canonical import read_json
from pipeline.errors import InputError
from verify.candidate import generation_files, sidecar_files
from verify.candidate.ports import MAY_BE_MISSING
from verify.candidate.session import Candidate
from verify.check import Case, Explaining, Measure, Partial, Prompting
from verify.settings import require_positive

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

NEEDS: tuple[str, ...] = ()
PER_LEVEL = False
TOLERATED: dict[str, str] = {}
JUDGES = "files"
PROMPTING: Prompting | None = None
SEEDED = False
BRIEF: Mapping[str, Any] = {}
EXPLAINING: Explaining | None = None
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
# Keys in which a converted config may differ: they describe a file, a library or a caller's wish, not the model.
FREE = {"_name_or_path", "task_specific_params", "transformers.js_config", "transformers_version", "use_cache",
        *guard.CALLERS}  # fmt: skip
# Strings that tokenizers disagree on: white space, unicode of every width, control characters, long words, digits.
HARD = (
    "",
    " ",
    "  leading and trailing  ",
    "tabs\tand\nnew\r\nlines\n\n\n",
    "don't can't I'll we've he'd",
    "naïve café Straße ﬁne ﬀ",
    "日本語 العربية עברית हिन्दी русский",
    "👍🏽 👩‍👩‍👧‍👦 🇨🇭 ☃️",
    "a\u0000b\u0001c\u007f\u200b\ufeff\u202e",
    "e\u0301 versus \u00e9",
    "1234567890 3.14159 1,000,000 0x7fff",
    "x" * 500,
    "<|endoftext|> inside <|endoftext|>text",
    "https://example.org/a?b=c&d=%20#e",
    "    def f(x):\n        return x ** 2  # code\n",
    "…—–‘’“”•",  # noqa: RUF001
)


@dataclass(frozen=True)
class Settings:
    """Length of each piece of the verification text that is tokenized, in characters.

    `complete` says whether all FILES must be there; programs that load other programs' conversions need fewer.
    """

    piece: int = 2000
    complete: bool = True

    def check(self, where: str, context: int) -> None:  # noqa: ARG002 (every check has it)
        """RecipeError for pieces of no length."""
        require_positive(self.piece, f"{where}: piece")


def cases(reference: Reference, corpus: Any, settings: Settings) -> Iterator[Case]:
    """One case: strings with the source tokenizer's ids, and the source's config."""
    text = corpus.text
    strings = [*HARD, *(text[i : i + settings.piece] for i in range(0, len(text), settings.piece))]
    tokenizer = reference.tokenizer
    ids = [list(map(int, tokenizer(string, verbose=False)["input_ids"])) for string in strings]
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    known = sorted(tokenizer.get_vocab().values())
    texts = [tokenizer.decode(entry, **options) for entry in (*ids, known)]
    config = {k: v for k, v in reference.stated.items() if k not in FREE}
    facts = {
        "strings": strings, "ids": ids, "known": known, "texts": texts, "config": config, "end": reference.end,
        "complete": settings.complete,
    }  # fmt: skip
    facts |= {"tokenizer_config.json": _read(reference.directory / "tokenizer_config.json")}
    facts |= {"context": reference.dimensions.context, "stated": sidecar_files.stated(reference)}
    facts |= {"generation": generation_files.stated(reference)}
    yield Case("tokenizer", facts=facts)


def judge(candidate: Candidate, case: Case) -> Partial:
    """Strings with other ids, and keys with other values."""
    directory = beside(candidate.path)
    if directory is None:
        raise FileNotFoundError(f"none of {', '.join(FILES)} lies beside {candidate.path.name}")
    tokens, texts = _tokenization(directory, case)
    return {
        "tokens": tokens,
        "texts": texts,
        "files": _files(directory, candidate.path, case),
        "generation": _read_loosely(directory / settings.FILE),
        "strings": len(case.facts["strings"]),
    }


def summarize(partials: list[Partial], observed: Any, reference: Reference) -> list[Measure]:
    """Counts of differing strings and of differing keys and files."""
    (partial,) = partials
    tokens, texts, files = partial["tokens"], partial["texts"], list(partial["files"])
    if partial["generation"] is not None:
        refused = settings.refusal(partial["generation"])  # here, where transformers is loaded
        files += [f"{settings.FILE}: transformers refuses it: {refused}"] if refused is not None else []
    return [
        Measure("tokens", len(tokens), partial["strings"], fixed=0, detail="; ".join(tokens[:3])),
        Measure("texts", len(texts), partial["strings"], fixed=0, detail="; ".join(texts[:3])),
        Measure("files", len(files), len(FILES), fixed=0, detail="; ".join(files[:3])),
    ]


def beside(path: Path) -> Path | None:
    """The directory that holds the files of the graph at `path`: its own, or the one above its onnx/ folder."""
    path = path.resolve()
    for directory in (path.parent, path.parent.parent):
        if any((directory / name).is_file() for name in FILES):
            return directory
        if path.parent.name != "onnx":
            break
    return None


def _read(path: Path) -> Any:
    """A JSON file's content; empty where the source has no such file."""
    return read_json(path) if path.is_file() else {}


def _read_loosely(path: Path) -> dict[str, Any] | None:
    """A JSON object's content; None where there is none, which `_files` reports."""
    try:
        value = read_json(path) if path.is_file() else None
    except InputError:
        return None
    return value if isinstance(value, dict) else None


def _tokenization(directory: Path, case: Case) -> tuple[list[str], list[str]]:
    """Strings with other token ids than the source's; ids, all of the vocabulary among them, with another text."""
    from tokenizers import Tokenizer

    if not (directory / "tokenizer.json").is_file():  # the library would wait for ever on a pipe of this name
        problem = ["tokenizer.json is missing"]
        return problem, problem
    try:
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        encoded = [tokenizer.encode(string).ids for string in case.facts["strings"]]
        everything = [*case.facts["ids"], case.facts["known"]]
        decoded = [tokenizer.decode(list(ids), skip_special_tokens=True) for ids in everything]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  # the library raises bare Exception, and a panic in Rust, which is none
        problem = [f"tokenizer.json cannot be used: {error}"]
        return problem, problem
    tokens = []
    for string, found, ids in zip(case.facts["strings"], encoded, case.facts["ids"], strict=True):
        if found != ids:
            at = _first_difference(found, ids)
            tokens.append(f"{string[:20]!r} differs at token {at}: {found[at : at + 3]}, not {ids[at : at + 3]}")
    texts = []
    for ids, text, wanted in zip(everything, decoded, case.facts["texts"], strict=True):
        if text != wanted:
            at = _first_difference(text, wanted)
            texts.append(f"{len(ids)} tokens become {text[at : at + 20]!r}, not {wanted[at : at + 20]!r}")
    return tokens, texts


def _first_difference(a: Sequence[Any], b: Sequence[Any]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _files(directory: Path, graph: Path, case: Case) -> list[str]:
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing and case.facts["complete"]:
        return [f"{name} is missing" for name in missing]
    try:
        if missing:
            return _some_files(directory, graph, missing, case)
        config, generation, tokenizer = (
            read_object(directory / name) for name in ("config.json", "generation_config.json", "tokenizer_config.json")
        )
        problems = _tokenizer_config(tokenizer, case) + _accompanying(directory, config, generation, case)
    except InputError as error:
        return [f"{Path(error.where).name}: {error.what}"]
    problems += sidecar_files.data_files(config, graph)
    for key, value in case.facts["config"].items():
        if config.get(key) != value:
            problems.append(f"config.json: {key} is {config.get(key)!r}, not {value!r}")
    return problems


def _some_files(directory: Path, graph: Path, missing: Sequence[str], case: Case) -> list[str]:
    """The problems of what can be judged where not all files are there."""
    import onnx

    there = {port.name for port in onnx.load(graph, load_external_data=False).graph.input}
    lacking = [name for name in MAY_BE_MISSING if name not in there]
    problems = generation_files.genai(directory, case.facts["generation"], lacking)
    if "tokenizer_config.json" in missing:
        return [*problems]
    return [*_tokenizer_config(read_object(directory / "tokenizer_config.json"), case), *problems]


def _accompanying(directory: Path, config: dict[str, Any], generation: dict[str, Any], case: Case) -> list[str]:
    """Return the problems in what no text shows, and some loader reads."""
    facts, end = case.facts["stated"], case.facts["end"]
    return [
        *sidecar_files.vocabulary(directory, facts),
        *sidecar_files.tokenizer_config(directory, case.facts["tokenizer_config.json"], facts),
        *generation_files.settings(generation, config, case.facts["generation"]),
        *generation_files.genai(directory, case.facts["generation"]),
        *sidecar_files.config(config, case.facts["config"], facts, frozenset(FREE), end),
    ]


def _tokenizer_config(config: dict[str, Any], case: Case) -> list[str]:
    """Check loaders' needs of tokenizer_config.json: the source's special tokens as plain strings, and a pad token."""
    source, context = case.facts["tokenizer_config.json"], case.facts["context"]
    problems = [
        f"tokenizer_config.json: {key} is not a plain string"
        for key in ("bos_token", "eos_token", "unk_token", "pad_token")
        if config.get(key) is not None and not isinstance(config[key], str)
    ]
    if config.get("model_max_length") not in (None, context, source.get("model_max_length")):
        problems.append(f"tokenizer_config.json: model_max_length is {config['model_max_length']!r}, not {context}")
    tokens = case.facts["stated"]["tokens"]
    for key in ("bos_token", "eos_token", "unk_token"):
        wanted = tokens.get(key) if source.get(key) is not None else None
        if wanted is not None and config.get(key) != wanted:
            problems.append(f"tokenizer_config.json: {key} is {config.get(key)!r}, not {wanted!r}")
    if not config.get("pad_token") and not config.get("eos_token"):
        problems.append("tokenizer_config.json: neither pad_token nor eos_token; ragged batches cannot be padded")
    return problems
