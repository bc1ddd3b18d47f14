"""What rank 0 and the worker processes tell each other, each a msgpack record over a pipe.

Tensors do not go this way: they are the group's business.
"""

from __future__ import annotations

import contextlib
from multiprocessing.connection import Connection
from typing import Literal

import msgspec

from gpt_oss_triton.engine.batch import Segment
from gpt_oss_triton.engine.part import Part


class Start(msgspec.Struct, frozen=True, tag=True):
    """Rank 0's first word: what to load, and whom to meet.

    Attributes:
        meeting: a file through which the ranks find each other.
        timeout_s: for one exchange between the ranks.
    """

    mode: Literal["tensor", "pipeline"]
    rank: int
    ranks: int
    part: Part
    checkpoint: str
    device: str
    dtype: str
    block_size: int
    threads: int
    meeting: str
    timeout_s: float


class Imported(msgspec.Struct, frozen=True, tag=True):
    """The worker is alive and will be at the meeting."""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The weights are in place. `memory`: bytes that the worker has for its part of the cache."""

    memory: int


class Allocate(msgspec.Struct, frozen=True, tag=True):
    """Make the cache. `residual`: dtype of the hidden states that come from the rank before."""

    blocks: int
    residual: str


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker takes steps."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The worker ends. `reason`: for whoever runs the server."""

    reason: str


class Step(msgspec.Struct, frozen=True, tag=True):
    """Compute these segments, one piece after the other."""

    pieces: list[list[Segment]]


class Logits(msgspec.Struct, frozen=True, tag=True):
    """Compute your vocabulary's logits of the `rows` hidden states that follow."""

    rows: int


class Likeliest(msgspec.Struct, frozen=True, tag=True):
    """Find your vocabulary's largest logit of each of the `rows` hidden states that follow."""

    rows: int


Message = Start | Imported | Loaded | Allocate | Ready | Failed | Step | Logits | Likeliest
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _ENCODER.encode(message)


class Gone(Exception):
    """The other end is closed."""


class Channel:
    """One end of the pipe between rank 0 and a worker."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, message: Message) -> None:
        self.send_encoded(encode(message))

    def send_encoded(self, message: bytes) -> None:
        """
        Raises:
            Gone: nobody reads.
        """
        try:
            self.connection.send_bytes(message)
        except OSError as error:
            raise Gone from error

    def receive(self) -> Message:
        """Wait for the next message, as long as it takes.

        Raises:
            Gone: there will be none.
        """
        try:
            return _DECODER.decode(self.connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise Gone from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.close()
