import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_harmony import Role

from gpt_oss_triton.harmony.parse import HarmonyParser
from gpt_oss_triton.harmony.tokens import (
    CALL,
    CHANNEL,
    END,
    FIRST_SPECIAL,
    encode_text,
    encoding,
    token_bytes,
)
from tests.unit.harmony.library_renderer import assistant_turn
from tests.unit.harmony.turns import any_turn, byte_ids, cut, cuts, fold, ids

LONG = " word" * 70


def messages(marked: str) -> list[tuple[str, str | None, str]]:
    return [tuple(whole) for whole in fold([ids(marked)])[0]]


def fed(parser: HarmonyParser, tokens: list[int]) -> list[tuple[str, str | None, str]]:
    return [(delta.body.channel, delta.body.recipient, delta.text) for delta in parser.feed(tokens)]


WELL_FORMED = {
    "<|channel|>final<|message|>Hi.<|return|>": [("final", None, "Hi.")],
    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi.<|return|>": [
        ("analysis", None, "Hm."),
        ("final", None, "Hi."),
    ],
    "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>": [
        ("commentary", "functions.f", "{}")
    ],
    " to=functions.f<|channel|>commentary<|constrain|>json<|message|>{}<|call|>": [
        ("commentary", "functions.f", "{}")
    ],
    " to=python<|channel|>analysis code<|message|>1+1<|call|>": [("analysis", "python", "1+1")],
    "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=a.b<|channel|>commentary<|message|>{}<|call|>": [
        ("commentary", None, "I look."),
        ("commentary", "a.b", "{}"),
    ],
    "<|message|>Hi.<|end|>": [("final", None, "Hi.")],
    " to=a.b<|message|>{}<|call|>": [("commentary", "a.b", "{}")],
    "<|channel|>final to=user<|message|>Hi.<|return|>": [("final", None, "Hi.")],
}
MALFORMED = {
    # no header
    "Hello there": [("final", None, "Hello there")],
    " to be": [("final", None, " to be")],
    " to": [("final", None, " to")],
    "assistant professor": [("final", None, "assistant professor")],
    "<|channel|>analysis<|message|>Hm.<|end|>Hi.": [("analysis", None, "Hm."), ("final", None, "Hi.")],
    "<|channel|>analysis<|message|>Hm.<|end|>assistant<|channel|>final<|message|>Hi.": [
        ("analysis", None, "Hm."),
        ("final", None, "Hi."),
    ],
    "<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>Hi.": [
        ("analysis", None, "Hm."),
        ("final", None, "Hi."),
    ],
    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistantHi.": [
        ("analysis", None, "Hm."),
        ("final", None, "Hi."),
    ],
    # headers that say something odd
    "<|channel|>thought<|message|>Hm.": [("analysis", None, "Hm.")],
    "<|channel|><|message|>Hm.": [("analysis", None, "Hm.")],
    "<|channel|>final and more words<|message|>Hi.": [("final", None, "Hi.")],
    "<|channel|>final<|message|>a<|end|><|start|>user<|message|>b<|end|>": [
        ("final", None, "a"),
        ("analysis", None, "b"),
    ],
    "<|channel|>final<|message|>a<|end|><|start|>f.g to=assistant<|channel|>commentary<|message|>b": [
        ("final", None, "a"),
        ("analysis", None, "b"),
    ],
    "<|channel|>analysis<|channel|>final<|message|>Hi.": [("final", None, "Hi.")],
    "<|channel|>final<|message|>a<|end|>\n<|start|>assistant<|channel|>final<|message|>b": [
        ("final", None, "a"),
        ("final", None, "b"),
    ],
    "<|channel|>commentary <|constrain|>json to=functions.f<|message|>{}<|call|>": [
        ("commentary", "functions.f", "{}")
    ],
    "<|channel|>commentary to=functions.f<|constrain|>json<|message|>{}<|call|>": [
        ("commentary", "functions.f", "{}")
    ],
    "<|channel|>commentary to=functions.f json<|message|>{}<|call|>": [("commentary", "functions.f", "{}")],
    "<|channel|>commentary to=functions.f code<|message|>{}<|call|>": [("commentary", "functions.f", "{}")],
    "<|channel|>analysis to=functions.f<|message|>{}<|call|>": [("analysis", "functions.f", "{}")],
    "<|channel|>final to=functions.f<|message|>{}<|call|>": [("final", "functions.f", "{}")],
    "<|channel|>thought to=functions.f<|message|>{}<|call|>": [("analysis", "functions.f", "{}")],
    " to=functions.f<|channel|>commentary to=functions.g<|message|>{}<|call|>": [
        ("commentary", "functions.f", "{}")
    ],
    "<|channel|>commentary to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>": [
        ("commentary", None, "{}")
    ],
    "<|start|>assistant<|channel|>final<|message|>Hi.<|return|>": [("final", None, "Hi.")],
    "<|start|>assistant<|start|>assistant<|channel|>final<|message|>Hi.": [("final", None, "Hi.")],
    "<|channel|>ANALYSIS<|message|>Hm.": [("analysis", None, "Hm.")],
    "<|channel|>analysis\n<|message|>Hm.": [("analysis", None, "Hm.")],
    "<|channel|>commentary to=all<|message|>Hi.": [("commentary", None, "Hi.")],
    # headers that never end
    "<|channel|>final": [],
    "<|start|>assistant": [],
    "<|channel|>final to=functions.f": [],
    "<|channel|>final<|message|>a<|end|><|start|>user": [("final", None, "a")],
    "<|channel|>final Hi.<|return|>": [("final", None, " Hi.")],
    "<|channel|>analysis Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi.": [
        ("analysis", None, " Hm."),
        ("final", None, "Hi."),
    ],
    "<|channel|>commentary to=a.b {}<|call|>": [("commentary", "a.b", " {}")],
    " to=a.b {}<|call|>": [("commentary", "a.b", " {}")],
    f"<|channel|>{LONG}": [("final", None, LONG)],
    f"<|channel|>analysis{LONG}": [("analysis", None, LONG)],
    f"<|channel|>final<|message|>a<|end|><|start|>{LONG}": [("final", None, "a"), ("final", None, LONG)],
    f"<|channel|>final<|message|>a<|end|><|start|>user{LONG}": [
        ("final", None, "a"),
        ("analysis", None, LONG),
    ],
    "<|channel|>analysis More<|channel|>final<|message|>Hi.": [
        ("analysis", None, " More"),
        ("final", None, "Hi."),
    ],
    # control tokens inside a body
    "<|channel|>final<|message|>a<|message|>b<|constrain|>c": [("final", None, "abc")],
    "<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b": [
        ("analysis", None, "a"),
        ("final", None, "b"),
    ],
    "<|channel|>analysis<|message|>a<|channel|>final<|message|>b": [
        ("analysis", None, "a"),
        ("final", None, "b"),
    ],
    f"<|channel|>analysis<|message|>a<|channel|>{LONG}": [("analysis", None, "a"), ("analysis", None, LONG)],
    # tokens after a stop token
    "<|channel|>final<|message|>a<|return|><|endoftext|>b<|return|>": [
        ("final", None, "a"),
        ("final", None, "b"),
    ],
    "<|channel|>final<|message|>a<|call|><|start|>assistant<|channel|>analysis<|message|>b": [
        ("final", None, "a"),
        ("analysis", None, "b"),
    ],
    "<|reserved_200001|><|channel|>fin<|reserved_200004|>al<|message|>a<|reserved_201000|>b": [
        ("final", None, "ab")
    ],
}


@pytest.mark.parametrize(("marked", "expected"), (WELL_FORMED | MALFORMED).items())
def test_turns(marked: str, expected: list[tuple[str, str | None, str]]) -> None:
    assert messages(marked) == expected


def test_text_without_a_header_streams_from_its_first_token() -> None:
    parser = HarmonyParser()
    assert [fed(parser, [token]) for token in encode_text("Hello, you")] == [
        [("final", None, text)] for text in ("Hello", ",", " you")
    ]


def test_one_delta_for_each_message_of_a_call() -> None:
    parser = HarmonyParser()
    both = ids("<|channel|>analysis<|message|>a b c<|end|><|start|>assistant<|channel|>final<|message|>d e f")
    assert fed(parser, both) == [("analysis", None, "a b c"), ("final", None, "d e f")]
    assert parser.feed([]) == []
    assert parser.finish() == []


def test_a_message_with_a_recipient_is_announced_before_its_text() -> None:
    parser = HarmonyParser()
    assert fed(parser, ids("<|channel|>commentary to=functions.f")) == []
    assert fed(parser, ids("<|constrain|>json<|message|>")) == [("commentary", "functions.f", "")]
    assert fed(parser, ids("{}")) == [("commentary", "functions.f", "{}")]


def test_how_a_message_ended() -> None:
    parser = HarmonyParser()
    parser.feed(ids("<|channel|>commentary to=functions.f<|message|>{}"))
    body = parser.body
    assert body is not None
    assert body.closed_by is None
    parser.feed([CALL])
    parser.finish()
    assert (parser.body, body.closed_by) == (body, CALL)
    parser = HarmonyParser()
    parser.feed(ids("<|channel|>final<|message|>cut"))
    parser.finish()
    assert parser.body is not None
    assert parser.body.closed_by is None, "the output ended in it"


def test_characters_split_over_tokens() -> None:
    parser = HarmonyParser()
    parser.feed(ids("<|channel|>final<|message|>"))
    first, *_, last = byte_ids("😀")
    assert parser.feed([first]) == []
    assert parser.feed(byte_ids("😀")[1:3]) == []
    assert fed(parser, [last]) == [("final", None, "😀")]
    assert parser.feed([first]) == []
    assert fed(parser, [END]) == [("final", None, "\ufffd")]
    parser.feed(ids("<|start|>assistant<|channel|>final<|message|>"))
    assert fed(parser, [last, first]) == [("final", None, "\ufffd")]
    assert [delta.text for delta in parser.finish()] == ["\ufffd"]


def test_reasoning_tokens_are_those_of_analysis_bodies() -> None:
    thought = encode_text("We think about it.")
    turn = [
        CHANNEL,
        *ids("analysis<|message|>"),
        *thought,
        *ids("<|end|><|start|>assistant<|channel|>final<|message|>Yes."),
    ]
    assert fold([turn])[1] == len(thought)


@given(any_turn, cuts)
@settings(max_examples=600)
def test_total_and_independent_of_chunks(turn: list[int], places: list[int]) -> None:
    whole = fold([turn])
    assert fold(cut(turn, places)) == whole
    assert fold([[token] for token in turn]) == whole


@given(any_turn)
@settings(max_examples=300)
def test_no_text_but_what_the_text_tokens_say(turn: list[int]) -> None:
    """Every character shown comes from text tokens, in order: so no marker can be among them."""
    written = b"".join(token_bytes(t) for t in turn if 0 <= t < FIRST_SPECIAL).decode(errors="ignore")
    shown = "".join(delta.text for delta in fold([turn])[0]).replace("\ufffd", "")
    rest = iter(written)
    assert all(character in rest for character in shown)


@given(any_turn)
@settings(max_examples=300)
def test_final_text_is_never_lost(turn: list[int]) -> None:
    head = ids("<|channel|>final<|message|>The answer.<|end|><|start|>assistant<|channel|>final<|message|>")
    tail = ids("<|end|><|start|>assistant<|channel|>final<|message|>Last words.<|return|>")
    whole = [tuple(message) for message in fold([[*head, *turn, *tail]])[0]]
    assert whole[0] == ("final", None, "The answer.")
    assert whole[-1] == ("final", None, "Last words.")


texts = st.text(max_size=30)
valid_turns = st.lists(
    st.tuples(
        st.sampled_from(["analysis", "commentary", "final"]),
        texts,
        st.none() | st.sampled_from(["functions.get_x", "python"]),
    ),
    min_size=1,
    max_size=4,
)


@given(valid_turns, st.booleans(), cuts)
@settings(max_examples=300)
def test_equals_the_library_on_valid_turns(
    turn: list[tuple[str, str, str | None]], split: bool, places: list[int]
) -> None:
    """The library renders a turn and parses it; `split` writes its text byte by byte instead."""
    rendered: list[int] = []
    for channel, text, recipient in turn:
        empty = encoding().render(assistant_turn(channel, "", recipient))
        rendered += [*empty[:-1], *(byte_ids(text) if split else encode_text(text)), empty[-1]]
    rendered = rendered[2:]  # `<|start|>assistant` is the prompt's
    parsed = encoding().parse_messages_from_completion_tokens(rendered, Role.ASSISTANT)
    theirs = [(m.channel, m.recipient, m.content[0].text) for m in parsed if m.content[0].text]
    ours = [tuple(message) for message in fold(cut(rendered, places))[0]]
    assert ours == theirs
