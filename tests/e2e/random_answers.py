"""Random assistant turns for the scripted engine, the same in every run: well-formed, malformed, and cut anywhere."""

from __future__ import annotations

import random
from typing import Any

from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.tokens import encode_marked

COUNT = 60
FUNCTIONS = ("get_weather", "python")  # the second one has a builtin's name
_TEXTS = (
    "",
    "Yes.",
    "Grüße – 日本語 🙂👨‍👩‍👧",
    "a\n\nb",
    "  two  ",
    '{"city": "Zürich", "days": [1, 2]}',
    "line\u2028end\x85",
    "<not a marker>",
    "\ufffd",
    "END of it",
    "data: [DONE]",
    "\x00\x1b",
)
_MALFORMED = (
    "no header at all",
    "<|channel|>thought<|message|>unknown",
    "<|channel|>final",
    "<|channel|>commentary to=functions.get_weather <|constrain|>json",
    "<|start|>user<|message|>mine",
    "<|message|><|message|>",
    "<|channel|>final extra words<|message|>shown",
    "<|channel|><|channel|>final<|message|>twice",
    "<|call|><|return|>",
    "<|start|>assistant to=functions.get_weather<|channel|>commentary<|message|>{}",
)
_NEXT = "<|end|><|start|>assistant"


def rules() -> list[dict[str, Any]]:
    """Two for each answer: the same tokens, delivered in other pieces."""
    found = []
    for number in range(COUNT):
        rng = random.Random(f"answer {number}")
        ids = _answer(rng)
        end = rng.choice(["stop", "length"])
        for way in (1, 2):
            chunk = [rng.randint(1, 9) for _ in range(rng.randint(1, 4))]
            found.append(
                {"contains": question(number, way), "token_ids": ids, "chunk": chunk, "finish_reason": end}
            )
    return found


def question(number: int, way: int) -> str:
    return f"random answer {number:02}, way {way}."


def stops(number: int) -> list[str]:
    """Stop strings to ask with."""
    return random.Random(f"stop {number}").choice([[], [], ["END"], ["\n\n", "🙂"], ["e"]])


def _answer(rng: random.Random) -> list[int]:
    messages = [_message(rng) for _ in range(rng.randint(1, 4))]
    ids = encode_marked(_NEXT.join(messages) + rng.choice(["<|return|>", "<|call|>", "<|end|>", ""]))
    if rng.random() < 0.3:  # cut anywhere, also within a character
        del ids[rng.randint(1, len(ids)) :]
    if rng.random() < 0.2:
        ids.insert(
            rng.randint(0, len(ids)), rng.choice([tokens.START, tokens.CHANNEL, tokens.MESSAGE, tokens.END])
        )
    # The engine ends an answer at its first end token, so there is none but at the end.
    body = [token for token in ids[:-1] if token not in tokens.STOP_IDS]
    return [*body, ids[-1]]


def _message(rng: random.Random) -> str:
    text = " ".join(rng.choices(_TEXTS, k=rng.randint(1, 3)))
    function = rng.choice([*FUNCTIONS, "undeclared", "browser.search"])
    name = function if "." in function else f"functions.{function}"
    return rng.choice(
        [
            f"<|channel|>analysis<|message|>{text}",
            f"<|channel|>commentary<|message|>{text}",
            f"<|channel|>final<|message|>{text}",
            f"<|channel|>commentary to={name} <|constrain|>json<|message|>{text}",
            rng.choice(_MALFORMED) + text,
        ]
    )
