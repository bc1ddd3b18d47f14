"""Serve OpenAI's gpt-oss models on NVIDIA Triton."""

__version__ = "0.1.0"
