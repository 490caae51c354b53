from __future__ import annotations

import errno
import os
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.artifact.manifest import Manifest
from pipeline.artifact.store import seal, staging
from pipeline.command import WRITE_ERRORS, invocation, parser, run, say
from pipeline.errors import (
    BROKEN_INPUT,
    BUSY,
    CHECK_FAILED,
    INTERNAL,
    INTERRUPTED,
    PASSED,
    UNAVAILABLE,
    USAGE,
    ArtifactError,
    BusyError,
    InputError,
    PipelineError,
    RecipeError,
    UnavailableError,
)

ROOT = Path(__file__).resolve().parents[2]
REFUSALS = [
    (RecipeError, USAGE),
    (InputError, BROKEN_INPUT),
    (ArtifactError, BROKEN_INPUT),
    (UnavailableError, UNAVAILABLE),
    (BusyError, BUSY),
]


def run_raising(error: BaseException) -> int:
    def stage(argv: Sequence[str] | None) -> int:
        assert argv == ["recipe.toml"]
        raise error

    return run(stage, ["recipe.toml"])


def test_exit_codes_are_distinct_and_as_documented() -> None:
    assert (PASSED, CHECK_FAILED, USAGE, BROKEN_INPUT) == (0, 1, 2, 3)
    assert (UNAVAILABLE, INTERNAL, BUSY, INTERRUPTED) == (69, 70, 75, 130)


@pytest.mark.parametrize("code", [PASSED, CHECK_FAILED])
def test_run_returns_the_stages_own_code(code: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(lambda _: code) == code
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "code"), REFUSALS)
def test_run_tells_a_refusal(kind: type[PipelineError], code: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_raising(kind("too short", where=Path("a/b.onnx"), hint="fetch it again")) == code
    assert capfd.readouterr() == ("", "error: too short\n  where: a/b.onnx\n  to do: fetch it again\n")


@pytest.mark.parametrize(("kind", "code"), REFUSALS)
def test_a_refusal_survives_the_way_between_processes(kind: type[PipelineError], code: int) -> None:
    error = pickle.loads(pickle.dumps(kind("what", where="where", hint="hint")))  # noqa: S301  (made on this line)
    assert type(error) is kind
    assert (error.what, error.where, error.hint, error.exit_code) == ("what", "where", "hint", code)
    assert str(error) == "what\n  where: where\n  to do: hint"


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free space on the disk"),
        (errno.EDQUOT, "free space within your quota"),
        (errno.EFBIG, "a file would exceed the limit"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.ENOTDIR, "a file is where a directory is needed"),
        (errno.EEXIST, "a file is where a directory is needed"),
        (errno.ELOOP, "a symbolic link leads to itself"),
        (errno.ENAMETOOLONG, "the path is too long"),
        (errno.ENOTEMPTY, "another run is using this build directory"),
    ],
)
def test_run_tells_how_to_mend_what_cannot_be_written(
    number: int, hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_raising(OSError(number, os.strerror(number), "build/tiny")) == BROKEN_INPUT
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"error: {os.strerror(number)}\n  where: build/tiny\n  to do: {hint}")
    assert err.count("\n") == 3
    assert "--build" in err


def test_every_write_error_is_tested_above() -> None:
    assert len(WRITE_ERRORS) == 11


def test_a_file_that_may_not_be_read_is_not_told_as_one_to_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    run_raising(PermissionError(errno.EACCES, "Permission denied", "source/model.safetensors"))
    assert "to do: permission denied: allow reading it, or, if it is to be written, " in capfd.readouterr().err


PRINTS = """
import sys
from pipeline.command import run
def stage(_):
    for number in range(100_000):
        print(sys.argv[1], flush=True)
    return 0
raise SystemExit(run(stage))
"""


def test_a_reader_that_has_seen_enough_interrupts_and_is_no_fault() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PRINTS, "a"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    told = child.stderr.read()
    assert child.wait() == INTERRUPTED
    assert told == b"interrupted: nobody reads stdout any more; nothing half-written was kept\n"


def test_another_pipe_that_breaks_is_a_fault(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_raising(BrokenPipeError(errno.EPIPE, "a child's")) == INTERNAL
    assert capfd.readouterr().err.startswith("Traceback")


def test_a_path_that_is_not_utf8_is_printed_as_it_is() -> None:
    script = PRINTS.replace("100_000", "1")
    child = subprocess.run(
        [sys.executable, "-c", script, b"build-\xff"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},  # a UTF-8 locale other than C.UTF-8
        capture_output=True,
        check=False,
    )
    assert (child.returncode, child.stdout) == (PASSED, b"build-\xff\n")


def test_a_full_disk_below_stdout_is_told() -> None:
    script = "from pipeline.command import run\nraise SystemExit(run(lambda _: print('path') or 0))"
    with Path("/dev/full").open("wb") as full:
        child = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert child.returncode == BROKEN_INPUT
    assert child.stderr.startswith(b"error: No space left on device")


def test_a_command_in_an_advice_works_as_written() -> None:
    line = invocation("convert", Path("my recipes/a.toml"), Path("it's"))
    assert shlex.split(line) == ["python", "-m", "convert", "my recipes/a.toml", "--build", "it's"]


def test_run_tells_a_write_error_that_names_no_file(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_raising(OSError(errno.ENOSPC, "No space left on device")) == BROKEN_INPUT
    assert "where: the build directory\n" in capfd.readouterr().err


@pytest.mark.parametrize("below", ["tiny", "tiny/fp32"])
def test_build_directory_that_is_a_file_is_told(tmp_path: Path, below: str, capfd: pytest.CaptureFixture[str]) -> None:
    build = tmp_path / "build"
    build.write_text("a file")

    def stage(_: Sequence[str] | None) -> int:
        with staging(build / below) as staged:
            seal(staged, build / below, Manifest("model", "t", "q8", {}, "", "", {}, {}))
        return PASSED

    assert run(stage) == BROKEN_INPUT
    assert "to do: a file is where a directory is needed" in capfd.readouterr().err


@pytest.mark.parametrize(
    "error", [ValueError("bug"), AssertionError("bug"), MemoryError("bug"), OSError(errno.EBADF, "bug"), OSError("bug")]
)
def test_a_crash_is_no_verdict(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_raising(error) == INTERNAL
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("Traceback")
    assert "bug" in err
    assert err.endswith("error: a fault in this program, not in your model; please report the lines above\n")


def test_interruption(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_raising(KeyboardInterrupt()) == INTERRUPTED
    assert capfd.readouterr() == ("", "interrupted; nothing half-written was kept\n")


def test_usage_errors_pass_through() -> None:
    with pytest.raises(SystemExit) as caught:
        run_raising(SystemExit(USAGE))
    assert caught.value.code == USAGE


def test_say_leaves_stdout_to_the_result(capfd: pytest.CaptureFixture[str]) -> None:
    say("halfway")
    assert capfd.readouterr() == ("", "halfway\n")


def test_parser_reads_recipe_and_build() -> None:
    options = parser("convert", "Convert.").parse_args(["r.toml", "--build", "elsewhere"])
    assert (options.recipe, options.build) == (Path("r.toml"), Path("elsewhere"))
    assert parser("convert", "Convert.").parse_args(["r.toml"]).build == Path("build")


@pytest.mark.parametrize("argv", [[], ["a.toml", "b.toml"], ["a.toml", "--buidl", "x"], ["a.toml", "--build"]])
def test_parser_refuses_a_wrong_command_line(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    def stage(_: Sequence[str] | None) -> int:
        parser("convert", "Convert.").parse_args(argv)
        return PASSED

    with pytest.raises(SystemExit) as caught:
        run(stage)
    assert caught.value.code == USAGE
    assert capfd.readouterr().err.startswith("usage: python -m convert [-h] [--build DIR] RECIPE\n")


@pytest.mark.parametrize("stage", ["convert", "quantize", "verify"])
def test_help_of_a_stage_is_instant_and_named(stage: str) -> None:
    """No library is imported before the command line is parsed: those would take seconds."""
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']; sys.path.insert(0, {str(ROOT)!r})\n"
        f"try: runpy.run_module({stage!r}, run_name='__main__', alter_sys=True)\n"
        "finally: print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == PASSED, done.stderr
    usage, _, modules = done.stdout.partition("LOADED ")
    assert re.match(rf"usage: python -m {stage} \[-h\]", usage)
    assert not {"torch", "transformers", "optimum", "onnx", "onnxruntime", "numpy"} & set(modules.split())
