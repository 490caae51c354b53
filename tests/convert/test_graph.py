"""The float32 artifact: a reproducible graph that keeps the contract, with the files that loaders want beside it."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from transformers import AutoTokenizer

from model import contract
from model.architectures.gpt2.graph import GPT2
from model.contract import Dimensions
from pipeline import variants
from pipeline.artifact.store import open_artifact
from pipeline.canonical import file_digest
from tests.support.tiny_checkpoints import EOS, SIZES, convert, converted, write_checkpoint

UNTIDY = {
    "tokenizer_class": "GPT2Tokenizer",
    "bos_token": {"__type": "AddedToken", "content": EOS, "lstrip": False, "normalized": True},
    "eos_token": {"content": EOS, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
    "unk_token": EOS,
    "model_max_length": 10**30,
    "name_or_path": "/home/someone/checkpoint",
    "special_tokens_map_file": "/home/someone/special_tokens_map.json",
    "tokenizer_file": "/home/someone/tokenizer.json",
    "clean_up_tokenization_spaces": False,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As people upload them: objects for tokens, paths of their machine, settings of their own."""
    directory = write_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")
    config = json.loads((directory / "config.json").read_text())
    config |= {"_name_or_path": "/home/someone/checkpoint", "torch_dtype": "bfloat16", "task_specific_params": {"a": 1}}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer_config.json").write_text(json.dumps(UNTIDY))
    (directory / "special_tokens_map.json").write_text(json.dumps({"eos_token": UNTIDY["eos_token"]}))
    generation = {"do_sample": True, "temperature": 0.7, "eos_token_id": SIZES["vocab_size"] - 1}
    (directory / "generation_config.json").write_text(json.dumps({**generation, "transformers_version": "4.1"}))
    (directory / "vocab.bak").write_text("not asked for")
    return directory


@pytest.fixture(scope="module", params=variants.GRAPHS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def artifact(checkpoint: Path, form: str) -> Path:
    return converted(checkpoint, checkpoint.parent / form / "build", graph=form)


@pytest.fixture(scope="module")
def model(artifact: Path) -> onnx.ModelProto:
    return onnx.load(artifact / "onnx" / "model.onnx")


def test_twice_is_byte_for_byte_the_same(artifact: Path, checkpoint: Path, form: str, tmp_path: Path) -> None:
    again = converted(checkpoint, tmp_path / "build", graph=form)
    one, two = open_artifact(artifact, made_by="test"), open_artifact(again, made_by="test")
    assert one.manifest.files == two.manifest.files
    assert one.digest == two.digest
    assert (artifact / "manifest.json").read_bytes() == (again / "manifest.json").read_bytes()


def test_second_run_changes_nothing(
    artifact: Path, checkpoint: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(artifact.rglob("*"))]
    converted(checkpoint, artifact.parent.parent, graph=form)
    out, err = capsys.readouterr()
    assert err.splitlines() == ["source: unchanged", "fp32: unchanged"]
    assert out == f"{artifact}\n"
    assert before == [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(artifact.rglob("*"))]


def test_changed_source_and_damaged_artifact_are_made_again(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    graph = converted(copy, tmp_path / "build") / "onnx" / "model.onnx"
    digest = file_digest(graph)
    graph.write_bytes(b"damaged")
    converted(copy, tmp_path / "build")
    assert file_digest(graph) == digest
    (copy / "README.md").write_text("---\nlicense: mit\n---\n")
    capsys.readouterr()
    converted(copy, tmp_path / "build")
    assert "source: copying" in capsys.readouterr().err
    assert open_artifact(graph.parent.parent, made_by="test").manifest.source["license"] == "mit"


def test_versions_and_no_traces_of_the_export(model: onnx.ModelProto, form: str) -> None:
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    assert opsets == ({"": 18} if form == "standard" else {"": 18, "com.microsoft": 1})
    assert model.ir_version == 8
    assert model.graph.name == "main"
    assert (model.producer_name, model.producer_version) == ("onnx-conversion-pipeline", "")
    assert (model.doc_string, model.domain, model.model_version) == ("", "", 0)
    assert not model.metadata_props
    assert not model.functions
    assert not model.training_info
    parts = [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]
    parts += [*model.graph.value_info, model.graph]
    assert [part.name for part in parts if part.doc_string or part.metadata_props] == []
    onnx.checker.check_model(model, full_check=form == "standard")  # onnx cannot infer what it has no schema for


def test_names_and_axes_are_the_contract(model: onnx.ModelProto, artifact: Path) -> None:
    dims = Dimensions(**open_artifact(artifact, made_by="test").manifest.facts["dimensions"])
    inputs = (*contract.inputs(dims), *contract.optional_inputs())
    for values, ports in ((model.graph.input, inputs), (model.graph.output, contract.outputs(dims))):
        found = [
            contract.Port(
                value.name,
                {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}[value.type.tensor_type.elem_type],
                tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim),
            )
            for value in values
        ]
        assert found == list(ports)


def test_graph_has_no_constants_duplicates_or_dead_ends(model: onnx.ModelProto, form: str) -> None:
    assert {"Constant", "Identity", "Gemm", "Dropout"} & {node.op_type for node in model.graph.node} == set()
    used = {name for node in model.graph.node for name in node.input} | {port.name for port in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(set(names)) == len(names)
    assert {*names, *(port.name for port in model.graph.input)} <= used
    assert made & set(names) == set()
    assert all(set(node.output) & used for node in model.graph.node)
    operators = {node.op_type for node in model.graph.node if node.domain}
    assert operators == (set() if form == "standard" else {"FastGelu"})


@pytest.mark.parametrize("layers", [2, 3])
def test_a_fused_layer_is_27_nodes(tmp_path: Path, layers: int) -> None:
    artifact = converted(write_checkpoint(tmp_path / "checkpoint", n_layer=layers), tmp_path / "build")
    assert len(onnx.load(artifact / "onnx" / "model.onnx").graph.node) == 21 + 27 * layers


def test_weights_are_the_checkpoint_s_and_stored_once(model: onnx.ModelProto, artifact: Path) -> None:
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    stored = sum(int(np.prod(tensor.dims)) for tensor in floats)
    parameters = open_artifact(artifact, made_by="test").manifest.facts["dimensions"]["parameters"]
    assert parameters <= stored < parameters + 20


def test_exactly_the_files_of_the_contract(artifact: Path) -> None:
    names = {path.relative_to(artifact).as_posix() for path in artifact.rglob("*") if path.is_file()}
    assert names == {
        "config.json",
        "genai_config.json",
        "generation_config.json",
        "manifest.json",
        "merges.txt",
        "onnx/model.onnx",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }


def test_config_files_are_what_the_loaders_read(artifact: Path) -> None:
    def load(name: str) -> dict[str, Any]:
        table: dict[str, Any] = json.loads((artifact / name).read_text())
        return table

    tokens = {"bos_token": EOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    assert load("special_tokens_map.json") == tokens
    assert load("tokenizer_config.json").items() >= tokens.items()
    assert load("tokenizer_config.json")["model_max_length"] == SIZES["n_positions"]
    assert load("config.json").items() >= {"model_type": "gpt2", "dtype": "float32", **SIZES}.items()
    assert {"torch_dtype", "transformers_version", "task_specific_params"} & load("config.json").keys() == set()
    end = SIZES["vocab_size"] - 1
    wanted = {
        "eos_token_id": end, "bos_token_id": end, "pad_token_id": end, "do_sample": True, "temperature": 0.7,
    }  # fmt: skip
    assert load("generation_config.json") == wanted


def test_no_path_of_any_machine_is_kept(artifact: Path, checkpoint: Path) -> None:
    paths = (b"/home/", str(checkpoint.parent).encode(), b"site-packages", str(Path.home()).encode() + b"/")
    for path in artifact.rglob("*"):
        found = [text for text in paths if path.is_file() and text in path.read_bytes()]
        assert not found, path


def test_source_keeps_only_what_a_conversion_needs(artifact: Path) -> None:
    names = {path.name for path in (artifact.parent / "source").iterdir()}
    assert {"README.md", "model.safetensors", "tokenizer.json", "manifest.json"} < names
    assert "vocab.bak" not in names


def test_tokenizer_is_generated_from_vocabulary_and_merges(checkpoint: Path, tmp_path: Path) -> None:
    old = shutil.copytree(checkpoint, tmp_path / "old")
    (old / "tokenizer.json").unlink()
    artifact = converted(old, tmp_path / "build")
    text = f"the thin hat, that {EOS} thing! 42"
    loader: Any = AutoTokenizer
    new, wanted = loader.from_pretrained(artifact), loader.from_pretrained(write_checkpoint(tmp_path / "plain"))
    assert new(text).input_ids == wanted(text).input_ids
    assert new.decode(new(text).input_ids) == text
    assert (artifact / "tokenizer.json").is_file()
    (artifact / "vocab.json").unlink()
    (artifact / "merges.txt").unlink()
    assert loader.from_pretrained(artifact)(text).input_ids == wanted(text).input_ids  # as Transformers.js reads it


def test_tokenizer_without_end_of_text_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = shutil.copytree(checkpoint, tmp_path / "endless")
    (endless / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (endless / "special_tokens_map.json").unlink()
    assert convert(endless, tmp_path / "build") == 3
    assert "tokenizer has no eos_token" in capsys.readouterr().err


def test_chat_template_and_further_special_tokens_are_kept(checkpoint: Path, tmp_path: Path) -> None:
    chat = shutil.copytree(checkpoint, tmp_path / "chat")
    (chat / "chat_template.jinja").write_text("{{ messages }}")
    settings = {**UNTIDY, "additional_special_tokens": [{"content": "?", "__type": "AddedToken"}], "sep_token": EOS}
    (chat / "tokenizer_config.json").write_text(json.dumps(settings))
    artifact = converted(chat, tmp_path / "build")
    assert (artifact / "chat_template.jinja").read_text() == "{{ messages }}"
    table = json.loads((artifact / "tokenizer_config.json").read_text())
    assert table["additional_special_tokens"] == ["?"]
    assert table["sep_token"] == EOS


@pytest.mark.parametrize("key", ["additional_special_tokens", "extra_special_tokens"])
def test_what_transformers_5_writes_is_read_by_4_and_by_transformers_js(
    checkpoint: Path, tmp_path: Path, key: str
) -> None:
    saved = shutil.copytree(checkpoint, tmp_path / "saved")
    settings = {**UNTIDY, "tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "is_local": True, key: ["?"]}
    (saved / "tokenizer_config.json").write_text(json.dumps(settings))
    table = json.loads((converted(saved, tmp_path / "build") / "tokenizer_config.json").read_text())
    assert (table["tokenizer_class"], table["additional_special_tokens"]) == ("PreTrainedTokenizerFast", ["?"])
    assert not {"backend", "is_local", "extra_special_tokens"} & table.keys()


def test_an_embedding_that_is_stored_twice_is_refused(
    checkpoint: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = itertools.count()

    def again(self: GPT2, module: str) -> ir.Value:
        return self.graph.turned(f"{module}.{next(numbers)}", self.weights[f"{module}.weight"])

    monkeypatch.setattr(GPT2, "_table", again)
    assert convert(checkpoint, tmp_path / "build", graph=form) == 3
    assert "embedding stored twice, as transformer.wte.0 and as transformer.wte.1" in capsys.readouterr().err
    assert not (tmp_path / "build" / "tiny" / "fp32").exists()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object) -> NoReturn:
        pytest.fail("something asked for a network address")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "connect", refuse)
        patched.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.mark.usefixtures("no_network")
def test_a_local_checkpoint_is_converted_without_a_network(checkpoint: Path, tmp_path: Path) -> None:
    converted(checkpoint, tmp_path / "build")
