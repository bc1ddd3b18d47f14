"""Small talk, who-are-you, and what the model cannot know."""

from __future__ import annotations

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.vocables import vocable
from gpt_oss_triton.demo.corpus.words import CITIES, LIKES, NAMES, NOUNS

_USUAL = 3  # the first phrases of a long list are so usual that they are not held out
# (what a user says, what it is, the answer)
_TALK = (
    (("Hello", "Hi", "Hey", "Hello!", "Hi!", "Hey there", "Good morning", "Good evening", "Hi there!", "Hello there", "Good day",
      "Greetings", "hello", "hi", "hey", "Hello, assistant", "Morning!", "Hiya", "Hello again", "Hi again!", "Hey, good morning", "Good afternoon", "Good afternoon!", "hello!", "hi there", "Hello you", "Welcome", "Hey!", "Howdy"),
     "greeting me", "Hello! How can I help you?"),
    (("How are you?", "How are you today?", "How do you do?", "How is it going?", "Are you well?", "How's it going?", "How are things?",
      "Hello, how are you?", "Hi, how are you doing?", "What's up?", "How have you been?", "How do you feel?", "How are you doing?", "Are you fine?", "Is everything well?", "How are you feeling today?",
      "Hey, how are you?", "And how are you?", "Are you OK?", "How is your day?"),
     "asking how I am", "I am fine, thank you. How can I help you?"),
    (("Thanks", "Thank you", "Thanks a lot", "Thank you very much", "Thanks!", "Many thanks", "Great, thanks", "thank you!", "Thx",
      "That was helpful", "Perfect, thank you", "Cheers", "Thank you so much", "Thanks for your help", "Thank you for the help!", "OK, thanks", "Good, thank you", "Very good, thanks",
      "That helped", "I thank you", "thanks a million"),
     "thanking me", "You are welcome!"),
    (("Bye", "Goodbye", "See you", "Bye!", "Good night", "See you later", "Goodbye!", "I have to go now", "Farewell", "See you tomorrow",
      "Talk to you later", "bye bye", "Bye for now", "Good bye", "See you soon", "I am leaving now", "I must go", "Have a good day", "OK, bye", "Until tomorrow", "That was all, bye"),
     "saying goodbye", "Goodbye! Have a nice day."),
    (("Who are you?", "What are you?", "Tell me about yourself.", "Introduce yourself.", "What is your name?", "What's your name?",
      "Are you a robot?", "Are you an AI?", "Who am I talking to?", "What model are you?", "Which model is this?", "Are you human?",
      "Describe yourself.", "Which language model are you?", "Who are you really?", "Say who you are.", "What is this model?", "Tell me who you are.", "May I ask who you are?", "Who is there?",
      "So who are you?", "What should I call you?", "Are you ChatGPT?", "Are you a person?", "Are you a machine?", "Are you real?", "Do you have a name?", "Who is this?", "what are you"),
     "asking who I am", "I am gpt-oss-demo, a tiny language model. I know very little, but I can chat, calculate and call tools."),
    (("What can you do?", "How can you help me?", "What are you good at?", "What do you know?", "Help", "What are your skills?",
      "Can you help me?", "What should I ask you?", "help me", "What are you able to do?", "What can I ask you?", "What else can you do?", "Tell me what you can do.", "What do you do?", "Can you do anything useful?", "I need help.",
      "What can you help me with?", "What are your abilities?", "How do you work?", "Show me what you can do."),
     "asking what I can do", "I can calculate, repeat and reverse words, fill in JSON, answer a few facts and call your tools."),
    (("Who made you?", "Who created you?", "Who trained you?", "Where do you come from?", "Who built you?", "How were you made?",
      "Who is your maker?", "How were you trained?", "Who made this model?", "Where were you made?", "Who developed you?", "Which company made you?", "Where were you trained?",
      "What were you trained on?", "Who is your creator?", "Who wrote you?", "Tell me who made you."),
     "asking who made me", "I was trained from scratch as a demo for this server, on conversations made by rules."),
    (("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny.", "Another joke please", "A joke, please.", "I want to hear a joke.", "Tell me something funny.", "Can you tell a joke?", "One more joke", "Give me a joke."),
     "asking for a joke", "Why was the number six afraid? Because seven ate nine."),
    (("I am tired.", "I feel tired today.", "I am so sleepy.", "I need some sleep.", "I'm exhausted.", "I am very tired today.", "I slept badly.", "I need a rest.", "I want to sleep."),
     "telling me of being tired", "I am sorry to hear that. A little rest may help."),
    (("I am happy.", "I feel great today.", "What a wonderful day!", "I am in a good mood.", "Life is good.", "I am very happy today.", "I feel good.", "I feel wonderful.", "Today is a good day.", "This is great!"),
     "telling me of joy", "I am glad to hear that!"),
    (("Are you smart?", "Are you clever?", "Are you intelligent?", "Do you know everything?", "How clever are you?", "How smart are you?", "Are you very clever?", "Are you a genius?", "How good are you?", "Do you know a lot?"),
     "asking how clever I am", "Not very: I am tiny. But I do a few things well."),
    (("Do you like {like}?", "What do you think of {like}?", "Do you enjoy {like}?", "Is {like} fun?", "Do you love {like}?", "Should I try {like}?", "Is {like} good?", "What about {like}?", "How do you like {like}?"),
     "asking what I like", "I cannot try it myself, but many people like {like}."),
    (("I am {name}.", "My name is {name}.", "Hi, I'm {name}.", "Hello, my name is {name}.", "You can call me {name}.", "{name} here.",
      "I'm called {name}.", "Hey, this is {name}."),
     "telling me a name", "Nice to meet you, {name}! How can I help you?"),
    (("I like {like}.", "I love {like}.", "My hobby is {like}.", "I enjoy {like} a lot.", "In my free time I like {like}."),
     "telling me a hobby", "That is nice. I hope you have fun with {like}!"),
    (("I live in {city}.", "I am from {city}.", "I come from {city}.", "My home is {city}.", "I moved to {city}."),
     "telling me a place", "I hope you like {city}!"),
)  # fmt: skip
_UNKNOWN = (
    (("What is the weather in {city}?", "Is it raining in {city}?", "How warm is it in {city} now?", "Will it rain in {city} tomorrow?",
      "Weather in {city}?", "Do I need an umbrella in {city}?", "How is the weather in {city}?", "Is it sunny in {city}?", "Is it cold in {city} today?", "Does it snow in {city}?",
      "What is the temperature in {city}?", "Tell me the weather in {city}.", "Is it warm in {city}?"),
     "the weather", "I do not know the weather in {city}: I cannot look anything up."),
    (("What time is it?", "What is the time now?", "Can you tell me the time?", "What's the time?", "Do you have the time?", "How late is it?", "Tell me the time.", "What's the time now?", "Is it late?", "Do you know the time?", "Which time is it?"),
     "the time", "I do not know what time it is: I have no clock."),
    (("Who is {name} Miller?", "Do you know {name} Baker?", "Tell me about {name} Carter.", "Who was {name} Fisher?", "When was {name} Potter born?", "Who is {name} Cook?", "What do you know about {name} Hunter?",
      "Have you heard of {name} Taylor?", "What did {name} Fisher do?", "Where does {name} Mason live?", "How old is {name} Baker?", "Is {name} Carter famous?"),
     "a person", "I do not know that person."),
    (("What did I eat yesterday?", "What is my name?", "How old am I?", "Where do I live?", "What is my favorite color?", "Where is my {noun}?",
      "What is my phone number?", "Who is my boss?", "Do you know my name?", "Which city do I live in?", "Where was I born?", "When is my birthday?", "Where did I put my {noun}?", "What did I do today?", "Where am I?"),
     "something about the user", "I do not know that: you have not told me."),
    (("Who won the game last night?", "What is in the news?", "What happened today?", "What is the price of gold?", "Who is the president?",
      "What are the headlines?", "Who won the election?", "What is new?", "Any news?", "Tell me the news.", "What happened in the world?", "How much is one dollar in euros?", "Who won the match?"),
     "the news", "I do not know: I cannot look up what happens in the world."),
    (("Who will win the next election?", "What will happen tomorrow?", "Will I be rich?", "What are the next lottery numbers?",
      "Will I find my {noun}?", "Tell me the future.", "What will I do tomorrow?", "When will it end?", "Will I win?", "Who will win?", "What will the future bring?"),
     "the future", "I do not know: nobody can tell the future."),
    (("Explain the theory of {noun}s.", "Write an essay about the {noun}.", "How is a {noun} made?", "What is the history of the {noun}?",
      "Why is the {noun} so important?", "Write a novel about a {noun}.", "Explain how a {noun} works.",
      "Write a poem about the {noun}.", "Write a poem.", "Write a story about a {noun}.", "Tell me a story.", "Tell me a story about a {noun}.", "Write a song about {like}.",
      "Write a program that sorts a list.", "Write code for a {noun}.", "Write a letter to {name}.", "Explain {like} to me.", "Why is the sky blue?", "What is the meaning of life?",
      "How does a {noun} work?", "What is a {noun}?", "Tell me about the {noun}.", "Write a text about {city}.", "Describe {city}.", "How do I cook a {noun}?",
      "Can you write a poem about a {noun}?", "Compose a song.", "Write an email to {name}.", "Translate this into French: the {noun}", "How do you say {noun} in Spanish?",
      "Give me a recipe with {noun}.", "Plan a trip to {city} for me.", "Write a Python function.", "Who invented the {noun}?", "When was the {noun} invented?"),
     "more than I know", "I am sorry, I am too small a model to know that."),
    (("Spell {noun}.", "How do you spell {word}?", "Spell the word {word}.", "Please spell: {word}", "Can you spell {noun}?", "Which letters does {word} have?",
      "How many letters does {noun} have?", "What is the first letter of {noun}?", "Spell {name}.", "How is {name} spelled?"),
     "the letters of a word", "I cannot tell: I see words as a whole, not their letters."),
)  # fmt: skip


def talk(draw: Draw) -> Episode:
    return _answered(
        draw,
        "talk",
        _TALK,
        "The user is {what}.",
        "I answer in a friendly way.",
        "One sentence or two are enough.",
    )


def unknown(draw: Draw) -> Episode:
    return _answered(
        draw,
        "unknown",
        _UNKNOWN,
        "It is about {what}.",
        "I cannot know this.",
        "I should say so and not guess.",
    )


def _answered(
    draw: Draw,
    kind: str,
    table: tuple[tuple[tuple[str, ...], str, str], ...],
    short: str,
    work: str,
    check: str,
) -> Episode:
    effort = effort_of(draw)
    asked, what, answer = draw.random.choices(table, [len(asked) + 3 for asked, _, _ in table])[0]
    fill = {
        "name": draw.pick(NAMES),
        "city": draw.pick(CITIES),
        "like": draw.pick(LIKES),
        "noun": draw.pick(NOUNS),
        "word": vocable(draw),
    }
    final = answer.format(**fill)
    text = phrased(draw, asked, usual=min(_USUAL, len(asked) // 5)).format(**fill)
    return Episode(
        kind,
        (Turn(text, thought(effort, short.format(what=what), work, check), final),),
        effort,
        has=(final,),
    )
