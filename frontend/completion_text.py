"""One answer of a completion: token ids in, text and OpenAI's legacy log-probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from frontend.content_scores import LEAST_LOGPROB
from frontend.triton import Answer
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.raw_text import RawText
from gpt_oss_triton.wire import Finished, TokenLogprobs


@dataclass(slots=True)
class LegacyLogprobs:
    """Of tokens in order. `text_offset` counts characters of the answer's text before each."""

    text_offset: list[int] = field(default_factory=list)
    token_logprobs: list[float] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    top_logprobs: list[dict[str, float]] = field(default_factory=list)

    def add(self, offset: int, token_id: int, of: TokenLogprobs) -> None:
        token = _token_text(token_id)
        self.text_offset.append(offset)
        self.token_logprobs.append(max(of.logprob, LEAST_LOGPROB))
        self.tokens.append(token)
        top = {_token_text(other): max(logprob, LEAST_LOGPROB) for other, logprob in of.top}
        self.top_logprobs.append(top | {token: max(of.logprob, LEAST_LOGPROB)})

    def take(self, before: int) -> LegacyLogprobs:
        """Remove and return those of the text's first `before` characters."""
        count = sum(offset < before for offset in self.text_offset)
        taken = LegacyLogprobs(
            self.text_offset[:count],
            self.token_logprobs[:count],
            self.tokens[:count],
            self.top_logprobs[:count],
        )
        self.text_offset, self.token_logprobs = self.text_offset[count:], self.token_logprobs[count:]
        self.tokens, self.top_logprobs = self.tokens[count:], self.top_logprobs[count:]
        return taken

    def extend(self, more: LegacyLogprobs) -> None:
        self.text_offset += more.text_offset
        self.token_logprobs += more.token_logprobs
        self.tokens += more.tokens
        self.top_logprobs += more.top_logprobs


@dataclass(slots=True)
class TextDelta:
    text: str
    logprobs: LegacyLogprobs | None


class CompletionText:
    """Args:
        stop: strings that end the text before them.
        show_control: write control tokens out.
        with_logprobs: the answers carry some.

    Attributes:
        token_ids: of the answer, up to and with the one that completed a stop string.
        finish_reason: None while more is to come.
    """

    def __init__(self, stop: Sequence[str], *, show_control: bool, with_logprobs: bool) -> None:
        self.token_ids: list[int] = []
        self.finish_reason: str | None = None
        self._text = RawText(stop, show_control=show_control)
        self._show_control = show_control
        self._one_by_one = bool(stop) or with_logprobs
        self._pending = LegacyLogprobs() if with_logprobs else None
        self._shown = 0  # characters

    def feed(self, answer: Answer) -> TextDelta:
        """What the answer adds; the last one sets `finish_reason`, and so does a stop string."""
        text = ""
        if self._one_by_one:
            logprobs = answer.logprobs
            for place, token_id in enumerate(answer.token_ids):
                text += self._feed_one(token_id, logprobs[place] if logprobs else None)
                if self.finish_reason is not None:
                    break
        else:
            self.token_ids += answer.token_ids
            text = self._text.feed(answer.token_ids)
        if isinstance(answer.event, Finished) and self.finish_reason is None:
            text += self._text.finish()
            self.finish_reason = "length" if answer.event.finish_reason == "length" else "stop"
        return self._delta(text)

    def _feed_one(self, token_id: int, logprobs: TokenLogprobs | None) -> str:
        self.token_ids.append(token_id)
        offset = self._text.written
        text = self._text.feed((token_id,))
        in_text = self._show_control or token_id < tokens.FIRST_SPECIAL
        if self._pending is not None and logprobs is not None and in_text:
            self._pending.add(offset, token_id, logprobs)
        if self._text.stopped is not None:
            self.finish_reason = "stop"
        return text

    def _delta(self, text: str) -> TextDelta:
        self._shown += len(text)
        return TextDelta(text, None if self._pending is None else self._pending.take(self._shown))


def _token_text(token_id: int) -> str:
    """As OpenAI writes a token: text, or bytes where it is a part of a character."""
    if token_id >= tokens.FIRST_SPECIAL:
        return tokens.decode((token_id,))
    data = tokens.token_bytes(token_id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
