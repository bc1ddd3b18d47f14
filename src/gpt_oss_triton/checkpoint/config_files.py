"""`config.json` and `generation_config.json` as published with gpt-oss."""

from __future__ import annotations

from typing import Any

from gpt_oss_triton.checkpoint.shapes import Shape

_FORMAT = "4.55.0"  # the transformers version whose file layout this is


def model_config(shape: Shape, dtype: str) -> dict[str, Any]:
    """The content of `config.json` for one of the dtypes bf16, mxfp4 and fp32."""
    config = {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": 200002,
        "experts_per_token": shape.experts_per_token,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initial_context_length": 4096,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "layer_types": [("sliding_attention", "full_attention")[layer % 2] for layer in range(shape.layers)],
        "max_position_embeddings": 131072,
        "model_type": "gpt_oss",
        "num_attention_heads": shape.heads,
        "num_experts_per_tok": shape.experts_per_token,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "num_local_experts": shape.experts,
        "output_router_logits": False,
        "pad_token_id": 199999,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": shape.sliding_window,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "transformers_version": _FORMAT,
        "use_cache": True,
        "vocab_size": shape.vocabulary,
    }
    if dtype == "mxfp4":
        config["quantization_config"] = {
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
            "quant_method": "mxfp4",
        }
    else:
        config["torch_dtype"] = {"bf16": "bfloat16", "fp32": "float32"}[dtype]
    return config


def generation_config() -> dict[str, Any]:
    """The content of `generation_config.json`."""
    return {
        "bos_token_id": 199998,
        "do_sample": True,
        "eos_token_id": [200002, 199999, 200012],
        "pad_token_id": 199999,
        "transformers_version": _FORMAT,
    }
