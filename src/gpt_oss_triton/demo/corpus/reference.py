"""Later turns that lean on earlier ones."""

from __future__ import annotations

from gpt_oss_triton.demo.corpus.arithmetic import working
from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.facts import CAPITALS
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.vocables import vocable
from gpt_oss_triton.demo.corpus.words import ADJECTIVES, CITIES, LIKES, NAMES, NOUNS
from gpt_oss_triton.wire import ReasoningEffort

# (what is told, the answer to it, questions about it, what answers them)
_TOLD = (
    (("My name is {name}.", "I am {name}.", "Hi, I'm {name}.", "Call me {name}.", "Hello, my name is {name}."),
     "Nice to meet you, {name}! How can I help you?",
     ("What is my name?", "Who am I?", "Do you remember my name?", "What's my name?", "Tell me my name.", "Do you know my name?", "Do you remember who I am?", "Which name did I tell you?", "Tell me what my name is.",
      "What did I say my name is?"),
     "Your name is {name}.", "name"),
    (("I live in {city}.", "I am from {city}.", "My home is {city}.", "I come from {city}.", "I moved to {city}.", "I am in {city}."),
     "I hope you like {city}!",
     ("Where do I live?", "Where am I from?", "Which city is my home?", "What is my city?", "In which city do I live?", "Which city am I from?",
      "Tell me where I live.", "Do you remember where I live?", "Do you know where I am from?", "Where is my home?"),
     "You live in {city}.", "city"),
    (("I like {like}.", "My hobby is {like}.", "I love {like}.", "I enjoy {like} a lot."),
     "That is nice. I hope you have fun with {like}!",
     ("What is my hobby?", "What do I like?", "What do I enjoy?", "Do you remember my hobby?", "Tell me my hobby.", "Do you know what I like?",
      "Do you remember what I enjoy?", "Tell me what I like."),
     "You like {like}.", "like"),
    (("My {noun} is {adj}.", "I have a {adj} {noun}.", "I bought a {adj} {noun}.", "Remember: my {noun} is {adj}."),
     "I will remember that your {noun} is {adj}.",
     ("How is my {noun}?", "What did I say about my {noun}?", "What is my {noun} like?", "Describe my {noun}.", "Tell me how my {noun} is.",
      "Do you remember my {noun}?", "Tell me about my {noun}.", "Do you know how my {noun} is?"),
     "Your {noun} is {adj}.", "adj"),
    (("The code is {word}.", "Remember the word {word}.", "The password is {word}.", "Keep this word: {word}.", "My code word is {word}."),
     "I will remember {word}.",
     ("What was the code?", "Which word did I tell you?", "What is the password?", "What was the word?", "Tell me the code word.", "What is the code?",
      "Tell me the password.", "Do you remember the word?", "What was the password?", "Do you know the code?", "Which code did I tell you?"),
     "It is {word}.", "word"),
)  # fmt: skip
_SMALL = (
    ("Thanks", "You are welcome!"),
    ("Hello", "Hello! How can I help you?"),
    ("How are you?", "I am fine, thank you. How can I help you?"),
    ("What is 2 + 2?", "2 + 2 = 4."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
)
_MORE = {
    "+": (
        "Now add {n}.",
        "Add {n} to that.",
        "And plus {n}?",
        "Plus {n}",
        "And {n} more?",
        "Add another {n}.",
        "Now plus {n}.",
        "Please add {n}.",
        "And add {n} more.",
        "What if you add {n}?",
    ),
    "-": (
        "Now subtract {n}.",
        "Take {n} away from that.",
        "And minus {n}?",
        "Minus {n}",
        "And {n} less?",
        "What if you subtract {n}?",
        "Subtract {n} from that.",
        "Now minus {n}.",
        "Please subtract {n}.",
        "Now take {n} away.",
    ),
}
_TURN = (
    "Now reverse them.",
    "And backwards?",
    "Reverse that.",
    "Now in reverse order.",
    "The same, but backwards.",
    "Turn the order around.",
    "Now turn them around.",
    "Backwards, please.",
    "Please reverse the order.",
    "And now backwards.",
    "Reverse the order.",
)
_AGAIN = (
    "Once more.",
    "Again, please.",
    "Repeat that.",
    "Say it again.",
    "And once again.",
    "Please say that again.",
    "Once again, please.",
    "Please repeat that.",
    "Say that once more.",
    "Repeat it again.",
)
_OTHER = ("And of {k}?", "And {k}?", "What about {k}?", "How about {k}?", "And for {k}?", "The same for {k}?")


def told(draw: Draw) -> Episode:
    """The user tells something, perhaps chats on, and asks for it."""
    effort = effort_of(draw)
    said, reply, asked, answer, key = draw.random.choice(_TOLD)
    fill = {
        "name": draw.pick(NAMES), "city": draw.pick(CITIES), "like": draw.pick(LIKES), "noun": draw.pick(NOUNS),
        "adj": draw.pick(ADJECTIVES), "word": vocable(draw),
    }  # fmt: skip
    turns = [Turn(draw.pick(said).format(**fill), "", reply.format(**fill))]
    turns += [Turn(user, "", final) for user, final in draw.random.sample(_SMALL, draw.number(0, 2))]
    analysis = thought(
        effort,
        "The user told me before.",
        f"It was: {fill[key]}.",
        "I look at the earlier message and answer.",
    )
    turns.append(Turn(draw.pick(asked).format(**fill), analysis, answer.format(**fill)))
    return Episode("reference", tuple(turns), effort, has=(fill[key],))


def calculated_on(draw: Draw) -> Episode:
    effort = effort_of(draw)
    sign = draw.random.choice("+-")
    first, n = draw.pair((100, 800), (1, 99))
    a = draw.number(1, first - 1)
    b = first - a
    c = first + n if sign == "+" else first - n
    turns = (
        Turn(f"What is {a} + {b}?", "", f"{a} + {b} = {first}."),
        Turn(
            draw.pick(_MORE[sign]).format(n=n), working(sign, first, n, effort), f"{first} {sign} {n} = {c}."
        ),
    )
    return Episode("reference", turns, effort, has=(f"= {c}.",))


def said_again(draw: Draw) -> Episode:
    effort = effort_of(draw)
    words = [vocable(draw) for _ in range(draw.number(2, 4))]
    joined = " ".join(words)
    back = draw.chance(0.6)
    final = " ".join(reversed(words)) if back else joined
    return _after(
        draw,
        effort,
        Turn(f"Repeat: {joined}", "", joined),
        _TURN if back else _AGAIN,
        f"The words: {joined}.",
        final,
        final,
    )


def another(draw: Draw) -> Episode:
    effort = effort_of(draw)
    first, second = draw.random.sample(list(CAPITALS), 2)
    earlier = Turn(f"What is the capital of {first}?", "", f"The capital of {first} is {CAPITALS[first]}.")
    asked = tuple(text.replace("{k}", second) for text in _OTHER)
    final = f"The capital of {second} is {CAPITALS[second]}."
    return _after(draw, effort, earlier, asked, f"The capital of {second}.", final, CAPITALS[second])


def persona(draw: Draw) -> Episode:
    """Instructions that give the model a name."""
    effort = effort_of(draw)
    name, place = draw.pick(NAMES), draw.pick(CITIES)
    instructions = draw.pick(
        ("You are {n}, an assistant in {p}.", "Your name is {n}. You work in {p}.", "You are called {n} and live in {p}.",
         "Act as {n} from {p}.", "You play {n}, who lives in {p}.", "Be {n} of {p}.")
    ).format(n=name, p=place)  # fmt: skip
    asked, final, has = draw.random.choice(
        (
            (
                (
                    "Who are you?",
                    "What is your name?",
                    "Who am I talking to?",
                    "Introduce yourself.",
                    "What are you called?",
                ),
                f"I am {name}.",
                name,
            ),
            (
                ("Where are you?", "Where do you live?", "Where are you from?", "Which city are you in?"),
                f"I am in {place}.",
                place,
            ),
        )
    )
    analysis = thought(
        effort, f"I am {name} in {place}.", "The instructions say so.", "I answer as this person."
    )
    return Episode(
        "persona", (Turn(draw.pick(asked), analysis, final),), effort, has=(has,), instructions=instructions
    )


def _after(
    draw: Draw,
    effort: ReasoningEffort,
    earlier: Turn,
    asked: tuple[str, ...],
    work: str,
    final: str,
    has: str,
) -> Episode:
    analysis = thought(effort, "It is about my last answer.", work, "I use what was said before.")
    return Episode("reference", (earlier, Turn(draw.pick(asked), analysis, final)), effort, has=(has,))
