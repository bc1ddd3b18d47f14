"""Scripts: which rule answers which prompt, what it answers with, and what no script may say."""

import itertools
import json

import pytest

from gpt_oss_triton.engine.script import MAX_RULES, Script
from gpt_oss_triton.errors import ConfigurationError, EngineUnavailable, InvalidRequest, Overloaded
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.normalize import prompt_hash
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.wire import Message, PromptRequest, ToolCall

HELLO = "<|channel|>final<|message|>Hello<|return|>"


@pytest.fixture
def script(tmp_path):
    def write(*lines):
        path = tmp_path / "answers.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return Script.read(path)

    return write


def prompt(*messages):
    return render(PromptRequest(list(messages)))


def said(script, *messages):
    return tokens.decode(script.answer(prompt(*messages)).token_ids())


USER = Message("user", "What is the weather in Paris?")


def test_text_is_harmony_with_control_tokens(script):
    ids = list(script({"text": HELLO}).answer([1]).token_ids())
    assert ids[0] == tokens.CHANNEL
    assert ids[-1] == tokens.RETURN
    assert tokens.decode(ids) == HELLO


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({}, True),
        ({"contains": "weather in"}, True),
        ({"contains": "You are"}, False),  # in the prompt, but not in its last message
        ({"anywhere": "<|start|>user<|message|>What"}, True),
        ({"anywhere": "Berlin"}, False),
        ({"pattern": r"in \w+\?$"}, True),
        ({"pattern": r"^in"}, False),
        ({"role": "user"}, True),
        ({"role": "functions.weather"}, False),
        ({"prompt_hash": prompt_hash(prompt(USER))}, True),
        ({"prompt_hash": prompt_hash(prompt(Message("user", "x")))}, False),
        ({"role": "user", "contains": "Paris", "pattern": "weather"}, True),
        ({"role": "user", "contains": "Berlin"}, False),
    ],
)
def test_all_that_a_rule_asks_for_must_hold(script, rule, fits):
    answers = script({"text": "yes", **rule}, {"text": "no"})
    assert said(answers, USER) == ("yes" if fits else "no")


def test_the_result_of_a_tool_is_a_last_message_too(script):
    answers = script({"text": "result", "role": "functions.weather", "contains": "18 C"}, {"text": "other"})
    called = Message("assistant", tool_calls=[ToolCall("weather", '{"city": "Paris"}')])
    turns = [USER, called, Message("tool", "It is 18 C.", name="weather")]
    assert said(answers, *turns) == "result"
    assert said(answers, *turns, Message("user", "18 C?")) == "other"


def test_a_prompt_without_messages_has_no_last_one(script):
    answers = script({"text": "a", "contains": "1"}, {"text": "b"})
    assert tokens.decode(answers.answer([1, 2, 3]).token_ids()) == "b"


def test_rules_with_a_count_answer_in_order(script):
    answers = script({"text": "one", "times": 1}, {"text": "two", "times": 2}, {"text": "rest"})
    assert [said(answers, USER) for _ in range(5)] == ["one", "two", "two", "rest", "rest"]


def test_a_prompt_that_no_rule_fits_is_refused(script):
    answers = script({"text": "x", "times": 1})
    said(answers, USER)
    with pytest.raises(InvalidRequest, match=r"answers\.jsonl has no answer") as refused:
        said(answers, USER)
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("code", "error"), [("overloaded", Overloaded), ("engine_unavailable", EngineUnavailable)]
)
def test_a_rule_may_refuse(script, code, error):
    with pytest.raises(error):
        said(script({"refuse": code}), USER)


def test_a_repeated_text_has_the_tokens_that_are_asked_for(script):
    ids = list(script({"repeat": "one two ", "tokens": 20}).answer([1]).token_ids())
    assert len(ids) == 20
    assert tokens.decode(ids).startswith("<|channel|>final<|message|>one two one two")
    assert ids[-1] == tokens.RETURN


def test_a_repeated_text_without_a_number_never_ends(script):
    ids = script({"repeat": "one two "}).answer([1]).token_ids()
    assert tokens.RETURN not in itertools.islice(ids, 10_000)


def test_options_stand_on_the_first_line(script):
    assert script({"engine": {"tokens_per_s": 5000}}, {"text": "x"}).options.tokens_per_s == 5000
    assert script({"text": "x"}).options.tokens_per_s is None


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "0 rules"),
        (["{"], "line 1"),
        (["", '{"text": 5}'], "line 2: Expected `str | null`, got `int`"),
        (['{"text": "x"}', '{"engine": {}}'], "line 2: Object contains unknown field `engine`"),
        (['{"engine": {"tokens_per_s": 0}}'], "line 1: Expected `float` > 0"),
        (['{"text": "x", "txet": "y"}'], "unknown field `txet`"),
        (["{}"], "one of text, token_ids and repeat"),
        (['{"text": "x", "repeat": "y"}'], "one of text, token_ids and repeat"),
        (['{"text": "x", "refuse": "overloaded"}'], "none of them with refuse"),
        (['{"refuse": "teapot"}'], "teapot"),
        (['{"text": ""}'], "0 tokens"),
        (['{"token_ids": [201088]}'], "0 … 201087"),
        (['{"token_ids": [-1]}'], "0 … 201087"),
        (['{"text": "x", "tokens": 3}'], "tokens goes with repeat"),
        (['{"text": "x", "fail_after": 3}'], "fail_after goes with fail"),
        (['{"text": "x", "chunk": []}'], "chunk is empty"),
        (['{"text": "x", "chunk": [0]}'], ">= 1"),
        (['{"text": "x", "pattern": "("}'], "pattern: "),
        (['{"text": "x", "times": 0}'], ">= 1"),
        (['{"text": "x", "token_s": -1}'], ">= 0"),
        (['{"text": "x"}'] * (MAX_RULES + 1), f"1 to {MAX_RULES}"),
    ],
)
def test_a_wrong_script_names_its_line(script, lines, complaint):
    with pytest.raises(ConfigurationError) as refused:
        script(*lines)
    assert complaint in str(refused.value)


def test_a_missing_script_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        Script.read(tmp_path / "none.jsonl")
