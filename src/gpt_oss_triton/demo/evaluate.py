"""`scripts/eval-demo`: examine a checkpoint with conversations that are not in the corpus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.demo.answers import Answer, ask
from gpt_oss_triton.demo.corpus import Episode
from gpt_oss_triton.demo.evaluation import (
    EFFORTS,
    Scores,
    Trial,
    at_every_effort,
    question,
    table,
    trials,
    verdicts,
)
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.protocol import Engine
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.harmony.tokens import decode

_DESCRIPTION = """\
Examine the demo model on held-out conversations: other numbers, names, functions, schemas and phrasings than any
that it was trained on. Prints the table of docs/demo-model.md.
"""
_SEED = 100
_COMPARED = 60  # conversations for the lengths of the analysis


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status; argparse exits with 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="eval-demo", description=_DESCRIPTION)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="DIR", help="the model")
    parser.add_argument(
        "--least", type=int, default=400, help="answers for each line of the table (default %(default)s)"
    )
    parser.add_argument(
        "--temperature", type=float, nargs="+", default=[0.0, 0.7], help="(default 0 and 0.7)"
    )
    parser.add_argument("--threads", type=int, help="of the computation (default: all cores)")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="also print N wrong answers")
    args = parser.parse_args(arguments)
    settings = EngineSettings(
        max_context=2048, kv_cache_gib=0.5, max_sequences=32, max_waiting=32, threads=args.threads
    )
    try:
        engine = NativeEngine.from_settings(settings, args.checkpoint)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    try:
        columns = []
        asked = trials(_SEED, args.least)
        for temperature in args.temperature:
            columns.append((f"temperature {temperature:g}", _scored(engine, asked, temperature, args.show)))
        sys.stdout.write(f"{table(columns)}\n\nTokens of analysis on average: {_lengths(engine, asked)}.\n")
    finally:
        engine.close()
    return 0


def _scored(engine: Engine, asked: Sequence[Trial], temperature: float, show: int) -> Scores:
    scores = Scores()
    questions = [question(trial, temperature, seed) for seed, trial in enumerate(asked)]
    for done, (place, answer) in enumerate(ask(engine, questions), 1):
        found = verdicts(asked[place], answer)
        scores.add(found)
        if not all(found.values()) and show > 0:
            show -= 1
            sys.stderr.write(_shown(asked[place], questions[place].prompt, answer, found) + "\n")
        if done % 100 == 0:
            sys.stderr.write(f"temperature {temperature:g}: {done} of {len(asked)} answers\n")
    return scores


def _lengths(engine: Engine, asked: Sequence[Trial]) -> str:
    plain = [one for one in asked if not (one.step or one.strict or one.episode.response_format)][:_COMPARED]
    total = dict.fromkeys(EFFORTS, 0)
    compared = at_every_effort(plain)
    for place, answer in ask(engine, [question(trial, 0.0, 0) for trial in compared]):
        total[compared[place].episode.effort] += answer.analysis_tokens
    low, medium, high = (f"{effort} {total[effort] / len(plain):.1f}" for effort in EFFORTS)
    signs = ["<" if total[less] < total[more] else "≥" for less, more in pairwise(EFFORTS)]
    return f"{low} {signs[0]} {medium} {signs[1]} {high}"


def _shown(trial: Trial, prompt: list[int], answer: Answer, found: dict[str, bool]) -> str:
    wrong = ", ".join(name for name, right in found.items() if not right)
    return f"--- wrong: {wrong}\n{decode(prompt)}\n>>> {answer}\nwanted: {_wanted(trial.episode, trial)}"


def _wanted(episode: Episode, trial: Trial) -> str:
    last = episode.turns[-1]
    return str(last.calls[trial.step]) if trial.wants_call else last.final


if __name__ == "__main__":
    sys.exit(main())
