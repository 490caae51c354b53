"""Write a recipe for a checkpoint that has none: its sizes, every variant, check and runtime, and no tolerances."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from model import architecture
from model.checkpoint import read_config
from model.contract import Dimensions
from pipeline.canonical import toml_text
from pipeline.recipe.recipe import NAME

TEMPLATE = "recipe.toml.j2"
TEXT = "text/inaugural_heldout.txt"  # of recipes/: what verify reads, where the recipe lies there too
LENGTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257, 513)
LARGE = 10_000_000  # parameters from which emulated processors and an adapter in software take minutes for a prompt
SHORT = 64  # tokens of a context that does not hold the checks' usual texts
LONGEST = 1024  # tokens of the longest texts that are run, where the context holds more
CHUNK = 512  # tokens of the pieces that divergence is measured on, where the context holds as many


@dataclass(frozen=True)
class Described:
    """State what a checkpoint is called, where it lies (None: on the Hub), and what its config and card say."""

    repository: str
    path: Path | None
    architecture: str
    dims: Dimensions
    license: str | None

    @property
    def name(self) -> str:
        """The repository's own name as the name of a directory may be spelt."""
        name = re.sub(r"[^a-z0-9._-]+", "-", self.repository.rpartition("/")[2].lower()).strip("._-")[:100]
        return name if NAME.fullmatch(name) else "model"


def describe(directory: Path, repository: str, path: Path | None, license_name: str | None) -> Described:
    """Read a directory's config.json. InputError for what cannot be converted."""
    where = directory / "config.json"
    own, dims = architecture.of_config(read_config(where), where)
    return Described(repository, path, own.name, dims, license_name)


def text_of(found: Described, *, text: str = TEXT, foreign: bool = False) -> str:
    """Return the recipe. `foreign`: it is to judge files of other programs, not to make any, so no runtime is asked."""
    import jinja2

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
        expect={key: value for key, value in asdict(dims).items() if isinstance(value, int)},
        text=text,
        foreign=foreign,
        usual_width=dims.head_dim == dims.hidden // dims.heads,
        lengths=[length for length in LENGTHS if 2 * length <= dims.context + 2],
        batch=[[5, 1, 18, 11], [64, 33]] if dims.context >= 2 * 64 else [[5, 1, 8, 3]],
        short=dims.context if dims.context < SHORT else None,
        chunk=min(CHUNK, dims.context),
        longest=min(LONGEST, dims.context),
        large=dims.parameters >= LARGE,
    )
