"""Conversations made by rules: what the demo model learns from, and what it is examined with."""

from gpt_oss_triton.demo.corpus.episode import Call, Episode, Turn
from gpt_oss_triton.demo.corpus.mixture import KINDS, episode
from gpt_oss_triton.demo.corpus.sample import Sample, sample_of

__all__ = ["KINDS", "Call", "Episode", "Sample", "Turn", "episode", "sample_of"]
