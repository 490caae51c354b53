"""A tiny checkpoint that convert must refuse, and tensors that are not what its config asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.tiny_checkpoints import BIAS, Tensors, convert, write_checkpoint

Refuse = Callable[..., str]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


@pytest.fixture
def refuse(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Run the stage, which must refuse and leave nothing behind; what it said."""

    def run(source: str = "") -> str:
        assert convert(checkpoint, tmp_path / "build", source) == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert "error: " in err
        assert "  where: " in err
        assert f"  where: {tmp_path / 'build'}" not in err  # the user has no copy to mend
        assert "  to do: " in err
        assert "Traceback" not in err
        assert not (tmp_path / "build" / "tiny" / "fp32").exists()
        assert list((tmp_path / "build").rglob(".staging-*")) == []
        return err

    return run


BAD_TENSORS: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda t: t.pop(BIAS), f"tensor {BIAS} is missing"),
    "extra": (lambda t: t.update(more=torch.ones(1)), "tensor transformer.more does not belong to this config"),
    "layer": (
        lambda t: t.update({BIAS.replace("1", "2"): t[BIAS].clone()}),
        "tensor transformer.h.2.mlp.c_proj.bias does not belong",
    ),
    "shape": (lambda t: t.update({BIAS: torch.ones(31)}), f"tensor {BIAS} has shape (31,), config.json asks for (32,)"),
    "float64": (lambda t: t.update({BIAS: t[BIAS].double()}), f"tensor {BIAS} is F64"),
    "int8": (lambda t: t.update({BIAS: t[BIAS].to(torch.int8)}), f"tensor {BIAS} is I8"),
    "nan": (lambda t: t[BIAS].__setitem__(3, float("nan")), f"tensor {BIAS} holds NaN or Inf"),
    "infinite": (lambda t: t[BIAS].__setitem__(0, float("-inf")), f"tensor {BIAS} holds NaN or Inf"),
}
