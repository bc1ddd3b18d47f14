"""`scripts/train-demo`: train the demo model, or go on with it, and write its checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from gpt_oss_triton.demo.export import compact, write_checkpoint
from gpt_oss_triton.demo.forced import exact_shares
from gpt_oss_triton.demo.packed import pack, unpack
from gpt_oss_triton.demo.shape import DEMO_SHAPE
from gpt_oss_triton.demo.team import Alone, Team, team_of
from gpt_oss_triton.demo.training import Plan, Training, help_run, run
from gpt_oss_triton.errors import ConfigurationError

_DESCRIPTION = """\
Train the demo model, a tiny gpt-oss, on conversations made by rules. Nothing is downloaded.

The state is kept in --work. Stop it with Ctrl-C or SIGTERM whenever you like; the same command goes on.
"""
_EPILOG = """\
examples
  begin, or go on:
    %(prog)s --work checkpoints/demo-training
  go on from the committed model, whose training is not in the repository:
    %(prog)s --work checkpoints/demo-more --from-committed --tokens 10000000
  on a GPU, with the samples made by eight processes:
    %(prog)s --work checkpoints/demo-training --device cuda --makers 8
  write what has been learned so far as a checkpoint that the server can load:
    %(prog)s --work checkpoints/demo-training --export checkpoints/gpt-oss-demo
"""
_USUAL = Plan()
_EXAMINED = 256  # held-out samples
_EXAMINATION_SEED = 7


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status; argparse exits with 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog="train-demo", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where the state is kept")
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="do not train; write the checkpoint to this new directory"
    )
    parser.add_argument("--pack", action="store_true", help="do not train; write the committed compact file")
    parser.add_argument(
        "--from-committed",
        action="store_true",
        help="begin with the committed model's weights, not with random ones",
    )
    parser.add_argument(
        "--tokens", type=int, help=f"how many to train on (default {_USUAL.tokens}, or as begun)"
    )
    parser.add_argument(
        "--seed", type=int, default=_USUAL.seed, help="of a new training (default %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda (default %(default)s)")
    parser.add_argument("--threads", type=int, help="of the computation on a CPU (default: all cores)")
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        help="that compute, with a thread each, on a CPU (default: one with --threads)",
    )
    parser.add_argument(
        "--makers", type=int, default=0, help="processes that make samples (default: the same process)"
    )
    parser.add_argument(
        "--batch-tokens",
        type=int,
        help=f"computed at once; larger for a GPU (default {_USUAL.batch_tokens}, or as begun)",
    )
    parser.add_argument(
        "--save-every", type=float, default=300, metavar="S", help="seconds (default %(default)s)"
    )
    args = parser.parse_args(arguments)
    if not 1 <= args.processes <= _USUAL.samples:
        parser.error(f"--processes must be from 1 to {_USUAL.samples}")
    if args.processes > 1 and (args.device != "cpu" or args.threads or args.makers):
        parser.error("--processes is for --device cpu, without --threads and --makers")
    if args.threads:
        torch.set_num_threads(args.threads)
    state = args.work / "state.pt"
    training = _training(args, state)
    if args.pack:
        if not training.plan.looks:
            sys.exit("train-demo: it has no look yet, which a training from the committed file counts on")
        pack(compact(training.model), training.model.shape)
        return 0
    if args.export:
        write_checkpoint(compact(training.model), training.model.shape, args.export)
        _say(f"wrote {args.export}")
        return 0
    stop = _Stop()
    report = _Report(args.work / "progress.log", training)
    try:
        train(training, state, stop, report, args.save_every, args.makers, args.processes)
    except ChildProcessError as error:
        sys.exit(f"train-demo: {error}; the same command goes on from what was saved last")
    report.examine(training)
    _say(f"{'finished' if training.done else 'stopped'}; the state is in {state}")
    return 0


def train(
    training: Training, state: Path, stop: Callable[[], bool], report: Callable[[Training], None], save_every_s: float,
    makers: int = 0, processes: int = 1,
) -> None:  # fmt: skip
    """Train to the end, or until `stop`, and put in the look on the way.

    Raises:
        ChildProcessError: one of the processes is gone.
    """
    while not training.done and not stop():
        if training.due_for_look:
            _say("putting in the look that training does not find (demo/lookup.py) ...")
            training.look_up()
        with _makers(makers) as executor, _team(processes, training) as team:
            run(training, state, stop, report, save_every_s, executor, team)


def _training(args: argparse.Namespace, state: Path) -> Training:
    device = torch.device(args.device)
    if state.exists():
        try:
            return Training.resume(state, device, args.tokens, args.batch_tokens)
        except ConfigurationError as error:
            sys.exit(f"train-demo: {error}")
    if args.export or args.pack:
        sys.exit(f"train-demo: there is no training in {args.work}")
    args.work.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        seed=args.seed,
        tokens=args.tokens or _USUAL.tokens,
        batch_tokens=args.batch_tokens or _USUAL.batch_tokens,
    )
    if args.from_committed:  # which has the look
        return Training.begin_with(*unpack(), replace(plan, looks=True), device)
    return Training.begin(DEMO_SHAPE, plan, device)


@contextlib.contextmanager
def _makers(count: int) -> Iterator[Executor | None]:
    if not count:
        yield None
        return
    with ProcessPoolExecutor(count) as executor:
        yield executor


@contextlib.contextmanager
def _team(size: int, training: Training) -> Iterator[Team | Alone]:
    if size == 1:
        yield Alone()
        return
    training.make_states()
    torch.set_num_threads(1)
    elements = sum(parameter.numel() for parameter in training.learned)
    with team_of(size, elements, help_run, training) as team:
        yield team


class _Stop:
    """True once a signal asked for the end."""

    def __init__(self) -> None:
        self._asked = False
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def __call__(self) -> bool:
        return self._asked


class _Report:
    """A line every ten seconds on stderr, and now and then one in the log with the exact answers by kind."""

    _LINE_S = 10.0
    _EXAMINE_TOKENS = 1_000_000

    def __init__(self, log: Path, training: Training) -> None:
        self._log = log
        self._begun, self._first = time.monotonic(), training.tokens
        self._shown = 0.0
        self._examined = training.tokens

    def __call__(self, training: Training) -> None:
        now = time.monotonic()
        if training.tokens - self._examined >= self._EXAMINE_TOKENS:
            self._examined = training.tokens
            self.examine(training)
        if now - self._shown < self._LINE_S:
            return
        self._shown = now
        per_second = (training.tokens - self._first) / (now - self._begun)
        left = (training.plan.tokens - training.tokens) / max(per_second, 1.0)
        _say(
            f"step {training.steps}, {training.tokens / 1e6:.2f} of {training.plan.tokens / 1e6:.0f} M tokens, "
            f"loss {training.loss:.3f}, {per_second:.0f} tokens/s, {left / 60:.0f} min left"
        )

    def examine(self, training: Training) -> None:
        shares = exact_shares(training.model, _EXAMINATION_SEED, _EXAMINED, training.plan.batch_tokens)
        right, seen = (sum(part) for part in zip(*shares.values(), strict=True))
        kinds = ", ".join(f"{kind} {a}/{b}" for kind, (a, b) in sorted(shares.items()))
        line = (
            f"{training.tokens / 1e6:.2f} M tokens, loss {training.loss:.3f}, exact {right}/{seen}: {kinds}"
        )
        with self._log.open("a") as file:
            file.write(line + "\n")
        _say(line)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
