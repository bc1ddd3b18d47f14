"""The README's commands and programs, taken from its text and run against a real server."""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc

from gpt_oss_triton.config import ENV_PREFIX, field_names
from gpt_oss_triton.launch.serve import _parser
from gpt_oss_triton.wire import ENSEMBLE_INPUTS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)


def block(language: str, holding: str) -> str:
    (found,) = (text for kind, text in BLOCKS if kind == language and holding in text)
    return str(found)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL of the shim and Triton's gRPC address, of `scripts/serve` with the demo model."""
    directory = tmp_path_factory.mktemp("serve")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)}
    with (directory / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "gpt_oss_triton.launch.serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**environment, "XDG_CACHE_HOME": str(directory)},
        )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        told = (directory / "said").read_text()
        assert ready, told
        url, address = re.search(r"http://[\d.:]+", ready), re.search(r"gRPC at ([\d.:]+)", told)
        assert url is not None
        assert address is not None
        yield url[0], address[1]
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_two_commands_at_the_top() -> None:
    first_block = BLOCKS[0][1]
    commands = [line.split("#")[0].strip() for line in first_block.splitlines()]
    assert commands == ["scripts/serve", "scripts/test"]
    assert all(os.access(ROOT / command, os.X_OK) for command in commands)
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_the_curl(server: tuple[str, str]) -> None:
    command = block("bash", "curl -N").replace("http://localhost:8000", server[0])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("data: [DONE]")


def test_the_openai_client(server: tuple[str, str]) -> None:
    program = block("python", "import OpenAI").replace("http://localhost:8000", server[0])
    assert run(program).strip()


def test_the_triton_client_of_fifteen_lines(server: tuple[str, str]) -> None:
    program = block("python", "tritonclient")
    assert len(program.strip().splitlines()) <= 16
    counted = program.replace(
        'result.as_numpy("text_output")[0].decode(), end=""', "len(result.as_numpy('token_ids'))"
    )
    assert counted != program
    assert run(program, server[1]).strip()
    assert 0 < sum(map(int, run(counted, server[1]).split())) <= 64


def test_perf_analyzers_input_is_accepted(server: tuple[str, str], tmp_path: Path) -> None:
    """perf_analyzer itself needs a newer libc than many machines have. Its input file is made as the README
    says, and sent as the tensors that it describes."""
    script = block("bash", "perf_analyzer").partition("perf_analyzer ")[0]
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, timeout=30)
    (entry,) = json.loads((tmp_path / "prompts.json").read_text())["data"]
    types = {spec.name: spec.dtype for spec in ENSEMBLE_INPUTS}
    inputs = []
    for name, tensor in entry.items():
        inputs.append(grpc.InferInput(name, tensor["shape"], types[name]))
        values = np.array(tensor["content"], dtype=grpc.triton_to_np_dtype(types[name]))
        inputs[-1].set_data_from_numpy(values.reshape(tensor["shape"]))
    answers: queue.Queue[tuple[grpc.InferResult, Exception | None]] = queue.Queue()
    tokens, final = 0, False
    with grpc.InferenceServerClient(server[1]) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("gpt-oss-20b", inputs)
        while not final:
            result, error = answers.get(timeout=120)
            assert error is None
            tokens += len(result.as_numpy("token_ids"))
            final = result.get_response().parameters["triton_final_response"].bool_param
    assert 0 < tokens <= entry["max_tokens"]["content"][0]


def test_every_option_is_in_the_table() -> None:
    in_table = set(re.findall(r"^\| .*", README, re.MULTILINE))
    named = {option for row in in_table for option in re.findall(r"--[a-z-]+", row.split("|")[1])}
    actions: list[argparse.Action] = _parser()._actions
    assert named == {option for a in actions for option in a.option_strings if option.startswith("--")} - {
        "--help"
    }


def test_links_and_names_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"(?:docker|scripts|constraints)/[\w./-]+\w", README):
        assert (ROOT / path).exists() or path == "docker/.env", path  # which the README makes
    variables = {name.lower() for name in re.findall(rf"{ENV_PREFIX}([A-Z0-9_]+)", README)}
    assert variables <= field_names() | {"constraints"}
    for command in shlex.split(" ".join(text for kind, text in BLOCKS if kind == "bash"), comments=True):
        assert "<" not in command or command == "<<JSON", f"a placeholder is left: {command}"
