"""The text of every conversation of the corpus is one that the server would render and its parser would read."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import jsonschema_rs
import pytest

from gpt_oss_triton.demo.answers import read
from gpt_oss_triton.demo.conformity import conforms
from gpt_oss_triton.demo.corpus import KINDS, Episode, episode, sample_of
from gpt_oss_triton.demo.corpus.arithmetic import arithmetic, working
from gpt_oss_triton.demo.corpus.draw import Draw, Split, part
from gpt_oss_triton.demo.corpus.functions import about_rows, several
from gpt_oss_triton.demo.corpus.results import result
from gpt_oss_triton.demo.corpus.sample import answer_of, prompt_of
from gpt_oss_triton.demo.corpus.tables import TELLING_NAMES
from gpt_oss_triton.demo.corpus.vocables import unspaced, vocable
from gpt_oss_triton.demo.corpus.words import ADJECTIVES, FIELDS, NAMES, NOUNS, THINGS, VERBS
from gpt_oss_triton.demo.evaluation import Trial, verdicts
from gpt_oss_triton.harmony.tokens import CALL, RETURN, START, decode, encode_text, token_bytes

COUNT = 400


@pytest.fixture(scope="module", params=["train", "held"])
def episodes(request: pytest.FixtureRequest) -> list[Episode]:
    return [episode(5, index, request.param) for index in range(COUNT)]


def trials_of(one: Episode) -> list[Trial]:
    return [Trial(one, step) for step in range(len(one.turns[-1].calls) + 1)]


def test_the_right_answers_are_valid_harmony_and_pass_the_examination(episodes: list[Episode]) -> None:
    for one in episodes:
        names = [tool.name for tool in one.tools]
        for trial in trials_of(one):
            answer = read(answer_of(one.turns[-1], trial.step), names)
            found = verdicts(trial, answer)
            assert all(found.values()), (found, answer, one)
            assert answer.analysis_tokens > 0


def test_only_what_the_assistant_says_last_is_learned(episodes: list[Episode]) -> None:
    assistant = [START, *encode_text("assistant")]
    for one in episodes:
        sample = sample_of(one)
        prompt = prompt_of(one)
        assert len(sample.ids) == len(sample.learned)
        assert sample.ids[: len(prompt)] == prompt
        last = len(one.turns[-1].calls)
        assert decode(sample.ids) == decode(prompt_of(one, last) + answer_of(one.turns[-1], last))
        assert not any(sample.learned[: len(prompt)])
        begins = [i for i in range(1, len(sample.ids)) if sample.learned[i] and not sample.learned[i - 1]]
        assert len(begins) == len(one.turns[-1].calls) + 1
        for begin in begins:
            assert sample.ids[begin - 2 : begin] == assistant
        ends = [token for token, learned in zip(sample.ids, sample.learned, strict=True) if learned]
        assert ends.count(CALL) == len(one.turns[-1].calls)
        assert ends.count(RETURN) == 1
        assert ends[-1] == RETURN


def test_calls_and_answers_keep_to_their_schemas(episodes: list[Episode]) -> None:
    for one in episodes:
        schemas = {tool.name: tool.parameters for tool in one.tools}
        for made in one.turns[-1].calls:
            jsonschema_rs.validate(schemas[made.name], made.arguments)
        if one.response_format is not None:
            jsonschema_rs.validate(one.response_format.schema, json.loads(one.turns[-1].final))


def test_words_of_other_languages_are_passed_on_as_they_are(episodes: list[Episode]) -> None:
    said = [
        text
        for one in episodes
        for turn in one.turns
        for text in (turn.final, *(part for made in turn.calls for part in (made.result, made.analysis)))
    ]
    assert not any("\\u" in text for text in said)
    assert not all(text.isascii() for text in said)


def test_the_pair_of_a_difference_is_held_out_as_it_is_asked() -> None:
    signs = re.compile(r"(\d+) - (\d+) = ")
    found = [
        [signs.match(one.turns[-1].final) for one in made if one.kind == "arithmetic"]
        for made in ([episode(5, index, split) for index in range(COUNT)] for split in ("train", "held"))
    ]
    seen, unseen = ({match.groups() for match in matches if match} for matches in found)
    assert seen
    assert unseen
    assert seen.isdisjoint(unseen)


def test_all_kinds_are_made() -> None:
    assert {episode(5, index, "train").kind for index in range(2000)} == set(KINDS)


def test_equal_seeds_give_equal_conversations() -> None:
    assert episode(1, 7, "train") == episode(1, 7, "train")
    assert episode(1, 7, "train") != episode(2, 7, "train")


@pytest.mark.parametrize("items", [NAMES, FIELDS, ("a", "b")])
def test_what_is_held_out_is_never_drawn_in_training(items: tuple[str, ...]) -> None:
    train, held = Draw("1", "train"), Draw("1", "held")
    seen = {train.pick(items) for _ in range(3000)}
    unseen = {held.pick(items) for _ in range(500)}
    assert seen.isdisjoint(unseen)
    assert seen | unseen == set(items)


def test_in_a_narrow_conversation_words_come_from_a_few_of_each_list() -> None:
    narrow, wide = Draw("1", "train", narrow=1.0), Draw("1", "train")
    few, many = ({draw.pick(NAMES) for _ in range(2000)} for draw in (narrow, wide))
    unseen = {Draw(str(n), "held", narrow=1.0).pick(NAMES) for n in range(2000)}
    assert few < many
    assert unseen == set(NAMES) - many
    assert len(few) == 15
    assert set(narrow.picks(NAMES, 5)) <= few
    assert len({narrow.pick("abcdefgh") for _ in range(200)}) == 3
    assert len({vocable(narrow) for _ in range(2000)}) > 1000, "of words that nobody chose there are enough"


@pytest.mark.parametrize("items", [VERBS, THINGS, FIELDS, NOUNS, ADJECTIVES])
def test_lists_are_long_enough_that_a_held_out_word_seldom_stands_for_several_things(
    items: tuple[str, ...],
) -> None:
    assert len(part(items, "held")) > 25
    assert len(set(items)) == len(items)


def test_half_of_the_trainings_conversations_are_narrow_and_some_texts_have_no_blanks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Draw] = []
    begin = Draw.__init__

    def noted(self: Draw, *arguments: Any) -> None:
        begin(self, *arguments)
        drawn.append(self)

    monkeypatch.setattr(Draw, "__init__", noted)
    made = [episode(5, index, "train") for index in range(COUNT)]
    assert 0.4 * COUNT < sum(draw._few is not None for draw in drawn) < 0.6 * COUNT
    assert any("\u3041" <= sign <= "\u9fff" for one in made for turn in one.turns for sign in turn.user)


def test_pairs_of_numbers_are_split_too() -> None:
    def drawn(draw: Draw) -> set[tuple[int, int]]:
        return {draw.pair((0, 9), (0, 9)) for _ in range(2000)}

    seen, unseen = drawn(Draw("1", "train")), drawn(Draw("1", "held"))
    assert seen.isdisjoint(unseen)
    assert len(seen | unseen) == 100


def test_training_has_more_of_the_hard_tasks_and_none_of_the_tasks_that_are_held_out() -> None:
    def tasks(split: Split) -> list[tuple[int, str, int]]:
        finals = (arithmetic(Draw(f"hard/{index}", split)).turns[-1].final for index in range(2000))
        found = [re.match(r"(\d+) (.) (\d+) = ", final) for final in finals]
        return [(int(one[1]), one[2], int(one[3])) for one in found if one]

    def equal_digits(made: list[tuple[int, str, int]]) -> float:
        differences = [(a, b) for a, sign, b in made if sign == "-" and a > 99]
        return sum(any(x == y for x, y in zip(f"{a}", f"{b:03}", strict=True)) for a, b in differences) / len(
            differences
        )

    train, held = tasks("train"), tasks("held")
    assert len(train) == len(held) == 2000
    assert set(train).isdisjoint(held)
    assert equal_digits(train) > equal_digits(held) + 0.05
    assert max(a // b for a, sign, b in train if sign == "/") == 15
    assert max(a // b for a, sign, b in held if sign == "/") == 12


@pytest.mark.parametrize(
    ("sign", "a", "b", "steps"),
    [
        ("+", 347, 589, "ones: 7 + 9 = 16, 6. tens: 4 + 8 + 1 = 13, 36. hundreds: 3 + 5 + 1 = 9, 936."),
        (
            "-",
            512,
            67,
            "ones: 10 + 2 - 7 = 5, 5. tens: 10 + 1 - 6 - 1 = 4, 45. hundreds: 5 - 0 - 1 = 4, 445.",
        ),
        ("*", 34, 7, "ones: 4 * 7 = 28, 8. tens: 3 * 7 = 21, 21 + 2 = 23, 38. hundreds: 2, 238."),
        ("*", 12, 11, "ones: 2 * 11 = 22, 2. tens: 1 * 11 = 11, 11 + 2 = 13, 32. hundreds: 1, 132."),
        ("*", 8, 12, "ones: 2 * 8 = 16, 6. tens: 1 * 8 = 8, 8 + 1 = 9, 96."),
        ("*", 8, 7, "ones: 8 * 7 = 56."),
        ("/", 28, 7, "ones: 1 * 7 = 7, 2 * 7 = 14, 3 * 7 = 21, 4 * 7 = 28."),
    ],
)
def test_the_working_is_right(sign: str, a: int, b: int, steps: str) -> None:
    assert working(sign, a, b, "low") == steps


def test_more_effort_thinks_more() -> None:
    lengths = [len(working("+", 347, 589, effort)) for effort in ("low", "medium", "high")]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize("split", ["train", "held"])
def test_requests_about_rows_say_all_that_is_filled_in(split: Split) -> None:
    seen: Counter[str] = Counter()
    for index in range(400):
        draw = Draw(f"rows/{index}", split, strange=0.5)
        one = about_rows(draw)
        schema = one.tool.parameters or {}
        assert conforms(one.arguments, schema)
        for name, field in schema["properties"].items():
            assert (name in schema["required"]) == ("default" not in field)
            assert len(set(field.get("enum", ()))) == len(field.get("enum", ()))
            if name not in one.arguments:
                seen["left out"] += 1
                continue
            value = one.arguments[name]
            seen["optional and said"] += "default" in field
            ordered = re.search(r"\b(by|order of|order) (the |its )?(\w+)", one.text)
            seen["order"] += ordered is not None and ordered[3] == value
            words = re.findall(r"\w+", value) if isinstance(value, str) else value
            if isinstance(value, list) and isinstance(value[0], list):
                words = [number for _, number in value]
            elif isinstance(value, list):
                assert len(set(value)) == len(value)
            assert all(str(word) in one.text for word in (words if isinstance(words, list) else [words]))
    assert min(seen["left out"], seen["optional and said"]) > 50
    assert seen["order"] > 10


def test_of_the_parameters_with_a_default_any_may_be_given() -> None:
    skipped = 0
    for index in range(COUNT):
        one = about_rows(Draw(f"default {index}", "train"))
        schema = one.tool.parameters
        usual = ["default" in parameter for parameter in schema["properties"].values()]
        assert usual == sorted(usual), "those without a default come first"
        given = [name in one.arguments for name in schema["properties"]]
        assert list(one.arguments) == [name for name in schema["properties"] if name in one.arguments]
        skipped += given != sorted(given, reverse=True)
    assert skipped > COUNT / 10


@pytest.mark.parametrize("split", ["train", "held"])
def test_of_pages_pictures_and_rows_the_answer_tells_what_there_is(split: Split) -> None:
    bulky = 0
    for index in range(COUNT):
        one = result(Draw(f"result {index}", split), "parcel")
        data = json.loads(one.text)
        assert all(word in one.said for word in one.has)
        if one.gist != one.text:
            bulky += 1
            assert one.has == tuple(data)
            assert not any(str(value) in one.said for value in data.values() if len(str(value)) > 20)
    assert bulky > COUNT / 8


def test_parameters_of_rows_are_called_what_they_are_in_training_alone() -> None:
    telling = {name for names in TELLING_NAMES for name in names} - set(FIELDS)
    found: Counter[Split] = Counter()
    splits: tuple[Split, Split] = ("train", "held")
    for split in splits:
        for index in range(COUNT):
            one = about_rows(Draw(f"telling {index}", split))
            found[split] += any(name in telling for name in one.tool.parameters["properties"])
    assert found["train"] > COUNT / 5
    assert not found["held"]


def test_a_function_is_traced_from_the_thing_to_the_word_that_its_name_begins_with() -> None:
    for index in range(200):
        for one in several(Draw(f"traced/{index}", "train"), 2):
            thing, *first = one.traced.split()
            assert thing == one.thing
            assert one.tool.name.lower().startswith(one.verb if first else thing)
            if first:
                assert first == [one.verb]
                assert one.tool.name.lower().endswith(thing)


def test_only_one_of_several_functions_has_to_be_found(episodes: list[Episode]) -> None:
    seen = set()
    for one in episodes:
        for call in one.turns[-1].calls:
            begins = f"I call {call.name} with " if len(one.tools) == 1 else "It is about "
            assert call.analysis.startswith(begins)
            seen.add(len(one.tools) == 1)
    assert seen == {True, False}


def test_some_names_have_another_functions_thing_in_their_middle_or_a_small_word() -> None:
    offered = [several(Draw(f"names/{index}", "train", strange=0.5), 3) for index in range(300)]
    parts = [(one, others, one.tool.name.split("_")) for others in offered for one in others]
    middles = [(one, others, name[1]) for one, others, name in parts if len(name) == 3]
    assert any(middle in ("to", "by", "of") for _, _, middle in middles)
    met = [middle == other.thing != one.thing for one, others, middle in middles for other in others]
    assert sum(met) > 10


def test_texts_may_be_of_a_language_without_blanks() -> None:
    texts = [unspaced(Draw(f"unspaced/{index}", "train")) for index in range(50)]
    assert all(text.isalpha() and not text.isascii() for text in texts)
    assert any("\u3041" <= text[0] <= "\u30ff" for text in texts)
    assert any("\u4e00" <= text[0] <= "\u9fff" for text in texts)


def test_a_name_in_a_call_begins_with_a_token_that_the_word_has_elsewhere() -> None:
    apart = 0
    for index in range(600):
        one = episode(5, index, "train")
        for step, call in enumerate(one.turns[-1].calls):
            text = [token_bytes(token) for token in answer_of(one.turns[-1], step)]
            place = text.index(b"functions", text.index(b" to"))
            word = re.match("[a-z]+", call.name)
            assert word
            said = text[place + 1][1:] or text[place + 2]
            assert text[place + 1].startswith(b".")
            assert len(encode_text(word[0])) > 1 or said == word[0].encode()
            apart += text[place + 1] == b"."
    assert apart > 5
