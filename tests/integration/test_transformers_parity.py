"""transformers' eager gpt-oss is the oracle: same checkpoint, same tokens."""

import random

import pytest
import torch

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.cache_size import make_cache
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.engine.model_config import ModelConfig, yarn_inverse_frequencies
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.engine.weights import WeightLoader
from tests import oracle
from tests.unit.engine.conftest import SETTINGS, Call

NEW_TOKENS = 24
WINDOW = 128
CHUNK = 64
SLOTS, BLOCK = 1024, 16


@pytest.fixture(scope="module")
def prompts():
    """Twenty: around block, chunk and window borders, far beyond them, and with shared prefixes."""
    rng = random.Random(0)
    lengths = (1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 160, 200, 256, 257, 400)
    made = [[rng.randrange(199_998) for _ in range(n)] for n in lengths]
    return [*made, made[-1][:300], [*made[-1][:256], 5, 6, 7], made[-1] + [9] * 40, list(made[-1])]


@pytest.fixture(scope="module")
def engine(checkpoint):
    engine = NativeEngine.from_settings(
        EngineSettings(**{**SETTINGS, "max_step_tokens": CHUNK}), checkpoint("fp32")
    )
    yield engine
    engine.close()


def test_greedy_tokens_equal_generate(engine, checkpoint, prompts):
    model = oracle.load(checkpoint("fp32"))
    calls = [Call(engine, prompt, max_tokens=NEW_TOKENS) for prompt in prompts]
    ends = [call.end() for call in calls]
    for prompt, call in zip(prompts, calls, strict=True):
        assert call.tokens == oracle.greedy(model, prompt, NEW_TOKENS), f"prompt of {len(prompt)} tokens"
    assert max(len(p) for p in prompts) > WINDOW > CHUNK
    assert any(end.cached_tokens for end in ends), "the shared prefixes were meant to be shared"


def test_32_concurrent_streams_each_equal_their_solo_run(engine):
    rng = random.Random(1)
    prompts = [[rng.randrange(199_998) for _ in range(rng.randrange(1, 150))] for _ in range(32)]
    together = [Call(engine, prompt, max_tokens=NEW_TOKENS) for prompt in prompts]
    for call in together:
        call.end()
    for prompt, call in zip(prompts, together, strict=True):
        alone = Call(engine, prompt, max_tokens=NEW_TOKENS)
        alone.end()
        assert alone.tokens == call.tokens


@pytest.fixture
def small(checkpoint):
    """Room for 90 blocks: a prompt of 600 tokens and little else."""
    settings = {**SETTINGS, "max_step_tokens": CHUNK, "kv_cache_gib": 90 * BLOCK * 512 / 2**30}
    engine = NativeEngine.from_settings(EngineSettings(**settings), checkpoint("fp32"))
    assert engine.load().blocks_total == 90
    yield engine
    engine.close()


def test_prefixes_that_end_anywhere_in_a_long_prompt(small, checkpoint):
    """In chunks, far beyond the window, in a cache too small for all: blocks change their kind meanwhile."""
    rng = random.Random(3)
    trunk = [rng.randrange(199_998) for _ in range(600)]
    tails = [[rng.randrange(199_998) for _ in range(n)] for n in (5, 90, 200)]
    prompts = [trunk, [*trunk[:350], *tails[0]], [*trunk[:590], *tails[1]], [*trunk[:77], *tails[2]]]
    model = oracle.load(checkpoint("fp32"))
    want = [oracle.greedy(model, prompt, NEW_TOKENS) for prompt in prompts]
    cached = set()
    for _ in range(3):
        calls = [Call(small, prompt, max_tokens=NEW_TOKENS) for prompt in prompts]
        cached |= {call.end().cached_tokens for call in calls}
        assert [call.tokens for call in calls] == want
    assert {592, 336} & cached, "at the end of a prompt, in the middle of one"


def test_sequences_that_give_way_and_guess(small, engine):
    """Answers that grow beyond the window, more than fit together, and in circles that are guessed."""
    options = [{"logit_bias": {7: 30.0, 8: 30.0, 9: 30.0}}, {}]
    requests = [([n] * 20, options[n % 2]) for n in range(1, 8)]
    calls = [Call(small, prompt, max_tokens=200, **given) for prompt, given in requests]
    for call in calls:
        call.end()
    for call, (prompt, given) in zip(calls, requests, strict=True):
        roomy = Call(engine, prompt, max_tokens=200, **given)
        roomy.end()
        assert call.tokens == roomy.tokens
    load = small.load()
    assert load.preemptions > 0
    assert load.accepted_tokens > 0


def our_logits(directory, dtype, token_ids):
    """Logits after every token: whole prompt in one chunk, then cut in three."""
    config = ModelConfig.from_checkpoint(directory)
    device = torch.device("cpu")
    model = Model(config, WeightLoader(directory, config, dtype, device).load())
    builder = BatchBuilder(BLOCK, device)
    for cuts in ([len(token_ids)], [len(token_ids) // 3, len(token_ids)]):
        cache = make_cache(config, Part.whole(config), SLOTS // BLOCK, BLOCK, dtype, device)
        cache.fill_(float("nan"))  # nothing may be read that was not written
        start = 0
        for end in cuts:
            # Blocks in reverse order: nothing may depend on their being neighbours.
            blocks = list(range(SLOTS // BLOCK - 1, -1, -1))
            window_blocks = blocks[len(blocks) // 2 :]
            for n in range(max(0, start - WINDOW + 1) // BLOCK):
                window_blocks[n] = 0  # a block that is given back may be anybody's
            batch = builder.build([Segment(token_ids[start:end], start, blocks, window_blocks, sample=True)])
            logits = model.vocabulary.logits(model.forward(batch, cache))
            start = end
        yield logits[0].float()


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [("fp32", torch.float32, 1e-4), ("mxfp4", torch.float32, 1e-4), ("mxfp4", torch.bfloat16, 0.08), ("bf16", torch.bfloat16, 0.08)],
)  # fmt: skip
def test_logits_agree(checkpoint, name, dtype, tolerance):
    """Largest absolute difference, in units of the logits' standard deviation."""
    rng = random.Random(2)
    token_ids = [rng.randrange(199_998) for _ in range(300)]
    with torch.inference_mode():
        want = oracle.load(checkpoint(name), dtype)(torch.tensor([token_ids])).logits[0, -1].float()
    for got in our_logits(checkpoint(name), dtype, token_ids):
        assert float((got - want).abs().max() / want.std()) < tolerance


def test_rope_frequencies_are_those_of_transformers(checkpoint):
    reference = oracle.load(checkpoint("bf16")).model.rotary_emb
    config = ModelConfig.from_checkpoint(checkpoint("bf16"))
    frequencies, scale = yarn_inverse_frequencies(config.rope, config.head_dim)
    torch.testing.assert_close(torch.tensor(frequencies), reference.inv_freq, rtol=1e-5, atol=0)
    assert scale == pytest.approx(reference.attention_scaling)
