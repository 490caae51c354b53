"""The installation: what is asked for, by which program, and that pip's settings reach uv."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline import install
from tests.conftest import ROOT

TABLE = {"project": {"dependencies": ["a"]}, "dependency-groups": {"setup": ["uv"], "dev": ["b"], "peers": ["c"]}}


@pytest.mark.parametrize(
    ("groups", "names"), [([], ["a"]), (["peers"], ["a", "c"]), (["dev", "setup"], ["a", "b", "uv"])]
)
def test_a_group_is_installed_where_it_is_named(groups: list[str], names: list[str]) -> None:
    assert install.requirements(TABLE, groups) == names


def test_pips_settings_are_uvs_options() -> None:
    pip = install.settings(
        ["global.extra-index-url='file:///a/simple file:///b/simple'", ":env:.find-links='/wheels'", "no setting"]
    )
    assert pip == {"extra-index-url": ["file:///a/simple", "file:///b/simple"], "find-links": ["/wheels"]}
    assert " ".join(install.options(pip)) == (
        "--index file:///a/simple --index file:///b/simple --find-links /wheels --index-strategy unsafe-best-match"
    )
    assert list(install.options({})) == []
    assert list(install.options({"no-index": ["true"]})) == ["--no-index"]
    assert list(install.options({"no-index": ["false"]})) == []


def test_pip_installs_where_uv_is_not() -> None:
    assert install.installer(None, {"find-links": ["/wheels"]})[:4] == [*install.PIP, "install"][:4]
    assert install.installer("/bin/uv", {})[:3] == ["/bin/uv", "pip", "install"]


def test_uv_is_looked_for_before_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "uv"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.find_uv(["no-such-package-anywhere"]) == str(own)


def test_it_is_none_where_pip_has_it_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(install, "PIP", ["false"])
    false = tmp_path / "false"
    false.write_text("#!/bin/sh\nexit 1\n")
    false.chmod(0o755)
    assert install.find_uv(["uv"]) is None


def test_an_unknown_group_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "pipeline.install", "peer"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "no group 'peer' in pyproject.toml: name one of setup, accuracy" in result.stderr


def fake_uv(tmp_path: Path, can_be_had: str) -> Path:
    """A program that succeeds only for what can be had, and keeps what it was asked."""
    path = tmp_path / "uv"
    path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncase "$*" in {can_be_had}) exit 0;; *) exit 1;; esac\n')
    path.chmod(0o755)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch has one build")
@pytest.mark.parametrize(
    ("can_be_had", "more", "said"),
    [
        ("*torch==2+cpu", [], False),  # a directory or an index that is configured has it
        ("*--torch-backend?cpu*", ["--torch-backend", "cpu"], False),  # torch's own index has it
        ("nothing", [], True),
    ],
)
def test_torch_comes_without_cuda_where_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], can_be_had: str, more: list[str], said: bool
) -> None:
    command = [str(fake_uv(tmp_path, can_be_had)), "pip", "install"]
    assert install.without_cuda(command, ["numpy", "torch==2"], {}) == more
    assert ("no torch without CUDA" in capsys.readouterr().err) == said
    asked = (tmp_path / "asked").read_text()
    assert "--dry-run" in asked
    assert "--reinstall" in asked, "a torch that is there says nothing of what can be had"


def test_whoever_names_a_build_of_torch_gets_it(tmp_path: Path) -> None:
    command = [str(fake_uv(tmp_path, "*"))]
    assert install.without_cuda(command, ["torch==2"], {install.BACKEND: "cu130"}) == []
    assert install.without_cuda(command, ["numpy"], {}) == []
    assert not (tmp_path / "asked").exists(), "nothing was tried"


def test_optimums_environment_has_the_projects_onnxruntime_and_torch() -> None:
    """It is to be judged with the kernels that the other runtimes have, and numpy's arrays pass between the two."""
    listed = (ROOT / "verify" / "runtimes" / "optimum" / "requirements.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for name in ("numpy", "onnx", "onnxruntime", "torch"):
        (pinned,) = [line for line in project if line.startswith(f"{name}==")]
        assert pinned in listed


def test_uv_is_pinned_in_both_files() -> None:
    (wanted,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["setup"]
    assert wanted in install.CONSTRAINTS.read_text().splitlines()
