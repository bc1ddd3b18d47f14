"""Everything that crosses Triton, defined once: tensor names, dtypes, shapes, and the JSON records inside them.

Imported by both sides and by the tests that hold every committed `config.pbtxt` to it, so it knows
nothing of torch, FastAPI or Triton's own modules.

A request has two forms. Triton's own clients (its OpenAI frontend, perf_analyzer, a script) send
`text_input` and the scalar sampling tensors that TensorRT-LLM's models made customary. The shim sends
two JSON records instead, `prompt` and `options`, because they say more. A scalar tensor that is present
overrides the same field of `options`.

A response always carries all five outputs. `token_ids` are what the model produced since the response
before; `event` is empty, or one JSON record (`Accepted` first, `Finished` last, `Load` and the other
answers to `control`). Failures are Triton errors whose text `errors.from_wire` reads back.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from gpt_oss_triton.block_shape import BlockShape

# --------------------------------------------------------------------------------------------- tensors


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named tensor. `dims` are as in `config.pbtxt`: no batch dimension, -1 where the size varies."""

    name: str
    dtype: Literal["BOOL", "BYTES", "FP32", "INT32", "UINT64"]
    dims: tuple[int, ...]
    optional: bool = False


def _scalar(name: str, dtype: Literal["BOOL", "BYTES", "FP32", "INT32", "UINT64"]) -> TensorSpec:
    # [1, 1] because Triton's OpenAI frontend sends a batch dimension of one even to models without batching.
    return TensorSpec(name, dtype, (1, 1), optional=True)


TEXT_INPUT = _scalar("text_input", "BYTES")  # one user message in plain text
PROMPT = _scalar("prompt", "BYTES")  # a PromptRequest as JSON; excludes text_input
OPTIONS = _scalar("options", "BYTES")  # a GenerationOptions as JSON
RETURN_TEXT = _scalar(
    "return_text", "BOOL"
)  # default true; false leaves text_output empty and saves the decoding

STREAM = _scalar("stream", "BOOL")  # default false: the whole answer in one response
MAX_TOKENS = _scalar("max_tokens", "INT32")
STOP_WORDS = TensorSpec("stop_words", "BYTES", (1, -1), optional=True)
TEMPERATURE = _scalar("temperature", "FP32")
TOP_P = _scalar("top_p", "FP32")
FREQUENCY_PENALTY = _scalar("frequency_penalty", "FP32")
PRESENCE_PENALTY = _scalar("presence_penalty", "FP32")
SEED = _scalar("seed", "UINT64")
RETURN_NUM_INPUT_TOKENS = _scalar(
    "return_num_input_tokens", "BOOL"
)  # accepted; the counts are always returned
RETURN_NUM_OUTPUT_TOKENS = _scalar("return_num_output_tokens", "BOOL")
GUIDED_DECODING_GUIDE = _scalar("guided_decoding_guide", "BYTES")  # refused: `options` has `grammar`
GUIDED_DECODING_GUIDE_TYPE = _scalar("guided_decoding_guide_type", "BYTES")

PROMPT_TOKEN_IDS = TensorSpec("prompt_token_ids", "INT32", (-1,), optional=True)
PROMPT_INFO = _scalar("prompt_info", "BYTES")  # a PromptInfo as JSON
CONTROL = _scalar("control", "BYTES")  # a Control as JSON; excludes everything else

TEXT_OUTPUT = TensorSpec("text_output", "BYTES", (1,))  # new text of the answer (harmony's final channel)
TOKEN_IDS = TensorSpec("token_ids", "INT32", (-1,))  # new tokens, in order
EVENT = TensorSpec("event", "BYTES", (1,))  # "" or one Event as JSON
NUM_INPUT_TOKENS = TensorSpec("num_input_tokens", "INT32", (1,))
NUM_OUTPUT_TOKENS = TensorSpec("num_output_tokens", "INT32", (1,))  # so far, this response included

SAMPLING_INPUTS = (
    STREAM,
    RETURN_TEXT,
    OPTIONS,
    MAX_TOKENS,
    STOP_WORDS,
    TEMPERATURE,
    TOP_P,
    FREQUENCY_PENALTY,
    PRESENCE_PENALTY,
    SEED,
    RETURN_NUM_INPUT_TOKENS,
    RETURN_NUM_OUTPUT_TOKENS,
    GUIDED_DECODING_GUIDE,
    GUIDED_DECODING_GUIDE_TYPE,
)
NORMALIZER_INPUTS = (TEXT_INPUT, PROMPT)
NORMALIZER_OUTPUTS = (
    TensorSpec(PROMPT_TOKEN_IDS.name, PROMPT_TOKEN_IDS.dtype, PROMPT_TOKEN_IDS.dims),
    TensorSpec(PROMPT_INFO.name, PROMPT_INFO.dtype, PROMPT_INFO.dims),
)
ENGINE_INPUTS = (PROMPT_TOKEN_IDS, PROMPT_INFO, *SAMPLING_INPUTS, CONTROL)
ENGINE_OUTPUTS = (TEXT_OUTPUT, TOKEN_IDS, EVENT, NUM_INPUT_TOKENS, NUM_OUTPUT_TOKENS)
ENSEMBLE_INPUTS = (*NORMALIZER_INPUTS, *SAMPLING_INPUTS)
ENSEMBLE_OUTPUTS = ENGINE_OUTPUTS

# -------------------------------------------------------------------------------------- model names

NORMALIZER_MODEL = "prompt_normalizer"
ENGINE_OF = {"gpt-oss-20b": "gpt_oss_20b_engine", "gpt-oss-120b": "gpt_oss_120b_engine"}  # ensemble -> engine

# Triton's own control of models (load, unload, index) is behind a key. HTTP takes it under this name, gRPC
# under the same one with Triton's prefix.
CONTROL_KEY_HEADER = "triton-control-key"
GRPC_CONTROL_KEY_HEADER = f"triton-grpc-protocol-{CONTROL_KEY_HEADER}"

# ------------------------------------------------------------------------------------ request records

MAX_LEASE_S = 86_400

ReasoningEffort = Literal["low", "medium", "high"]


class ToolCall(msgspec.Struct, omit_defaults=True, frozen=True):
    """A call that the assistant made in an earlier turn."""

    name: str
    arguments: str  # as the model wrote them


class Message(msgspec.Struct, omit_defaults=True, frozen=True):
    """One turn. `content` is already joined text; what OpenAI calls parts never crosses the wire."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    reasoning: str | None = None  # an assistant turn's analysis, if the caller sent it back
    name: str | None = None  # a user's; of a tool's message the function that it answers for
    tool_calls: list[ToolCall] = []  # an assistant turn's, after its content


class Tool(msgspec.Struct, omit_defaults=True, frozen=True):
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None  # JSON schema of an object; None: takes no arguments


class ResponseFormat(msgspec.Struct, omit_defaults=True, frozen=True):
    """The schema that the prompt tells the model to answer by."""

    name: str
    schema: dict[str, Any]
    description: str = ""


class PromptRequest(msgspec.Struct, omit_defaults=True, frozen=True):
    """What the normalizer renders: a conversation; or instead of it a prompt as it stands, for completions."""

    messages: list[Message] = []
    reasoning_effort: ReasoningEffort = "medium"
    tools: list[Tool] = []
    response_format: ResponseFormat | None = None
    text: str | None = None  # control tokens in it count as such
    token_ids: list[int] | None = None


class Lease(msgspec.Struct, omit_defaults=True, frozen=True):
    """A session's claim on the KV blocks of its last answer, so that its next turn finds them."""

    id: str  # opaque; the shim's name of the session
    idle_s: Annotated[
        float, msgspec.Meta(gt=0, le=MAX_LEASE_S)
    ]  # without a new turn the claim ends after so long


class Delivery(msgspec.Struct, frozen=True):
    """Where a streamed answer's tokens go: into the batches of a delivery stream, which brings one response for a
    step of all requests where their own streams would bring one each. The request's own stream still brings the
    first and the last event; `Finished.completion_tokens` tells when all tokens have come."""

    stream: str  # the id that `Deliver` gave it
    # Names the request in a batch. None: its tokens come on its own stream, and it only ends with this one.
    ticket: Annotated[int, msgspec.Meta(ge=0)] | None


class GenerationOptions(msgspec.Struct, omit_defaults=True, frozen=True):
    """How to sample and when to stop. Defaults are the neutral values; `options.py` has the ranges."""

    max_tokens: int | None = None  # None: the engine's default, else what the context leaves
    most_tokens: int | None = None  # a limit that nobody asked for: never a reason to refuse
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    stop: list[str] = []  # strings; matched in the final channel's text only
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    lease: Lease | None = None
    cache_salt: str = ""  # prefixes are shared among equal salts only: one for each tenant
    grammar: str | None = None  # llguidance's Lark form, over the whole answer with its control tokens
    logprobs: int | None = None  # of each token, and of so many likeliest ones; None: of none
    # None: tokens come on the request's own stream, which alone tells that they are read.
    delivery: Delivery | None = None


class PromptInfo(msgspec.Struct, omit_defaults=True, frozen=True):
    """What the normalizer knows of the prompt it rendered."""

    prompt_hash: str  # hex SHA-256 of the token ids: equal exactly when the prompts are
    normalized_key: str  # hex; equal for prompts that differ in timestamps, ids, paths … For affinity only
    prompt_version: str
    cache: Literal["hit", "miss"] = "miss"
    cache_reason: str = ""  # why it missed: "new", "expired", "evicted", "disabled"
    started: float = 0.0  # Unix seconds: rendering began,
    finished: float = 0.0  # and ended


# -------------------------------------------------------------------------------------- control records


class Cancel(msgspec.Struct, tag="cancel", frozen=True):
    """Stop one request. Answered by CancelResult."""

    request_id: str


class Watch(msgspec.Struct, tag="watch", frozen=True):
    """Push Load records until the stream is cancelled."""

    interval_s: Annotated[float, msgspec.Meta(ge=0.02, le=60)] = 0.2


class Deliver(msgspec.Struct, tag="deliver", frozen=True):
    """Open a delivery stream: an empty Batch at once, then those of the requests that name it, until the stream is
    cancelled. Requests whose delivery stream has gone are cancelled."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Ping(msgspec.Struct, tag="ping", frozen=True):
    """Answered by one Load."""


class Tune(msgspec.Struct, tag="tune", frozen=True):
    """Change the engine's step size, for as long as it lives. Answered by a Load that shows the result."""

    max_step_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None  # None: as configured


class EndLeases(msgspec.Struct, tag="end_leases", frozen=True):
    """Give up the claims of these sessions. Answered by a Load that shows the result."""

    ids: list[str]


Control = Cancel | Watch | Deliver | Ping | Tune | EndLeases

# ---------------------------------------------------------------------------------------------- events


class Accepted(msgspec.Struct, tag="accepted", omit_defaults=True, frozen=True):
    """The engine will run this request. First event of every stream that is not refused."""

    prompt_tokens: int
    cached_tokens: int  # of those, how many the prefix cache holds now
    prompt: PromptInfo | None = None


class Timings(msgspec.Struct, omit_defaults=True, frozen=True):
    """Wall-clock seconds since the Unix epoch; None for a phase that was not reached."""

    arrived: float
    scheduled: float | None = None  # first prompt token computed
    first_token: float | None = None
    finished: float = 0.0


FinishReason = Literal["stop", "length", "cancelled"]


class TokenLogprobs(msgspec.Struct, array_like=True, frozen=True):
    """Natural logarithms of probabilities, after penalties, bias, temperature and cuts."""

    logprob: float  # of the token that was drawn
    top: list[tuple[int, float]]  # the likeliest tokens, best first


class Logprobs(msgspec.Struct, tag="logprobs", frozen=True):
    """Comes with token ids: one entry for each of them."""

    tokens: list[TokenLogprobs]


class Finished(msgspec.Struct, tag="finished", omit_defaults=True, frozen=True):
    """Last event of every stream that was accepted and did not fail."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    stop: str | int | None = None  # the string or token id that ended it
    preemptions: int = 0
    blocks: int = 0  # KV blocks that the sequence held at its end, shared ones included
    timings: Timings | None = None
    prompt: PromptInfo | None = None  # in an unstreamed answer, which has no Accepted
    logprobs: list[TokenLogprobs] = []  # in an unstreamed answer that asked for them


class Batch(msgspec.Struct, tag="batch", frozen=True):
    """New tokens of several requests, on a delivery stream: `token_ids` are theirs, one request after the other."""

    tickets: list[int]
    counts: list[int]  # tokens of each


class CancelResult(msgspec.Struct, tag="cancel_result", frozen=True):
    found: bool


class Load(msgspec.Struct, tag="load", frozen=True):
    """One engine's state. Blocks: total = free + used + cached, where cached ones hold a reusable prefix
    that no running sequence needs."""

    @property
    def block_shape(self) -> BlockShape:
        """How many of its blocks tokens take."""
        return BlockShape(self.block_size, self.block_window)

    pid: int
    started: float  # Unix seconds; with the pid it names this life of the engine
    sequence: int  # counts up by one on each report of a watch
    running: int
    waiting: int
    blocks_total: int
    blocks_used: int
    blocks_cached: int
    block_size: int  # tokens per block
    max_context: int  # tokens, prompt and answer together
    max_sequences: int
    max_waiting: int
    steps: int  # since start
    step_age_s: float  # since the running step began; 0 when idle
    prompt_tokens: int  # totals since start
    cached_tokens: int
    output_tokens: int
    preemptions: int
    failed_steps: int
    output_tokens_per_s: float  # over the last few seconds
    dtype: str
    device: str
    checkpoint: str  # directory name only
    engine: str = "native"
    gpu_mode: str = "single"
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    profile: str = "balanced"
    block_bytes: int = 0  # keys and values of one block
    block_window: int = (
        0  # tokens whose window blocks a sequence keeps; 0: a block holds all layers. See `BlockShape`
    )
    max_step_tokens: int = 0  # as tuned now
    configured_step_tokens: int = 1
    prefill_tokens_left: int = 0  # prompt tokens that were accepted and are not yet computed
    prefill_tokens_per_s: float = 0.0  # over the last few seconds, while there were any
    queue_wait_s: float = 0.0  # of the sequence that waits longest; 0 when none waits
    leases: int = 0
    blocks_leased: int = 0  # cached ones that only a lease keeps
    leases_ended: dict[str, int] = {}  # totals by reason: "idle", "pressure", "asked", "replaced", "failed"
    drafted_tokens: int = 0  # guessed by speculation; total since start
    accepted_tokens: int = 0  # of those, how many were right
    records_form: str = ""  # the engine's `RECORDS_FORM`


Event = Accepted | Logprobs | Finished | Batch | CancelResult | Load


def form_of(*kinds: Any) -> str:
    """A fingerprint of records' names, fields, types and defaults. Of equal ones it may differ between versions of
    msgspec, which writes them down."""
    _, schemas = msgspec.json.schema_components(kinds)
    return hashlib.sha256(json.dumps(_unexplained(schemas), sort_keys=True).encode()).hexdigest()[:12]


def _unexplained(schema: Any) -> Any:
    """Without the texts for readers. (A field may be called `description`; then it is a schema.)"""
    if isinstance(schema, dict):
        return {
            key: _unexplained(value)
            for key, value in schema.items()
            if not (key == "description" and isinstance(value, str))
        }
    return [_unexplained(one) for one in schema] if isinstance(schema, list) else schema


# What two processes that talk to each other should agree on.
RECORDS_FORM = form_of(PromptRequest, GenerationOptions, Control, Event)

# --------------------------------------------------------------------------------------------- encoding

_encoder = msgspec.json.Encoder()
T = TypeVar("T")


def encode(record: msgspec.Struct) -> bytes:
    """A record as JSON."""
    return _encoder.encode(record)


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode(data: bytes | str, kind: type[T]) -> T:
    """JSON as a record of `kind` (a Struct, or one of the unions `Control` and `Event`).

    Raises:
        msgspec.DecodeError: not JSON, or not of that form (`msgspec.ValidationError` is one of its kinds).
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    result: T = decoder.decode(data)
    return result
