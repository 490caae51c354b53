"""Engines without AVX-512, on a machine that may have it: the kernels are those of a processor that has none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import avx2
from benchmarks.__main__ import main
from benchmarks.avx2 import KernelsSeen, without_avx512
from benchmarks.products.measure import ProductForm, ProductSessions, graph
from benchmarks.products.run import Shape, markdown, measure
from benchmarks.remote import Remote
from model.session import open_session, options
from pipeline.errors import InputError, RecipeError
from verify.emulation.emulator import Emulator
from verify.processor import HOST, instruction_sets

pytestmark = [
    pytest.mark.slow,  # copies onnxruntime
    pytest.mark.skipif(HOST != "x86_64" or "AVX2" not in instruction_sets(), reason="this processor has no AVX2"),
]
FORM = ProductForm(4, 32, zero_points=True, level=4)


class Sums:
    """Multiply, in the process that is asked, 33 rows of random numbers with a weight of codes."""

    def product(self) -> np.ndarray:
        session = open_session(graph(256, 96, FORM, 1, np.random.default_rng(0)), options(threads=1))
        rows = np.random.default_rng(1).standard_normal((33, 256)).astype(np.float32)
        return np.asarray(session.run(None, {"x": rows})[0])


@pytest.fixture(name="build", scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A build directory with the copies, but for llama.cpp, which would be compiled.

    On a processor with AVX-VNNI there are none: it needs no registers of its own, so that it cannot be hidden.
    """
    build = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(avx2, "COMPILED", "no-such-distribution")
        if "AVX-VNNI" in instruction_sets():
            with pytest.raises(InputError, match="the libraries still see more"):
                without_avx512(build)
            pytest.skip("this processor has AVX-VNNI, which cannot be hidden: make bench PROCESSOR=AVX2 refuses it")
        without_avx512(build)
        yield build


def test_its_products_are_those_of_an_emulated_processor_to_the_last_bit(build: Path, tmp_path: Path) -> None:
    if shutil.which("qemu-x86_64") is None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("qemu-x86_64 is not installed (Debian: apt-get install qemu-user)")
    found = []
    for python in (without_avx512(build), Emulator("AVX2"), None):
        with Remote(tmp_path / "log.txt", Sums, python=python) as remote:
            found.append(remote.call("product", timeout_s=300))
    np.testing.assert_array_equal(found[0], found[1])
    if "AVX512" in instruction_sets():
        assert not np.array_equal(found[0], found[2])


def test_the_process_knows_of_no_more_than_avx2(build: Path, tmp_path: Path) -> None:
    with Remote(tmp_path / "log.txt", KernelsSeen, python=without_avx512(build)) as remote:
        assert remote.call("instruction_sets", timeout_s=60) == avx2.SETS
        assert remote.call("saturates", timeout_s=60)


def test_copies_that_still_see_more_are_refused(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KernelsSeen, "saturates", lambda _: True)  # in this process only: the child's answer counts
    monkeypatch.setattr(avx2, "SETS", ("AVX2",))
    with pytest.raises(InputError, match="still see more than AVX2"):
        without_avx512(build)


def test_another_machine_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avx2, "HOST", "aarch64")
    with pytest.raises(InputError, match="this machine is aarch64"):
        without_avx512(tmp_path)


def test_a_processor_that_is_not_offered_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["recipes/embedded.toml", "--processor", "SSE4.2"])
    assert "AVX2" in capsys.readouterr().err


def test_products_are_timed_on_both_in_one_table(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.products.run.FORMS", (FORM,))
    pythons = {"machine": None, "AVX2": without_avx512(build)}
    found = measure([Shape(256, 8192)], pythons, 1, 1, tmp_path / "log")
    assert all(entry.seconds[rows].median > 0 for entry in found.values() for rows in (1, 128))
    lines = markdown(found).splitlines()
    assert lines[0] == "## 256 x 8192"
    assert "machine" in lines[2]
    assert lines[4].startswith("| 4/32, zero points, level 4")


def test_a_product_that_gives_its_rows_other_bits_in_a_batch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    float_rows = ProductForm(4, 32, zero_points=False, level=1)
    int8_rows = ProductForm(8, 64, zero_points=False, level=4)
    monkeypatch.setattr("benchmarks.products.measure.WEIGHTS", 100_000)
    own = ProductSessions(1)
    own.open(256, 64, (float_rows, int8_rows))
    assert not own.alone(float_rows)
    assert own.alone(int8_rows)


@pytest.mark.parametrize("shape", ["512", "512x", "0x512", "100x512", "ax512"])
def test_what_is_no_shape_is_refused(shape: str) -> None:
    from benchmarks.products.__main__ import main as products

    with pytest.raises(RecipeError, match="no shape"):
        products([shape])
