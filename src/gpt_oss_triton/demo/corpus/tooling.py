"""Choosing among functions, filling their arguments, using their results, and doing without them."""

from __future__ import annotations

from gpt_oss_triton.demo.corpus.arithmetic import arithmetic
from gpt_oss_triton.demo.corpus.draw import Draw, Split
from gpt_oss_triton.demo.corpus.episode import Call, Episode, Turn
from gpt_oss_triton.demo.corpus.facts import facts
from gpt_oss_triton.demo.corpus.fields import joined
from gpt_oss_triton.demo.corpus.functions import Wanted, about_rows, several, tools_of, vaguely
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.plain import talk
from gpt_oss_triton.demo.corpus.results import result
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.wire import ReasoningEffort, Tool

# Share of the requests about rows of data among those that offer one function. They are hard: training has more of them.
_ABOUT_ROWS: dict[Split, float] = {"train": 0.4, "held": 0.25}


def call(draw: Draw) -> Episode:
    """One call, and an answer that uses its result."""
    effort = effort_of(draw)
    count = draw.random.choice((1, 1, 2, 2, 3, 4))
    if count == 1 and draw.chance(_ABOUT_ROWS[draw.split]):
        offered = [about_rows(draw)]
        text = offered[0].text
    else:
        offered = several(draw, count)
        text = vaguely(draw, offered[0]) if count == 1 and draw.chance(0.45) else offered[0].text
    made, said, has = _call(draw, offered[0], effort, only=count == 1)
    turn = Turn(text, _about(effort, made), said, (made,))
    return Episode("call", (turn,), effort, has=has, tools=tools_of(draw, offered))


def two_calls(draw: Draw) -> Episode:
    effort = effort_of(draw)
    offered = several(draw, draw.number(2, 3))
    first, first_said, first_has = _call(draw, offered[0], effort)
    second, second_said, second_has = _call(draw, offered[1], effort)
    joint = phrased(draw, "tooling", "joint", hurried=False)
    turn = Turn(
        f"{_ended(offered[0].text)}{joint} {offered[1].text}",
        _about(effort, second),
        f"{first_said} {second_said}",
        (first, second),
    )
    return Episode("two calls", (turn,), effort, has=first_has + second_has, tools=tools_of(draw, offered))


def second_call(draw: Draw) -> Episode:
    """A call in an earlier turn, then another one, or a question about the first."""
    effort = effort_of(draw)
    offered = several(draw, draw.number(2, 3))
    first, said, has = _call(draw, offered[0], effort)
    earlier = Turn(offered[0].text, _about(effort, first), said, (first,))
    tools = tools_of(draw, offered)
    if draw.chance(0.3):
        asked = phrased(draw, "tooling", "asked_again")
        analysis = thought(
            effort, "The user asks for it again.", "I have the result.", "No function is needed."
        )
        return Episode("reference", (earlier, Turn(asked, analysis, said)), effort, has=has, tools=tools)
    if draw.chance(0.2):
        chat = talk(draw)
        return Episode("no call", (earlier, *chat.turns), chat.effort, has=chat.has, tools=tools)
    made, said, has = _call(draw, offered[1], effort)
    later = Turn(offered[1].text, _about(effort, made), said, (made,))
    return Episode("call", (earlier, later), effort, has=has, tools=tools)


def no_call(draw: Draw) -> Episode:
    """Functions are offered, and none of them is what the user wants."""
    if draw.chance(0.6):
        plain = draw.random.choice((talk, talk, facts, arithmetic))(draw)
        tools = tools_of(draw, several(draw, draw.number(1, 3)))
        return Episode("no call", plain.turns, plain.effort, has=plain.has, tools=tools)
    effort = effort_of(draw)
    missing, *others = several(draw, draw.number(3, 4))
    final = f"I am sorry, I have no function for {missing.thing}."
    analysis = thought(
        effort, f"It is about {missing.thing}. No function fits.", "I cannot do it.", "I should say so."
    )
    return Episode(
        "no call",
        (Turn(missing.text, analysis, final),),
        effort,
        has=("no function",),
        tools=tools_of(draw, others),
    )


def about_functions(draw: Draw) -> Episode:
    """What the user asks about the functions: which there are, which one is for a thing, what one takes.

    Their answers look up what a call looks up, several times over.
    """
    effort = effort_of(draw)
    offered = several(draw, draw.number(2, 4))
    tools = tools_of(draw, offered)
    style = draw.random.random()
    if style < 0.2:
        asked = phrased(draw, "tooling", "which_functions")
        short, final = (
            "The user asks for all functions.",
            f"I can call {joined([tool.name for tool in tools])}.",
        )
    elif style < 0.8:
        chosen = draw.random.sample(offered, draw.number(1, len(offered)))
        things = [one.thing for one in chosen]
        asked = phrased(draw, "tooling", "function_for").format(t=joined(things))
        short = " ".join(
            f"It is about {one.traced}: {one.tool.name} with {_parameters(one.tool)}." for one in chosen
        )
        final = " ".join(
            f"For {one.thing} I call {one.tool.name}. Arguments: {_parameters(one.tool)}." for one in chosen
        )
    else:
        tool = draw.random.choice(tools)
        asked = phrased(draw, "tooling", "arguments_of").format(f=tool.name)
        taken = _parameters(tool)
        short, final = f"The function is {tool.name} with {taken}.", f"{tool.name} takes {taken}."
    analysis = thought(effort, short, "I look at the functions.", "The user wants no call yet.")
    return Episode("about functions", (Turn(asked, analysis, final),), effort, has=(final,), tools=tools)


def _parameters(tool: Tool) -> str:
    return ", ".join((tool.parameters or {}).get("properties", {})) or "nothing"


def _call(
    draw: Draw, one: Wanted, effort: ReasoningEffort, only: bool = False
) -> tuple[Call, str, tuple[str, ...]]:
    """`only`: there is no other function, so that it need not be found by what the user speaks of."""
    analysis = thought(
        effort,
        f"{'I call' if only else f'It is about {one.traced}:'} {one.tool.name} with {one.listed}.",
        "This is all I need.",
        "No other function fits.",
    )
    given = result(draw, one.thing)
    return Call(analysis, one.tool.name, one.arguments, given.text, given.gist), given.said, given.has


def _about(effort: ReasoningEffort, made: Call) -> str:
    return thought(
        effort, "I have the result.", f"{made.name} gave {made.gist}.", "I tell the user what it says."
    )


def _ended(text: str) -> str:
    """With what tells where it ends: its sign and a blank, or the end of the line."""
    return text + (" " if text.endswith((".", "?", "!")) else "\n")
