"""Errors a user can act on, and the exit code that each one means."""

from __future__ import annotations

PASSED = 0
CHECK_FAILED = 1
USAGE = 2
BROKEN_INPUT = 3
UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h: the network or the Hub, not the model; the same command may work later
INTERNAL = 70  # EX_SOFTWARE of sysexits.h: a fault in this program, never a verdict about a model
BUSY = 75  # EX_TEMPFAIL of sysexits.h: another run is at work here
INTERRUPTED = 130


class PipelineError(Exception):
    """A refusal: what is wrong, where, and what to do about it."""

    exit_code = BROKEN_INPUT

    def __init__(self, what: str, *, where: object, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.where = str(where)
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  to do: {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and refusals cross process borders.
        return _rebuild, (type(self), self.what, self.where, self.hint)


class RecipeError(PipelineError):
    """The recipe or the command line asks for something that cannot be."""

    exit_code = USAGE


class InputError(PipelineError):
    """A source checkpoint or a foreign file is broken or not what was announced."""


class UnavailableError(PipelineError):
    """The network, or a service behind it, failed: nothing is known to be wrong, and trying again may help."""

    exit_code = UNAVAILABLE


class BusyError(PipelineError):
    """Another run is at work where this one would be."""

    exit_code = BUSY


class ArtifactError(PipelineError):
    """An artifact of this pipeline is missing, incomplete, altered or stale."""


def _rebuild(kind: type[PipelineError], what: str, where: str, hint: str) -> PipelineError:
    return kind(what, where=where, hint=hint)
