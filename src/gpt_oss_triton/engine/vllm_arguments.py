"""This project's settings and options in vLLM's words."""

from __future__ import annotations

from pathlib import Path

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.wire import GenerationOptions

_LEAST_TOP_P = 1e-9  # vLLM takes no 0, which leaves the likeliest token alone, as this does


def engine_arguments(settings: EngineSettings, checkpoint: Path, gpus: int) -> AsyncEngineArgs:
    """
    Args:
        gpus: how many there are to spread a model over.
    """
    spread = max(1, gpus)
    cache = settings.kv_cache_gib
    return AsyncEngineArgs(
        model=str(checkpoint),
        skip_tokenizer_init=True,  # it gets ids and gives ids
        dtype=settings.dtype,
        max_model_len=settings.max_context,
        max_num_seqs=settings.max_sequences,
        max_num_batched_tokens=max(settings.max_step_tokens, settings.max_sequences),
        enable_chunked_prefill=True,
        enable_prefix_caching=settings.prefix_cache,
        kv_cache_memory_bytes=int(cache * 2**30) if cache is not None else None,
        tensor_parallel_size=spread if settings.gpu_mode in ("auto", "tensor") else 1,
        pipeline_parallel_size=spread if settings.gpu_mode == "pipeline" else 1,
        generation_config="vllm",  # what ends an answer, and how it is sampled, is said with each request
        enable_log_requests=False,  # it would log prompts
        disable_log_stats=False,  # the load is made of them
    )


def sampling_parameters(
    options: GenerationOptions, max_tokens: int, stop_ids: frozenset[int]
) -> SamplingParams:
    """
    Args:
        max_tokens: what the answer may have, with the context reckoned in.
        stop_ids: all that end it, the model's own included. Stop strings are ours to find.
    """
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=options.temperature,
        top_p=max(options.top_p, _LEAST_TOP_P),
        top_k=options.top_k,
        min_p=options.min_p,
        seed=options.seed,
        frequency_penalty=options.frequency_penalty,
        presence_penalty=options.presence_penalty,
        repetition_penalty=options.repetition_penalty,
        logit_bias=dict(options.logit_bias) or None,
        ignore_eos=True,  # the model's own ends are among `stop_ids`
        stop_token_ids=sorted(stop_ids),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
