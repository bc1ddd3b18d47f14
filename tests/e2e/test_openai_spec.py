"""schemathesis draws requests from OpenAI's own specification, those that keep to it and those that do not.

Whatever comes, the answer is no 5xx and no hang, an error is OpenAI's envelope, and what is no error fits the
specification's schema. `SPEC_CASES` says how many are drawn in all; a full run is 10,000.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from frontend import chat_fields, completion_fields
from frontend.field_policy import Field
from frontend.responses import fields as response_fields
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, READY_S, REPOSITORY

CASES = int(os.environ.get("SPEC_CASES", "400"))
SPEC: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "openai-2.3.0.json").read_text())
RULE = {
    "text": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Here.<|return|>"
}
TABLES: dict[str, Mapping[str, Field]] = {
    "/chat/completions": chat_fields.FIELDS,
    "/completions": completion_fields.FIELDS,
    "/responses": response_fields.FIELDS,
}
STREAMED = {
    "/chat/completions": "CreateChatCompletionStreamResponse",
    "/completions": "CreateCompletionResponse",
    "/responses": "ResponseStreamEvent",
}
# Shares of all cases: path, method, mode, hundredths.
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
BODIES = [
    ("/chat/completions", POSITIVE, 20),
    ("/chat/completions", NEGATIVE, 15),
    ("/completions", POSITIVE, 10),
    ("/completions", NEGATIVE, 8),
    ("/responses", POSITIVE, 15),
    ("/responses", NEGATIVE, 8),
]
ADDRESSES = [
    ("/models", "GET", POSITIVE, 1),
    ("/models/{model}", "GET", POSITIVE, 2),
    ("/responses/{response_id}", "GET", POSITIVE, 2),
    ("/responses/{response_id}", "GET", NEGATIVE, 2),
    ("/responses/{response_id}", "DELETE", POSITIVE, 2),
    ("/responses/{response_id}/cancel", "POST", POSITIVE, 2),
    ("/responses/{response_id}/input_items", "GET", POSITIVE, 2),
    ("/responses/{response_id}/input_items", "GET", NEGATIVE, 1),
]
OWN = ["/tokenize", "/detokenize"]  # 5 hundredths each, in either mode


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    """With an engine that has an answer to everything."""
    folder = tmp_path_factory.mktemp("spec")
    (folder / "answers.jsonl").write_text(json.dumps(RULE))
    environment = {"GPT_OSS_ENGINE": "scripted", "GPT_OSS_SCRIPT": str(folder / "answers.jsonl")}
    server_settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE],
        log_file=folder / "triton.log",
        environment=environment,
    )
    with TritonServer(server_settings) as server:
        server.start()
        server.wait_ready(READY_S)
        with ShimProcess(server) as process:
            yield process
            assert process.ready()
            assert "Traceback" not in process.log()


@pytest.fixture(scope="module")
def http(shim: ShimProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shim.url, timeout=60) as client:
        yield client


def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    found = {"$ref": f"#/components/schemas/{schema}", "components": SPEC["components"]}
    return jsonschema_rs.Draft202012Validator(found)


ERROR = validator("ErrorResponse")


def drawn(share: int, strategy: Any, check: Any) -> Counter[int]:
    """Check a share of all cases; how many there were of each status."""
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=max(CASES * share // 100, 2),
        phases=[Phase.explicit, Phase.generate],  # to shrink such cases takes longer than to read them
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=CASES == 400,
    )
    @given(strategy)
    def run(case: Any) -> None:
        statuses[check(case)] += 1

    run()
    return statuses


def check_error(response: Any) -> None:
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    record = response.json()
    ERROR.validate(record)
    assert list(record["error"]) == ["message", "type", "param", "code"]
    assert isinstance(record["error"]["code"], str)


def check_stream(text: str, path: str, schema: jsonschema_rs.Draft202012Validator) -> None:
    assert text.endswith("\n\n")
    events = [event for event in text.split("\n\n") if event and not event.startswith(":")]
    if path != "/responses":
        assert events.pop() == "data: [DONE]"
    for event in events:
        record = json.loads(event.partition("data: ")[2])
        if (
            path == "/completions"
        ):  # a chunk has no schema of its own, and the whole's says nothing of a reason to come
            record["choices"] = [
                choice for choice in record["choices"] if choice["finish_reason"] is not None
            ]
        schema.validate(record)
    if path == "/responses":
        assert events[-1].startswith(("event: response.completed", "event: response.incomplete"))


@pytest.mark.parametrize(("path", "mode", "share"), BODIES)
def test_bodies(http: httpx.Client, path: str, mode: GenerationMode, share: int) -> None:
    operation = schemathesis.openapi.from_dict(SPEC)[path]["POST"]
    (answer,) = [
        content["schema"]
        for kind, content in SPEC["paths"][path]["post"]["responses"]["200"]["content"].items()
        if kind == "application/json"
    ]
    whole = validator(answer["$ref"].rpartition("/")[2])
    streamed = validator(STREAMED[path])

    def check(case: Any) -> int:
        body = _served(case.body, TABLES[path]) if mode is POSITIVE else case.body
        response = http.post(f"/v1{path}", content=_json(body), headers={"content-type": "application/json"})
        if response.status_code != 200:
            check_error(response)
        elif response.headers["content-type"].startswith("text/event-stream"):
            check_stream(response.text, path, streamed)
        else:
            whole.validate(response.json())
        return response.status_code

    statuses = drawn(share, operation.as_strategy(generation_mode=mode), check)
    print(path, mode.value, dict(statuses))  # noqa: T201 - with -rP the figures of a run


def _served(body: Any, table: Mapping[str, Field]) -> Any:
    """What keeps to the specification, for a model that is here. Half of it loses the fields that nobody has or that
    are refused, and so gets further in."""
    body = _as_javascript(body)
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("model"), str):
        body = {**body, "model": ENSEMBLE}
    if len(body) % 2:
        return body
    if table is response_fields.FIELDS:  # the specification asks for neither
        body = {"input": "Hello", **body, "model": ENSEMBLE}
    return {
        name: value for name, value in body.items() if name in table and table[name].treatment != "refused"
    }


def _as_javascript(value: Any) -> Any:
    """Whole numbers without a fraction: as clients write them, and not as the generator does."""
    if isinstance(value, dict):
        return {name: _as_javascript(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_as_javascript(child) for child in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json(body: Any) -> bytes:
    return json.dumps(body, default=str).encode()


@pytest.mark.parametrize(("path", "method", "mode", "share"), ADDRESSES)
def test_addresses(shim: ShimProcess, path: str, method: str, mode: GenerationMode, share: int) -> None:
    operation = schemathesis.openapi.from_dict(SPEC)[path][method]

    def check(case: Any) -> int:
        response = case.call(base_url=f"{shim.url}/v1", timeout=60)
        if response.status_code != 200:
            check_error(response)
        return int(response.status_code)

    statuses = drawn(share, operation.as_strategy(generation_mode=mode), check)
    print(method, path, mode.value, dict(statuses))  # noqa: T201


@pytest.mark.parametrize("mode", [POSITIVE, NEGATIVE])
@pytest.mark.parametrize("path", OWN)
def test_our_own_paths(http: httpx.Client, path: str, mode: GenerationMode) -> None:
    """By the document that the shim serves: OpenAI's has them not."""
    operation = schemathesis.openapi.from_dict(http.get("/openapi.json").json())[path]["POST"]

    def check(case: Any) -> int:
        body = case.body
        if isinstance(body, dict) and isinstance(body.get("model"), str):
            body = {**body, "model": ENSEMBLE}
        response = http.post(path, content=_json(body), headers={"content-type": "application/json"})
        if response.status_code != 200:
            check_error(response)
        return response.status_code

    statuses = drawn(5, operation.as_strategy(generation_mode=mode), check)
    print(path, mode.value, dict(statuses))  # noqa: T201
