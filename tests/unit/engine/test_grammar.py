"""Whatever the weights, the seed and the company: an answer keeps to its grammar."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import jsonschema_rs
import pytest
import torch
from llguidance import LLMatcher, LLParserLimits

from gpt_oss_triton.engine import grammar as grammar_module
from gpt_oss_triton.engine.grammar import Grammars
from gpt_oss_triton.engine.protocol import NewTokens, SequenceFinished
from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony import tokens
from tests.unit.engine.conftest import Call

VOCABULARY, EOS = 201_088, frozenset({tokens.RETURN, tokens.CALL, tokens.END_OF_TEXT})
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["a", "bee", "sea"]},
        "share": {"type": "number"},
        "list": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"n": {"type": "integer"}, "word": {"type": "string", "maxLength": 12}},
                "required": ["n"],
                "additionalProperties": False,
            },
            "minItems": 1,
            "maxItems": 3,
        },
    },
    "required": ["kind", "share", "list"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_pattern": "[ \\n]?"},
}
# Random weights would write digits for ever.
ENDINGS = {
    token: 9.0
    for text in ("}", "]", '"', ",", '"}', '"]', '"},', "}]", "}]}", ',"')
    for token in tokens.encode_text(text)
}
JSON = f"start: answer <|return|>\nanswer: %json {json.dumps(SCHEMA)}\n"
REGEX = "start: /[ab]{3,9}(-[0-9]{2})*/"
TURN = f"""start: (<|channel|> "analysis" <|message|> TEXT <|end|> <|start|> "assistant")? final
final: <|channel|> "final" <|message|> answer <|return|>
answer: %json {json.dumps(SCHEMA)}
TEXT: /(.|\\n){{0,40}}/
"""


def allowed(matcher, ahead=0):
    words = matcher.allowed(ahead).tolist()
    return {32 * n + bit for n, word in enumerate(words) if word for bit in range(32) if word >> bit & 1}


def is_json(text):
    return jsonschema_rs.is_valid(SCHEMA, json.loads(text))


def is_word(text):
    return re.fullmatch(r"[ab]{3,9}(-[0-9]{2})*", text) is not None


def is_turn(text):
    thought = r"(<\|channel\|>analysis<\|message\|>[^<]*.*<\|end\|><\|start\|>assistant)?"
    found = re.fullmatch(thought + r"<\|channel\|>final<\|message\|>(.*)", text, re.DOTALL)
    return found is not None and is_json(found[2])


@pytest.fixture(scope="module", params=["off", "on"], ids=["in turn", "overlapping"])
def overlap(request):
    return request.param


@pytest.fixture(scope="module")
def grammars():
    return Grammars(VOCABULARY, EOS)


# ----------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(("text", "valid"), [(JSON, is_json), (REGEX, is_word), (TURN, is_turn)])
def test_every_answer_keeps_to_its_grammar(engine, grammars, text, valid):
    """Random weights know nothing of JSON: what is right about these answers is the grammar's doing."""
    calls = [
        Call(
            engine,
            [seed],
            grammar=text,
            temperature=1.0,
            seed=seed,
            max_tokens=150,
            ignore_eos=False,
            logit_bias=ENDINGS,
        )
        for seed in range(100)
    ]
    ends = [call.end() for call in calls]
    assert all(isinstance(end, SequenceFinished) for end in ends), ends
    finished = [call for call, end in zip(calls, ends, strict=True) if end.finish_reason == "stop"]
    assert len(finished) >= 50
    for call in finished:
        assert call.tokens[-1] in EOS
        assert valid(tokens.decode(call.tokens[:-1])), tokens.decode(call.tokens)
    for call, end in zip(calls, ends, strict=True):
        if end.finish_reason == "length":
            assert_prefix(grammars, text, call.tokens)


def assert_prefix(grammars, text, answer):
    matcher = LLMatcher(grammars._tokenizer, LLMatcher.grammar_from_lark(text))
    assert matcher.consume_tokens(answer), matcher.get_error()


def test_what_may_come_is_what_llguidance_says_at_each_token(engine, grammars):
    call = Call(engine, [1], grammar=TURN, ignore_eos=False, max_tokens=60, logit_bias=ENDINGS, seed=1)
    call.end()
    matcher, plain = grammars.matcher(TURN), LLMatcher(grammars._tokenizer, LLMatcher.grammar_from_lark(TURN))
    forced = 0
    for token in call.tokens:
        mask = torch.zeros_like(grammars._named)
        plain.unsafe_compute_mask_ptr(mask.data_ptr(), mask.nbytes)
        assert torch.equal(matcher.allowed(), mask & grammars._named)
        forced += bool(matcher.forced())
        matcher.advance(token)
        plain.consume_token(token)
    assert 5 < forced < len(call.tokens)


def test_an_answer_may_end_anywhere_in_forced_text(engine):
    text = 'start: "one two three four five six seven eight nine ten" ("x" | "y")'
    whole = Call(engine, [1], grammar=text, ignore_eos=False, max_tokens=30)
    whole.end()
    for most in range(1, 10):
        cut = Call(engine, [1], grammar=text, ignore_eos=False, max_tokens=most)
        assert cut.end().finish_reason == "length"
        assert cut.tokens == whole.tokens[:most]
        stopped = Call(
            engine, [1], grammar=text, ignore_eos=False, stop_token_ids=(whole.tokens[most],), max_tokens=30
        )
        assert stopped.end().finish_reason == "stop"
        assert stopped.tokens == whole.tokens[: most + 1]
    assert engine.load().blocks_used == 0


@pytest.mark.parametrize("text", [JSON, REGEX, TURN])
@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0, "logprobs": 2}])
def test_forced_tokens_take_no_step_of_their_own_and_change_nothing(make_engine, text, options):
    seen = []
    for speculation in ("off", "auto"):
        engine = make_engine(speculation=speculation, overlap="off")  # nothing is drafted where steps overlap
        options = {"grammar": text, "ignore_eos": False, "max_tokens": 60, "logit_bias": ENDINGS, **options}
        calls = [Call(engine, [seed], seed=seed, **options) for seed in range(3)]
        for call in calls:
            call.end()
        told = [[event for event in call.seen if isinstance(event, NewTokens)] for call in calls]
        answers = [
            [(e.token_ids, e.logprobs and round(e.logprobs[0].logprob, 2)) for e in events] for events in told
        ]
        load = engine.load()
        seen.append((answers, load.steps))
        engine.close()
    (one_by_one, more), (together, fewer) = seen
    assert one_by_one == together
    if text != REGEX:
        assert fewer < more
        assert load.drafted_tokens == 0, "they are no guesses"


def test_a_grammar_changes_nothing_for_the_others(engine):
    alone = Call(engine, [1, 2, 3], max_tokens=20)
    alone.end()
    calls = [Call(engine, [n], grammar=JSON, ignore_eos=False, max_tokens=40) for n in range(4)]
    beside = Call(engine, [1, 2, 3], max_tokens=20)
    beside.end()
    for call in calls:
        call.end()
    assert beside.tokens == alone.tokens


def test_a_seeded_answer_is_the_same_alone_and_in_company(engine):
    options = {"grammar": TURN, "temperature": 1.0, "seed": 5, "max_tokens": 40, "ignore_eos": False}
    alone = Call(engine, [9], **options)
    alone.end()
    calls = [Call(engine, [9], **{**options, "seed": seed}) for seed in range(8)]
    for call in calls:
        call.end()
    assert calls[5].tokens == alone.tokens


def test_penalties_and_bias_cannot_leave_the_grammar(engine):
    call = Call(
        engine, [1], grammar='start: "a" "b"', logit_bias={77: 100.0}, frequency_penalty=2.0, ignore_eos=False
    )
    assert call.end().finish_reason == "stop"
    assert tokens.decode(call.tokens[:-1]) == "ab"


def test_a_preempted_answer_goes_on_where_it_was(make_engine, grammars):
    # 2 * 4 layers * 2 heads * 16 dims * 4 bytes a token: room for about 250 tokens, and 600 are wanted.
    small = make_engine(kv_cache_gib=250 * 1024 / 2**30, prefix_cache=False)
    free = "start: TEXT <|end|>\nTEXT: /[a-z ]{200,}/\n"
    calls = [
        Call(small, [n] * 40, grammar=free, max_tokens=60, temperature=1.0, seed=n, ignore_eos=False)
        for n in range(1, 7)
    ]
    ends = [call.end() for call in calls]
    assert sum(end.preemptions for end in ends) > 0
    assert [end.finish_reason for end in ends] == ["length"] * 6
    for call in calls:
        assert_prefix(grammars, free, call.tokens)
    small.close()


def test_stop_strings_and_cancels_end_it_too(engine):
    call = Call(engine, [1], grammar=REGEX, stop_text=lambda token: "!", ignore_eos=False)
    assert call.end().stop == "!"
    running = Call(engine, [1], grammar="start: /(.|\\n)*/", max_tokens=900, ignore_eos=False, logit_bias=dict.fromkeys(EOS, -100.0))  # fmt: skip
    running.until(NewTokens)
    assert engine.cancel(running.id)
    assert running.end().finish_reason == "cancelled"


# -------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("start: foo", "unknown name"),
        ("start: <|nope|>", "unknown special token"),
        ("nonsense", "Expected token"),
        ('start: %json {"type": 1}', "JSON schema"),
        ("start: /(/", "regex"),
        ("", "cannot be used"),
    ],
)
def test_what_is_no_grammar_is_refused_at_submission(engine, text, words):
    with pytest.raises(InvalidRequest, match=words) as refused:
        Call(engine, [1], grammar=text, ignore_eos=False)
    assert refused.value.param == "grammar"
    assert len(refused.value.message) < 400
    assert "\n" not in refused.value.message


def test_a_grammar_that_is_too_long_and_ignore_eos_are_refused(engine):
    with pytest.raises(InvalidRequest, match="262144 characters") as refused:
        Call(engine, [1], grammar="#" * (2**18 + 1), ignore_eos=False)
    assert refused.value.param == "grammar"
    with pytest.raises(InvalidRequest, match="does not go with") as refused:
        Call(engine, [1], grammar=REGEX, ignore_eos=True)
    assert refused.value.param == "ignore_eos"


RULES = "\n".join([f"r{n}: r{n + 1}" for n in range(15_000)])
REFERENCES = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(2500)} | {"d2500": {"const": 1}}


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (f'start: r0\n{RULES}\nr15000: "1"', "1"),
        (f"start: %json {json.dumps({'$ref': '#/$defs/d0', '$defs': REFERENCES})}", "1"),
    ],
    ids=["rules", "references"],
)
def test_what_leads_deep_does_not_end_the_process(grammars, text, first):
    matcher = grammars.matcher(text)
    assert matcher.forced() == tokens.encode_text(first)


def test_large_multiples_can_be_written(grammars):
    matcher = grammars.matcher('start: %json {"type": "integer", "multipleOf": 50000}')
    for token in tokens.encode_text("150000"):
        assert token in allowed(matcher)
        matcher.advance(token)
    assert allowed(matcher) >= EOS


def test_a_grammar_that_gets_too_complex_fails_its_request_alone(engine, monkeypatch):
    monkeypatch.setattr(grammar_module, "LIMITS", LLParserLimits(step_lexer_fuel=1, verbose_errors=False))
    text = "start: /[a-f]{2,30}x|[a-g]{3,40}y/  // another text than any before"
    good = Call(engine, [2], max_tokens=20)
    failed = Call(engine, [1], grammar=text, ignore_eos=False, max_tokens=30).end()
    assert isinstance(failed.error, InvalidRequest)
    assert failed.error.param == "grammar"
    assert "within its grammar" in failed.error.message
    assert good.end().finish_reason == "length"


# ---------------------------------------------------------------------------------------- masks


def test_control_tokens_come_only_where_the_grammar_names_them(grammars):
    matcher = grammars.matcher("start: TEXT <|end|>\nTEXT: /(.|\\n)*/")
    assert {token for token in allowed(matcher) if token >= tokens.FIRST_SPECIAL} == {tokens.END}
    for token in (*tokens.encode_text("x"), tokens.END):
        assert token in allowed(matcher)
        matcher.advance(token)
    assert allowed(matcher) == EOS


def test_reserved_tokens_never_come(grammars):
    with pytest.raises(InvalidRequest, match="no token"):
        grammars.matcher("start: <[200019]>").allowed()
    matcher = grammars.matcher('start: "x" <[200019]>')
    (x,) = tokens.encode_text("x")
    assert allowed(matcher) == {x}
    matcher.advance(x)
    with pytest.raises(InvalidRequest, match="no token"):
        matcher.allowed()
    anything = allowed(grammars.matcher("start: <[*]> <|end|>"))
    assert {199_999, 200_002, 200_007} <= anything
    assert not anything & {200_000, 200_001, 200_019, 201_087}


def test_forced_text_is_written_in_the_encoders_own_tokens(grammars):
    matcher = grammars.matcher('start: "assistant answers" <|end|> ("x" | "y")')
    forced = [*tokens.encode_text("assistant answers"), tokens.END]
    choice = {*tokens.encode_text("x"), *tokens.encode_text("y")}
    for n, token in enumerate(forced):
        assert matcher.forced() == forced[n:]
        assert [allowed(matcher, ahead) for ahead in range(len(forced) - n)] == [{one} for one in forced[n:]]
        assert allowed(matcher, len(forced) - n) == choice
        matcher.advance(token)
    assert matcher.forced() == []
    assert allowed(matcher) == choice


def test_a_grammar_is_compiled_once_and_its_answers_are_apart(grammars, monkeypatch):
    text = 'start: "one" | "two"  // only here'
    first = grammars.matcher(text)
    monkeypatch.setattr(grammar_module, "LLMatcher", None)  # whoever compiles now, fails
    second = grammars.matcher(text)
    before = allowed(second)
    one = tokens.encode_text("one")[0]
    assert one in allowed(first)
    first.advance(one)
    assert allowed(first) == EOS
    assert allowed(second) == before
    monkeypatch.undo()
    for n in range(grammar_module.MAX_COMPILED + 3):
        grammars.matcher(f'start: "{n}"')
    assert len(grammars._compiled) == grammar_module.MAX_COMPILED


def test_what_grammars_share_is_made_once_and_whoever_comes_meanwhile_waits(monkeypatch):
    began, go_on, made = threading.Event(), threading.Event(), []

    def make(*arguments, **more):
        began.set()
        assert go_on.wait(10)
        made.append(object())
        return made[-1]

    monkeypatch.setattr(grammar_module, "LLTokenizer", make)
    Grammars.prepare(32, frozenset({7}))  # sizes that nobody else has
    assert began.wait(10)
    with ThreadPoolExecutor() as pool:
        engines = [pool.submit(Grammars, 32, frozenset({7})) for _ in range(3)]
        assert not any(engine.done() for engine in engines)
        go_on.set()
        assert {id(engine.result(10)._tokenizer) for engine in engines} == {id(made[0])}
    assert len(made) == 1


def test_an_engine_that_has_started_has_made_it(engine, monkeypatch):
    monkeypatch.setattr(grammar_module, "LLTokenizer", None)  # whoever makes one now, fails
    call = Call(engine, [1], grammar='start: "made"', ignore_eos=False)
    assert call.end().finish_reason == "stop"


def test_a_mask_is_kept_until_the_answer_goes_on(grammars):
    """A step that failed is repeated, and asks again."""
    matcher = grammars.matcher(REGEX)
    assert allowed(matcher) == allowed(matcher)
