"""`scripts/serve`: one command from nothing to an OpenAI URL."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO, get_args

from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch import pidfile, ports
from gpt_oss_triton.launch.places import cache_directory, model_repository
from gpt_oss_triton.launch.plan import Plan, make_plan
from gpt_oss_triton.launch.service import Service
from gpt_oss_triton.launch.shim_process import ShimProcess
from gpt_oss_triton.launch.signals import Signals, Stopped
from gpt_oss_triton.launch.supervisor import GaveUp, Supervisor
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from gpt_oss_triton.launch.triton_service import TritonService, sweep_orphans
from gpt_oss_triton.profiles import ProfileName

_READY_TIMEOUT_S = 900.0  # 120b from a slow disk takes minutes
_FREED_PORT_S = 2.0  # the shim of a server that was killed holds the port a moment longer
_EPILOG = """\
Each option is also an environment variable GPT_OSS_NAME and a line of the --config file; strongest first:
option, variable, file, profile, default. docs/operations.md lists all settings.

The ready line goes to standard output, everything else to standard error. Exit status: 0 after a clean stop,
1 when a part of the server keeps failing, 2 when it is configured wrong, 128 and the signal when forced.
"""


def main(argv: list[str] | None = None) -> int:
    options = vars(_parser().parse_args(argv))
    checkpoint = options.pop("checkpoint")
    arguments = {name: value for name, value in options.items() if value is not None}
    started = time.monotonic()

    def say(message: str) -> None:
        _print_line(f"{time.monotonic() - started:6.1f} s  {message}")

    try:
        with Signals() as signals:
            plan = make_plan(arguments, checkpoint, say, lambda: signals.stopping is not None)
            return _serve(plan, signals, say)
    except Stopped:
        say("stopped")
        return 0
    except ConfigurationError as error:
        _print_line(f"error: {error}")
        return 2
    except GaveUp as error:
        _print_line(f"error: {error}")
        return 1


def _print_line(message: str, stream: TextIO | None = None) -> None:
    """To standard error by default. That nobody reads any more (`2>&1 | head`) is no reason to end."""
    stream = stream or sys.stderr
    try:
        print(message, file=stream, flush=True)
    except BrokenPipeError:
        # What is left in its buffer would be tried again at exit, and change the exit status.
        with Path(os.devnull).open("w") as nowhere, contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere.fileno(), stream.fileno())
    except (OSError, ValueError):  # a terminal that has gone, or a closed stream
        pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/serve",
        description="Serve gpt-oss at an OpenAI URL, from a real tritonserver.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", choices=["demo", "20b", "120b"], help="demo, a tiny one, unless a checkpoint is set")
    add("--checkpoint", type=Path, metavar="DIR", help="of the 20b or 120b; checkpoints/gpt-oss-… by default")
    add("--host", help="address to listen on (127.0.0.1)")
    add("--port", type=int, help="port to listen on (8000); 0: any")
    add("--auto-port", action="store_true", default=None, help="take the next free port")
    add("--force-port", action="store_true", default=None, help="end our own earlier server on that port")
    add("--triton-url", metavar="HOST:PORT", help="gRPC address of a running Triton; starts none")
    add("--profile", choices=get_args(ProfileName), help="named preset (balanced)")
    add("--gpu-mode", choices=["auto", "single", "pipeline", "tensor"], help="how a model uses GPUs (auto)")
    add(
        "--log-format",
        choices=["auto", "json", "console"],
        help="of the shim (console on a terminal, else json)",
    )
    add("--log-level", choices=["debug", "info", "warning", "error"], help="of the shim and of Triton (info)")
    add("--config", type=Path, dest="config_file", metavar="FILE", help="settings in TOML")
    return parser


def _serve(plan: Plan, signals: Signals, say: Callable[[str], None]) -> int:
    if signals.stopping:
        raise Stopped
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listener(plan, say))
        stack.enter_context(pidfile.held(_pid_file(listener.getsockname()[1])))
        models = stack.enter_context(model_repository()) if plan.embedded else None
        services = _services(plan, listener, models, say)
        supervisor = Supervisor(services, signals, say)
        try:
            if supervisor.start(_READY_TIMEOUT_S):
                say("ready")
                _print_line(_ready_line(plan, listener), sys.stdout)
                supervisor.watch()
            if signals.stopping:
                say(
                    f"{signals.stopping.name}: draining for up to {plan.frontend.drain_timeout_s:g} s; again: now"
                )
        finally:
            supervisor.stop()
    if signals.forced and signals.stopping:
        say("stopped at once")
        return 128 + signals.stopping
    say("stopped")
    return 0


@contextlib.contextmanager
def _listener(plan: Plan, say: Callable[[str], None]) -> Iterator[socket.socket]:
    host, port = plan.frontend.host, plan.frontend.port
    ended = bool(plan.launch.force_port and port) and _end_earlier(port, say)
    patience_s = _FREED_PORT_S if ended else 0.0
    with ports.listen(host, port, auto=plan.launch.auto_port, patience_s=patience_s) as listener:
        yield listener


def _end_earlier(port: int, say: Callable[[str], None]) -> bool:
    """Whether there was one."""
    earlier = pidfile.read(_pid_file(port))
    try:
        if earlier is None or not earlier.end():
            return False
        say(f"ended the earlier server on port {port} (process {earlier.pid})")
        return True
    except (PermissionError, TimeoutError) as error:
        raise ConfigurationError(f"cannot end the earlier server on port {port}: {error}.") from None


def _pid_file(port: int) -> Path:
    return cache_directory() / "run" / f"serve-{port}.json"


def _services(
    plan: Plan, listener: socket.socket, models: Path | None, say: Callable[[str], None]
) -> list[Service]:
    """What there is to run, in the order to start it. `models` is the repository of an embedded server."""
    drain_s = plan.frontend.drain_timeout_s
    if models is None:
        return [ShimProcess(listener, plan.frontend_environment(), drain_s)]
    if orphans := sweep_orphans():
        say(f"removed {len(orphans)} shared-memory regions of an earlier server that was killed")
    server = TritonServer(
        TritonServerSettings(
            model_repository=models,
            models=[plan.ensemble],
            log_file=_fresh_log(listener.getsockname()[1]),
            environment=plan.triton_environment(),
            extra_arguments=["--log-verbose=1"] if plan.frontend.log_level == "debug" else [],
        )
    )
    say(f"tritonserver: gRPC at {server.grpc_url}, metrics at {server.metrics_url}, log in {server.log_file}")
    shim = plan.frontend_environment(
        triton_url=server.grpc_url, triton_control_key=server.control_key, local_triton=True
    )
    return [TritonService(server), ShimProcess(listener, shim, drain_s)]


def _fresh_log(port: int) -> Path:
    """Where tritonserver logs; the log of the start before is kept beside it."""
    log_file = cache_directory() / "logs" / f"tritonserver-{port}.log"
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        if log_file.exists():
            log_file.replace(log_file.with_suffix(".old.log"))
        log_file.touch()
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {log_file}: {error.strerror}. Set XDG_CACHE_HOME to a writable directory."
        ) from None
    return log_file


def _ready_line(plan: Plan, listener: socket.socket) -> str:
    url = ports.local_url(listener)
    body = {"model": plan.model_id, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    headers = ["-H", "content-type: application/json"]
    key = (
        ' -H "authorization: Bearer $GPT_OSS_API_KEY"'
        if plan.frontend.api_key or plan.frontend.api_keys_file
        else ""
    )
    curl = shlex.join(["curl", "-N", f"{url}/v1/chat/completions", *headers, "-d", json.dumps(body)])
    return f"{plan.model_id} is served at {url}/v1  try: {curl}{key}"


if __name__ == "__main__":
    sys.exit(main())
