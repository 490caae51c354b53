"""Write a recipe for a checkpoint: sizes, every variant, check and runtime. verify --tolerances measures the rest."""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from convert import hub
from convert.source import license_of
from model import architecture
from model.checkpoint import read_config
from model.contract import Dimensions
from pipeline.canonical import toml_text
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import NAME

TEMPLATE = "recipe.toml.j2"
READ = ["config.json", "README.md"]  # of a repository: no weights
LENGTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257, 513)
LARGE = 10_000_000  # parameters from which emulated processors and an adapter in software take minutes for a prompt
CHUNK = 512  # tokens of the pieces that divergence is measured on, where the context holds as many


@dataclass(frozen=True)
class _Checkpoint:
    """What a checkpoint is called, where it lies (None: on the Hub), and what its config and card say."""

    repository: str
    path: Path | None
    architecture: str
    dims: Dimensions
    license: str | None


def recipe_of(source: str) -> str:
    """Return the text of a recipe for a checkpoint's directory, or a repository of the Hub (its main branch).

    Raises InputError for a config that cannot be converted, UnavailableError without the Hub, and RecipeError for what
    is neither a directory nor a repository's name.
    """
    import jinja2  # with the template, as where a card is written

    found = _found(source)
    dims = found.dims
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # TOML; every text goes through `text`
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["text"] = lambda value: toml_text(str(value))
    return environment.get_template(TEMPLATE).render(
        found=found,
        name=_name(found.repository),
        expect={key: value for key, value in asdict(dims).items() if isinstance(value, int)},
        lengths=[length for length in LENGTHS if 2 * length <= dims.context + 2],
        batch=[[5, 1, 18, 11], [64, 33]] if dims.context >= 2 * 64 else [[5, 1, 8, 3]],
        chunk=min(CHUNK, dims.context),
        large=dims.parameters >= LARGE,
    )


def _found(source: str) -> _Checkpoint:
    directory = Path(source)
    if directory.is_dir():
        return _read(directory, directory.resolve().name, directory.resolve())
    if source.count("/") != 1 or source.startswith((".", "/")):
        hint = "name a checkpoint's directory, or a repository of the Hub as owner/name"
        raise RecipeError(f"{source!r} is no directory here, and no repository's name", where="--init", hint=hint)
    commit = hub.resolve(source, "main")
    with tempfile.TemporaryDirectory(prefix="convert-") as temporary:
        hub.download(source, commit, READ, Path(temporary))
        return _read(Path(temporary), source, None)


def _read(directory: Path, repository: str, path: Path | None) -> _Checkpoint:
    where = directory / "config.json"
    config = read_config(where)
    own = architecture.of_model_type(str(config.get("model_type")), where)
    dims = own.config.dimensions(config, where)
    return _Checkpoint(repository, path, own.name, dims, license_of(directory))


def _name(repository: str) -> str:
    """Return the repository's own name as the name of a directory may be spelt."""
    name = re.sub(r"[^a-z0-9._-]+", "-", repository.rpartition("/")[2].lower()).strip("._-")[:100]
    return name if NAME.fullmatch(name) else "model"
