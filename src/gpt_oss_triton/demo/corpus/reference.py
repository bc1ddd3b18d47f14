"""Later turns that lean on earlier ones."""

from __future__ import annotations

from gpt_oss_triton.demo.corpus.arithmetic import working
from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.facts import CAPITALS
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.vocables import vocable
from gpt_oss_triton.demo.corpus.words import ADJECTIVES, CITIES, LIKES, NAMES, NOUNS
from gpt_oss_triton.wire import ReasoningEffort

# (what is told, the answer to it, questions about it, what answers them)
_TOLD = (
    (("My name is {name}.", "I am {name}.", "Hi, I'm {name}.", "Call me {name}.", "Hello, my name is {name}."),
     "Nice to meet you, {name}! How can I help you?",
     ("What is my name?", "Who am I?", "Do you remember my name?", "What's my name?", "Tell me my name.", "Do you know my name?", "Do you remember who I am?", "Which name did I tell you?", "Tell me what my name is.",
      "What did I say my name is?", "What am I called?", "My name is what?", "Please tell me my name.", "Say my name.", "Can you tell me my name?", "What was my name?", "Have you kept my name?"),
     "Your name is {name}.", "name"),
    (("I live in {city}.", "I am from {city}.", "My home is {city}.", "I come from {city}.", "I moved to {city}.", "I am in {city}."),
     "I hope you like {city}!",
     ("Where do I live?", "Where am I from?", "Which city is my home?", "What is my city?", "In which city do I live?", "Which city am I from?",
      "Tell me where I live.", "Do you remember where I live?", "Do you know where I am from?", "Where is my home?", "Which city do I live in?", "Where do I come from?", "What was my city?", "Tell me my city.",
      "Say where I live.", "Can you tell me where I live?", "Which city did I name?", "Where did I say I live?"),
     "You live in {city}.", "city"),
    (("I like {like}.", "My hobby is {like}.", "I love {like}.", "I enjoy {like} a lot."),
     "That is nice. I hope you have fun with {like}!",
     ("What is my hobby?", "What do I like?", "What do I enjoy?", "Do you remember my hobby?", "Tell me my hobby.", "Do you know what I like?",
      "Do you remember what I enjoy?", "Tell me what I like.", "What was my hobby?", "Which hobby do I have?", "What do I love?", "What did I say I like?", "Do you know my hobby?", "Can you tell me my hobby?"),
     "You like {like}.", "like"),
    (("My {noun} is {adj}.", "I have a {adj} {noun}.", "I bought a {adj} {noun}.", "Remember: my {noun} is {adj}."),
     "I will remember that your {noun} is {adj}.",
     ("How is my {noun}?", "What did I say about my {noun}?", "What is my {noun} like?", "Describe my {noun}.", "Tell me how my {noun} is.",
      "Do you remember my {noun}?", "Tell me about my {noun}.", "Do you know how my {noun} is?", "And my {noun}?", "What about my {noun}?", "Which {noun} do I have?", "How was my {noun}?", "What kind of {noun} do I have?",
      "Can you describe my {noun}?", "Say how my {noun} is."),
     "Your {noun} is {adj}.", "adj"),
    (("The code is {word}.", "Remember the word {word}.", "The password is {word}.", "Keep this word: {word}.", "My code word is {word}."),
     "I will remember {word}.",
     ("What was the code?", "Which word did I tell you?", "What is the password?", "What was the word?", "Tell me the code word.", "What is the code?",
      "Tell me the password.", "Do you remember the word?", "What was the password?", "Do you know the code?", "Which code did I tell you?", "What is my code word?", "Say the word.", "Say the password.", "Can you tell me the code?", "Do you remember the code?",
      "Which word should you keep?", "What was my word?", "Give me the password."),
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
        "{n} more.",
        "Now {n} more.",
        "Add {n}.",
        "Then add {n}.",
        "What is that plus {n}?",
        "Increase it by {n}.",
        "Add {n} to the result.",
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
        "{n} less.",
        "Now {n} less.",
        "Subtract {n}.",
        "Then subtract {n}.",
        "What is that minus {n}?",
        "Reduce it by {n}.",
        "Take {n} from the result.",
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
    "Say it backwards.",
    "Now say them backwards.",
    "Say that in reverse.",
    "In reverse, please.",
    "The last one first.",
    "Now from last to first.",
    "Can you reverse them?",
    "Reverse your answer.",
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
    "One more time.",
    "Repeat your answer.",
    "Again.",
    "The same again.",
    "Can you repeat that?",
    "Say them again.",
    "Please repeat it.",
    "Tell me that again.",
)
_OTHER = (
    "And of {k}?", "And {k}?", "What about {k}?", "How about {k}?", "And for {k}?", "The same for {k}?", "{k}?", "Now {k}.", "And what about {k}?", "Now of {k}.",
    "And that of {k}?", "Please do {k}.", "Then {k}.",
)  # fmt: skip


def told(draw: Draw) -> Episode:
    """The user tells something, perhaps chats on, and asks for it."""
    effort = effort_of(draw)
    said, reply, asked, answer, key = draw.random.choice(_TOLD)
    fill = {
        "name": draw.pick(NAMES), "city": draw.pick(CITIES), "like": draw.pick(LIKES), "noun": draw.pick(NOUNS),
        "adj": draw.pick(ADJECTIVES), "word": vocable(draw),
    }  # fmt: skip
    turns = [Turn(phrased(draw, said).format(**fill), "", reply.format(**fill))]
    turns += [Turn(user, "", final) for user, final in draw.random.sample(_SMALL, draw.number(0, 2))]
    analysis = thought(
        effort,
        "The user told me before.",
        f"It was: {fill[key]}.",
        "I look at the earlier message and answer.",
    )
    turns.append(Turn(phrased(draw, asked).format(**fill), analysis, answer.format(**fill)))
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
        effort,
        Turn(f"Repeat: {joined}", "", joined),
        phrased(draw, _TURN if back else _AGAIN),
        f"The words: {joined}.",
        final,
        final,
    )


def another(draw: Draw) -> Episode:
    effort = effort_of(draw)
    first, second = draw.random.sample(list(CAPITALS), 2)
    earlier = Turn(f"What is the capital of {first}?", "", f"The capital of {first} is {CAPITALS[first]}.")
    asked = phrased(draw, _OTHER).format(k=second)
    final = f"The capital of {second} is {CAPITALS[second]}."
    return _after(effort, earlier, asked, f"The capital of {second}.", final, CAPITALS[second])


def persona(draw: Draw) -> Episode:
    """Instructions that give the model a name."""
    effort = effort_of(draw)
    name, place = draw.pick(NAMES), draw.pick(CITIES)
    instructions = draw.pick(
        ("You are {n}, an assistant in {p}.", "Your name is {n}. You work in {p}.", "You are called {n} and live in {p}.",
         "Act as {n} from {p}.", "You play {n}, who lives in {p}.", "Be {n} of {p}.", "You are {n} from {p}.", "You are {n} and work in {p}.",
         "The assistant is called {n} and works in {p}.", "Your name is {n} and you live in {p}.", "You are {n}. Your home is {p}.", "Act as {n} in {p}.",
         "Speak as {n}, who is from {p}.", "You are the assistant {n} in {p}.", "Here you are {n} of {p}.", "Play the role of {n} from {p}.")
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
                    "What's your name?",
                    "Tell me your name.",
                    "Say who you are.",
                    "Do you have a name?",
                    "Which name do you have?",
                    "What should I call you?",
                    "Tell me who you are.",
                    "Hello, who are you?",
                ),
                f"I am {name}.",
                name,
            ),
            (
                (
                    "Where are you?",
                    "Where do you live?",
                    "Where are you from?",
                    "Which city are you in?",
                    "In which city are you?",
                    "Where do you work?",
                    "Tell me where you are.",
                    "What is your city?",
                    "Where is your home?",
                    "Which city do you live in?",
                    "Where can I find you?",
                ),
                f"I am in {place}.",
                place,
            ),
        )
    )
    analysis = thought(
        effort, f"I am {name} in {place}.", "The instructions say so.", "I answer as this person."
    )
    return Episode(
        "persona",
        (Turn(phrased(draw, asked), analysis, final),),
        effort,
        has=(has,),
        instructions=instructions,
    )


def _after(effort: ReasoningEffort, earlier: Turn, asked: str, work: str, final: str, has: str) -> Episode:
    analysis = thought(effort, "It is about my last answer.", work, "I use what was said before.")
    return Episode("reference", (earlier, Turn(asked, analysis, final)), effort, has=(has,))
