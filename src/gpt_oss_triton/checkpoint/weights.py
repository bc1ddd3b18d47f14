"""The tensors of a random gpt-oss checkpoint: names, shapes, types, and the chunks of their values.

Nothing here holds a whole large tensor. Every chunk has its own generator, seeded by the checkpoint's
seed, the tensor's name and the chunk's number, so the same seed gives the same bytes and the three
dtypes of one seed hold the same weights: experts are drawn as MXFP4 bytes and unpacked where the
checkpoint is not MXFP4, everything else is rounded to bfloat16 and widened where it is float32.

The magnitudes are those at which a pre-norm transformer neither fades nor explodes, and near a trained one's:

* Matrices have unit gain (std 1/sqrt(inputs), 0.019 at hidden 2880): attention scores and router logits
  get a std near 1, so attention is neither uniform nor one-hot and all experts are used.
* Expert nibbles follow a normal distribution's quantization, not a uniform one, with scales that differ
  from block to block and together give the std of unit gain.
* Embeddings have a std of 0.7 * sqrt(layers), as much as all layers add, so that a token's own embedding
  and its context weigh alike in the last hidden state.
* The vocabulary's rows give logits a std of 3.
* Norms, biases and sinks vary too, so that an engine which swaps or forgets one is found out.

One thing is not random. A model that knows nothing of harmony would write its whole answer where a
message's header belongs, and a client would see no text. So the rows of three tokens in `lm_head` are set
to follow three others, and after `<|start|>assistant` comes `<|channel|>final<|message|>`, then noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.kernels import mxfp4

DTYPES = {"bf16": torch.bfloat16, "mxfp4": torch.bfloat16, "fp32": torch.float32}  # of what is not an expert

_CHUNK = 1 << 24  # values drawn at once
_LOGIT_STD = 3.0
_BIAS_STD = 0.05
_NIBBLE_STD = 2.0  # before rounding, in units of the block's scale

_ASSISTANT, _CHANNEL, _FINAL, _MESSAGE = 173781, 200005, 17196, 200008
_FOLLOWS = {_CHANNEL: _ASSISTANT, _FINAL: _CHANNEL, _MESSAGE: _FINAL}
_FOLLOW_LOGIT = 24.0  # log-sum-exp of the other logits is about 17
_EMBEDDING_SHARE = 0.7  # cosine between the last hidden state and the last token's embedding

Chunks = Callable[[], Iterator[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor to be written. `chunks` yields its values in order, cut along the first dimension."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    chunks: Chunks

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def plan(shape: Shape, dtype: str, seed: int) -> list[PlannedTensor]:
    """All tensors of one checkpoint, in the order in which they are written."""
    return list(_Planner(shape, dtype, seed).tensors())


class _Planner:
    def __init__(self, shape: Shape, dtype: str, seed: int) -> None:
        self._shape = shape
        self._packed = dtype == "mxfp4"
        self._dtype = DTYPES[dtype]
        self._seed = seed
        self._embedding_std = 0.7 * math.sqrt(shape.layers)

    def tensors(self) -> Iterator[PlannedTensor]:
        s = self._shape
        vocabulary = (s.vocabulary, s.hidden)
        yield self._normal("model.embed_tokens.weight", vocabulary, self._embedding_std)
        for layer in range(s.layers):
            yield from self._layer(f"model.layers.{layer}.")
        yield self._normal("model.norm.weight", (s.hidden,), 0.1, mean=1.0)
        yield PlannedTensor("lm_head.weight", self._dtype, vocabulary, self._lm_head)

    def _layer(self, layer: str) -> Iterator[PlannedTensor]:
        s = self._shape
        queries, keys = s.heads * s.head_dim, s.kv_heads * s.head_dim
        yield self._normal(layer + "input_layernorm.weight", (s.hidden,), 0.1, mean=1.0)
        for name, rows, columns in (
            ("q", queries, s.hidden),
            ("k", keys, s.hidden),
            ("v", keys, s.hidden),
            ("o", s.hidden, queries),
        ):
            yield from self._linear(f"{layer}self_attn.{name}_proj.", rows, columns)
        yield self._normal(layer + "self_attn.sinks", (s.heads,), 1.0)
        yield self._normal(layer + "post_attention_layernorm.weight", (s.hidden,), 0.1, mean=1.0)
        yield from self._linear(layer + "mlp.router.", s.experts, s.hidden)
        yield from self._experts(layer + "mlp.experts.gate_up_proj", 2 * s.intermediate, s.hidden)
        yield from self._experts(layer + "mlp.experts.down_proj", s.hidden, s.intermediate)

    def _linear(self, prefix: str, rows: int, columns: int) -> Iterator[PlannedTensor]:
        yield self._normal(prefix + "weight", (rows, columns), columns**-0.5)
        yield self._normal(prefix + "bias", (rows,), _BIAS_STD)

    def _experts(self, name: str, rows: int, columns: int) -> Iterator[PlannedTensor]:
        count = self._shape.experts
        blocks = (rows, columns // mxfp4.BLOCK, mxfp4.BLOCK // 2)

        def packed(expert: int) -> torch.Tensor:
            return _draw_nibbles(self._rng(name + "_blocks", expert), blocks)

        def scales(expert: int) -> torch.Tensor:
            return _draw_scales(self._rng(name + "_scales", expert), blocks[:-1], columns**-0.5)

        def unpacked(expert: int) -> torch.Tensor:
            # Hugging Face keeps unpacked experts as [experts, inputs, outputs].
            return mxfp4.dequantize(packed(expert), scales(expert), self._dtype).T[None]

        def each(draw: Callable[[int], torch.Tensor]) -> Chunks:
            return lambda: (draw(expert) for expert in range(count))

        if self._packed:
            yield PlannedTensor(name + "_blocks", torch.uint8, (count, *blocks), each(packed))
            yield PlannedTensor(name + "_scales", torch.uint8, (count, *blocks[:-1]), each(scales))
        else:
            yield PlannedTensor(name, self._dtype, (count, columns, rows), each(unpacked))
        yield self._normal(name + "_bias", (count, rows), _BIAS_STD)

    def _normal(self, name: str, shape: tuple[int, ...], std: float, *, mean: float = 0.0) -> PlannedTensor:
        def chunks() -> Iterator[torch.Tensor]:
            for first in range(0, shape[0], _rows_per_chunk(shape)):
                yield self._draw_rows(name, shape, first, std, mean)

        return PlannedTensor(name, self._dtype, shape, chunks)

    def _draw_rows(
        self, name: str, shape: tuple[int, ...], first: int, std: float, mean: float = 0.0
    ) -> torch.Tensor:
        """The chunk of a normally distributed tensor that begins at row `first`."""
        step = _rows_per_chunk(shape)
        rows = min(step, shape[0] - first)
        values = self._rng(name, first // step).standard_normal((rows, *shape[1:]), dtype=np.float32)
        values *= np.float32(std)
        values += np.float32(mean)
        return torch.from_numpy(values).to(torch.bfloat16).to(self._dtype)

    def _lm_head(self) -> Iterator[torch.Tensor]:
        shape = (self._shape.vocabulary, self._shape.hidden)
        step = _rows_per_chunk(shape)
        for first in range(0, shape[0], step):
            rows = self._draw_rows("lm_head.weight", shape, first, _LOGIT_STD * shape[1] ** -0.5)
            for token, previous in _FOLLOWS.items():
                if first <= token < first + step:
                    rows[token - first] = self._row_that_follows(previous)
            yield rows

    def _row_that_follows(self, previous: int) -> torch.Tensor:
        """An `lm_head` row whose logit is high when `previous` was the last token."""
        shape = (self._shape.vocabulary, self._shape.hidden)
        step = _rows_per_chunk(shape)
        chunk = self._draw_rows(
            "model.embed_tokens.weight", shape, previous // step * step, self._embedding_std
        )
        direction = torch.nn.functional.normalize(chunk[previous % step].float(), dim=0)
        # The last norm leaves a hidden state of length sqrt(hidden).
        row = direction * (_FOLLOW_LOGIT / (_EMBEDDING_SHARE * math.sqrt(shape[1])))
        return row.to(torch.bfloat16).to(self._dtype)

    def _rng(self, name: str, chunk: int) -> np.random.Generator:
        digest = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
        return np.random.Generator(np.random.SFC64([self._seed, chunk, *digest.tolist()]))


def _rows_per_chunk(shape: tuple[int, ...]) -> int:
    return max(1, _CHUNK // math.prod(shape[1:]))


def _nibble_table() -> torch.Tensor:
    """A byte of two E2M1 codes for each of 65,536 equally likely 16-bit numbers: uint8 [65536]."""
    quantiles = torch.special.ndtri((torch.arange(256, dtype=torch.float64) + 0.5) / 256)
    codes = mxfp4.encode(quantiles * _NIBBLE_STD)
    return (codes[None, :] | codes[:, None] << 4).flatten()


_NIBBLES = _nibble_table().numpy()
_CODE_STD = float(np.std([mxfp4.E2M1[code & 7] * (-1 if code & 8 else 1) for code in _NIBBLES[:256] & 15]))


def _draw_nibbles(rng: np.random.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    # Drawn as 64-bit numbers, four at once, in a fraction of the time that 16-bit ones take.
    numbers = rng.integers(0, 1 << 64, math.prod(shape) // 4, dtype=np.uint64).astype("<u8", copy=False)
    return torch.from_numpy(_NIBBLES[numbers.view("<u2")]).view(shape)


def _draw_scales(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> torch.Tensor:
    """Neighbouring powers of two, two or three, in the mixture that gives the unpacked weights `std`."""
    # Of f + 2u with u uniform in [0, 1), the whole part is 0, 1 or 2 with odds of 1-f : 1 : f, and the mean
    # of 4 to that power is (1 + 3f) * 5/2: it reaches every variance between two powers of four.
    variance = (std / _CODE_STD) ** 2 * 2 / 5
    low = math.floor(math.log2(variance) / 2)
    fraction = (variance / 4.0**low - 1) / 3
    steps = np.floor(np.float32(fraction) + 2 * rng.random(shape, dtype=np.float32))
    return torch.from_numpy((steps + (low + 127)).astype(np.uint8))
