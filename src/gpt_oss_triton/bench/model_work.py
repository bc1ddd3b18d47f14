"""What a model must read and multiply: by its shape alone, whatever computes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.parallel.plan import ends_bytes, expert_bytes, layer_bytes
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.kernels.cpu.operations import CpuOperations
from gpt_oss_triton.kernels.operations import operations_for


@dataclass(frozen=True, slots=True)
class Work:
    """
    Attributes:
        bytes: read.
        products: multiply-adds of the model's dtype.
    """

    bytes: float
    products: float


@dataclass(frozen=True, slots=True)
class ModelWork:
    """
    Attributes:
        screened: of the vocabulary, greedy rows read an 8-bit copy, whose products are twice as fast.
    """

    config: ModelConfig
    dtype: torch.dtype
    device: torch.device
    screened: bool = False

    @classmethod
    def on_this_machine(cls, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> ModelWork:
        """With what the device's kernels save."""
        return cls(config, dtype, device, isinstance(operations_for(device, dtype), CpuOperations))

    def decode(self, sequences: int, context: int) -> Work:
        """Of a step with one token of each sequence: weights once, of the experts those that are likely chosen, and
        every sequence's keys and values. Of the embedding it is one row a token: nothing."""
        c = self.config
        seen = sum(min(context, c.sliding_window) if sliding else context for sliding in c.is_sliding)
        keys = sequences * seen * Part(0, 1).token_bytes(c, self.dtype.itemsize)
        per_token = c.layers * self._layer_products() + seen * self._pair_products()
        return Work(self._weights(sequences) + keys, sequences * (per_token + self._vocabulary_products()))

    def prompt(self, tokens: int) -> Work:
        """Of computing one prompt up to its first new token, all in one step. Of the last layer only keys and values
        matter, but for the last token."""
        c = self.config
        window = min(tokens, c.sliding_window)
        pairs = {
            False: tokens * (tokens + 1) // 2,
            True: window * (window + 1) // 2
            + (tokens - window) * window,  # each sees itself and those before
        }
        seen = sum(pairs[sliding] for sliding in c.is_sliding[:-1]) + (window if c.is_sliding[-1] else tokens)
        keys_and_values = 2 * c.kv_heads * c.head_dim * c.hidden
        last = (tokens - 1) * keys_and_values + self._layer_products()
        layers = (c.layers - 1) * tokens * self._layer_products() + last
        products = layers + seen * self._pair_products() + self._vocabulary_products()
        return Work(self._weights(tokens), products)

    def _weights(self, tokens: int) -> float:
        """Bytes that a step of so many tokens reads once."""
        c = self.config
        idle = c.experts - chosen_experts(c, tokens)
        layer = layer_bytes(c, self.dtype, self.device) - idle * expert_bytes(c, self.dtype, self.device)
        head = ends_bytes(c, self.dtype) / 2
        return c.layers * layer + (head / self.dtype.itemsize if self.screened else head)

    def _layer_products(self) -> int:
        """Of one token in one layer, attention's own aside."""
        c = self.config
        projections = (2 * c.heads + 2 * c.kv_heads) * c.head_dim * c.hidden
        return projections + c.experts * c.hidden + c.experts_per_token * 3 * c.intermediate * c.hidden

    def _pair_products(self) -> int:
        """Of one token that looks at another in one layer."""
        return 2 * self.config.heads * self.config.head_dim

    def _vocabulary_products(self) -> float:
        """Of one row."""
        return self.config.vocabulary * self.config.hidden / (2 if self.screened else 1)


def chosen_experts(config: ModelConfig, tokens: int) -> float:
    """How many of a layer's experts some of so many tokens are likely to choose."""
    missed = (1 - config.experts_per_token / config.experts) ** tokens
    return config.experts * (1 - missed)
