"""A foreign ONNX file is read in a child process that the kernel holds to bounds; the parent parses nothing."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.errors import InputError, PipelineError
from verify.sandbox import limits
from verify.sandbox.spawned import NoAnswerError, Spawned, answer_all

TIMEOUT_S = 60.0  # of waiting; a file of 256 MB takes less than one
CPU_S = 60
SPARE = 512 * 2**20  # bytes beside three times the file: its content, the parsed message, one tensor's copy
OTHERWISE = "export the model again; if somebody else made the file, do not use it"


class Inspector(Spawned):
    """Looks at files, one after the other, in one child process; starts anew after one that it did not survive."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S, spare: int = SPARE) -> None:
        self._timeout_s, self._spare = timeout_s, spare

    def inspect(self, path: Path) -> None:
        """Return if the file is a complete ONNX model, right or wrong; InputError says what it is if it is none."""
        hint = "use another file: a model is read in a fraction of these bounds"
        try:
            refusal = self._request(self._spawn(_serve, self._spare), str(path), self._timeout_s)
        except NoAnswerError as error:
            raise InputError(f"reading it: {error}", where=path, hint=hint) from error
        if refusal is not None:
            raise refusal


def read(path: Path) -> None:
    """Every refusal in turn, in this process; `Inspector` runs it in a child."""
    from verify.candidate.untrusted import content, external, framing, parsing, tensors, texts

    content.refuse_other_content(path)
    framing.refuse_broken_frame(path)
    model = parsing.parse(path)
    size = path.stat().st_size
    texts.refuse_bad_text(model, path)
    for name, tensor in parsing.tensors(model):
        tensors.refuse_bad_tensor(name, tensor, path, size)
        if tensors.is_external(tensor):
            external.refuse_bad_external(name, tensor, path)


def _serve(pipe: Connection, spare: int) -> None:
    limits.die_with_parent()
    import verify.candidate.untrusted.external  # noqa: F401  # and onnx with it, before memory is bounded

    answer_all(pipe, lambda path: _refusal(Path(path), spare))


def _refusal(path: Path, spare: int) -> PipelineError | None:
    try:
        limits.bound_more_memory(3 * path.stat().st_size + spare)
        limits.bound_more_cpu(CPU_S)
        read(path)
    except PipelineError as error:
        return error
    except MemoryError:
        return InputError("reading it takes more memory than its size warrants", where=path, hint=OTHERWISE)
    except OSError as error:
        return InputError(f"cannot be read: {error.strerror}", where=path, hint="name a readable file")
    except Exception as error:  # noqa: BLE001  # whatever else a foreign file provokes in a library refuses that file
        return InputError(f"cannot be read: {type(error).__name__}: {error}", where=path, hint=OTHERWISE)
    return None
