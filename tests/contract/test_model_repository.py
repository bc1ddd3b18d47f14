"""Every committed config.pbtxt says what wire.py says, and can be loaded as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from gpt_oss_triton import wire
from gpt_oss_triton.wire import TensorSpec

REPOSITORY = Path(__file__).parents[2] / "model_repository"
ENSEMBLES = list(wire.ENGINE_OF)
ENGINES = list(wire.ENGINE_OF.values())
# Triton calls a tensor of bytes a string.
TYPES = {
    "BOOL": "TYPE_BOOL",
    "BYTES": "TYPE_STRING",
    "FP32": "TYPE_FP32",
    "INT32": "TYPE_INT32",
    "UINT64": "TYPE_UINT64",
}

# What Triton's OpenAI frontend and perf_analyzer send to a model that is not vLLM's, and what they read.
TRITON_CLIENT_INPUTS = {
    "text_input", "stream", "max_tokens", "stop_words", "temperature", "top_p", "frequency_penalty",
    "presence_penalty", "seed", "return_num_input_tokens", "return_num_output_tokens",
    "guided_decoding_guide", "guided_decoding_guide_type",
}  # fmt: skip
TRITON_CLIENT_OUTPUTS = {"text_output", "num_input_tokens", "num_output_tokens"}


def config_of(model: str) -> model_config_pb2.ModelConfig:
    text = (REPOSITORY / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())  # raises on an unknown or ill-typed field


def tensors(specs: tuple[TensorSpec, ...]) -> list[tuple[str, str, list[int], bool]]:
    return [(spec.name, TYPES[spec.dtype], list(spec.dims), spec.optional) for spec in specs]


def configured(tensors: object) -> list[tuple[str, str, list[int], bool]]:
    return [
        (t.name, model_config_pb2.DataType.Name(t.data_type), list(t.dims), getattr(t, "optional", False))
        for t in tensors
    ]


def test_the_repository_holds_these_models_and_nothing_else() -> None:
    # Triton takes every directory here for a model.
    assert sorted(p.name for p in REPOSITORY.iterdir()) == sorted(
        [*ENSEMBLES, *ENGINES, wire.NORMALIZER_MODEL]
    )


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        (wire.NORMALIZER_MODEL, wire.NORMALIZER_INPUTS, wire.NORMALIZER_OUTPUTS),
        *((name, wire.ENGINE_INPUTS, wire.ENGINE_OUTPUTS) for name in ENGINES),
        *((name, wire.ENSEMBLE_INPUTS, wire.ENSEMBLE_OUTPUTS) for name in ENSEMBLES),
    ],
)
def test_tensors_are_those_of_the_wire(
    model: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> None:
    config = config_of(model)
    assert configured(config.input) == tensors(inputs)
    assert configured(config.output) == tensors(outputs)


@pytest.mark.parametrize("model", [wire.NORMALIZER_MODEL, *ENGINES, *ENSEMBLES])
def test_triton_neither_batches_nor_chooses_versions(model: str) -> None:
    config = config_of(model)
    assert config.name == model
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert config.version_policy.latest.num_versions == 1
    assert (REPOSITORY / model / "1").is_dir()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_is_one_decoupled_process(engine: str) -> None:
    config = config_of(engine)
    assert config.backend == "python"
    assert config.model_transaction_policy.decoupled
    assert [group.count for group in config.instance_group] == [1]


def test_the_normalizer_answers_once_and_has_two_processes() -> None:
    config = config_of(wire.NORMALIZER_MODEL)
    assert config.backend == "python"
    assert not config.model_transaction_policy.decoupled
    assert [(g.count, g.kind) for g in config.instance_group] == [
        (2, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    ]


@pytest.mark.parametrize(("ensemble", "engine"), wire.ENGINE_OF.items())
def test_an_ensemble_renders_then_generates(ensemble: str, engine: str) -> None:
    config = config_of(ensemble)
    assert config.platform == "ensemble"
    render, generate = config.ensemble_scheduling.step
    assert [render.model_name, generate.model_name] == [wire.NORMALIZER_MODEL, engine]

    same = {spec.name: spec.name for spec in wire.NORMALIZER_INPUTS}
    assert dict(render.input_map) == same
    assert dict(render.output_map) == {spec.name: spec.name for spec in wire.NORMALIZER_OUTPUTS}
    # The engine gets all it takes except `control`, which is not for an ensemble's clients.
    expected = {spec.name: spec.name for spec in wire.ENGINE_INPUTS if spec != wire.CONTROL}
    assert dict(generate.input_map) == expected
    assert dict(generate.output_map) == {spec.name: spec.name for spec in wire.ENSEMBLE_OUTPUTS}


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_tritons_own_clients_find_their_tensors(ensemble: str) -> None:
    config = config_of(ensemble)
    assert {t.name for t in config.input} >= TRITON_CLIENT_INPUTS
    assert {t.name for t in config.output} >= TRITON_CLIENT_OUTPUTS
    assert all(t.optional for t in config.input)  # an absent one has its default


@pytest.mark.parametrize("model", [wire.NORMALIZER_MODEL, *ENGINES])
def test_a_model_file_is_an_import_of_the_installed_package(model: str) -> None:
    directory = REPOSITORY / model / "1"
    assert [p.name for p in directory.iterdir() if p.name != "__pycache__"] == ["model.py"]
    lines = [line for line in (directory / "model.py").read_text().splitlines() if line]
    assert lines[0].startswith("from gpt_oss_triton.triton_backend.")
    assert lines[0].endswith(" as TritonPythonModel")
