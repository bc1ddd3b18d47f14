"""Known secrets are masked wherever they turn up."""

from __future__ import annotations

import json

from gpt_oss_triton.telemetry.redaction import MASK, Redaction


def test_all_of_them_the_longest_first() -> None:
    redaction = Redaction()
    redaction.hide("secret")
    redaction.hide("secret-and-more")
    assert redaction.redact("a secret-and-more b secret c") == f"a {MASK} b {MASK} c"


def test_as_json_writes_them() -> None:
    redaction, secret = Redaction(), 'quo"te\\and-ü'
    redaction.hide(secret)
    for text in (json.dumps({"a": secret}), json.dumps({"a": secret}, ensure_ascii=False), secret):
        assert MASK in redaction.redact(text)
        assert "quo" not in redaction.redact(text)


def test_nothing_known_nothing_changed() -> None:
    redaction = Redaction()
    redaction.hide("")
    redaction.hide("ab")
    assert redaction.redact("about the lab") == "about the lab"


def test_it_is_bounded() -> None:
    redaction = Redaction()
    for n in range(3000):
        redaction.hide(f"secret-{n:04}")
    assert redaction.redact("secret-0000") == MASK
    assert len(redaction._secrets) <= 1001
