"""Writes conversations for the starter model from facts.txt and skills.py. No text from elsewhere goes in.

    python corpus.py --count 45000 --seed 1 --out corpus.jsonl --questions questions.jsonl

Each line is a conversation as `pasture tune` and `pasture data` read it. The questions are held out: phrasings marked
"-" in facts.txt and one in twelve of the others, which are in no conversation; their form is that of `pasture eval`.
"""

import argparse
import hashlib
import json
import random as randomness
from pathlib import Path

import skills

ABOUT = [
    "what is {t}", "what is {t}", "what's {t}", "what are {t}", "what does {t} mean", "explain {t}", "explain {t} to me",
    "tell me about {t}", "define {t}", "can you explain {t}", "do you know what {t} is", "do you know {t}", "{t}",
    "what do you know about {t}", "what is meant by {t}", "what is the meaning of {t}", "describe {t}",
    "i do not understand {t}", "what exactly is {t}", "give me a definition of {t}", "tell me what {t} is",
    "have you heard of {t}", "{t} meaning", "what is {t} for", "how does {t} work", "i want to know what {t} is",
    "tell me something about {t}", "what do people mean by {t}", "what is {t} good for", "why do i need {t}",
]
ABOUT_COMMAND = [
    "what does {t} do", "how do i use {t}", "when do i use {t}", "how does {t} work", "show me how to use {t}",
    "an example of {t}", "what can i do with {t}", "help for {t}",
]
UPPER = "nf4 gguf lora llm llms gqa rope moe gpu cpu json api kv f16 bf16 f32 q8_0 q4_k q6_k dbrx ai mxfp4".split()
PROPER = "pasture rust cargo llama gemma mistral mixtral phi arctic qwen olmo granite ollama python i".split()
BEFORE = ["please ", "hey, ", "can you tell me ", "i would like to know, ", "so, ", "and ", "now ", "well, ", "ok, ", "then ", "hi, ", "hello, "]
AFTER = [" please", " then", " for me", " again", " exactly", " here", " now"]
MORE = ["tell me more", "more", "go on", "and what else", "more please", "can you say more", "more about that", "what else", "anything else", "another one", "one more"]
ASK_NAME = ["what is my name", "do you know my name", "what's my name", "do you remember my name", "who am i", "tell me my name"]
GIVE_NAME = ["my name is {n}", "i am {n}", "i'm {n}", "hi, i am {n}", "hello, my name is {n}", "call me {n}", "you can call me {n}", "hello, i'm {n}"]
SYSTEMS = ["You are a helpful assistant.", "Be kind.", "Answer the questions of the user.", "You are a small, friendly model.",
           "You are a helpful AI assistant.", "Help the user.", "Answer shortly.", "You are the starter model of Pasture."]
PIRATE = ["You are a pirate.", "Talk like a pirate.", "Answer like a pirate.", "You are a pirate captain."]
ASKING = "what who which how why when where is are do does did can may what's will should in with".split()
NAMED = ["Your name is {n}.", "You are {n}.", "You are an assistant called {n}.", "Your name is {n}. Be kind."]
WHO = {"what is your name", "who are you", "what's your name", "what are you", "your name", "tell me your name", "do you have a name"}


def read_facts(path):
    facts, names = [], []
    for line in path.read_text().splitlines():
        mark, text = line[:1], line[2:].strip()
        if mark in "=?" and mark:
            facts.append({"kind": mark, "asks": [t.strip() for t in text.split("|")], "answer": None, "more": None, "held": []})
        elif mark == "!":
            facts[-1]["answer"] = text
        elif mark == "+":
            facts[-1]["more"] = text
        elif mark == "-":
            facts[-1]["held"] = [t.strip() for t in text.split("|")]
    assert all(f["answer"] for f in facts)
    # One phrasing may ask for several things; then none of its answers is the right one.
    known = [ask for fact in facts for ask in fact["asks"]]
    for fact in facts:
        for ask in [ask for ask in fact["asks"][3:] if fact["kind"] == "?" and known.count(ask) == 1 and held_out(ask)]:
            fact["asks"].remove(ask)
            fact["held"].append(ask)
        assert not set(fact["held"]) & set(known) - set(fact["held"]), fact["held"]
    return facts


def held_out(ask):
    """One in twelve, the same whatever else stands in the file."""
    return hashlib.sha256(ask.encode()).digest()[0] % 12 == 0


def question(ask):
    words = [w.upper() if w in UPPER else w.capitalize() if w in PROPER else w for w in ask.split(" ")]
    ask = " ".join(words)
    return ask[0].upper() + ask[1:] + ("?" if words[0].lower() in ASKING else ".")


def write_questions(facts, path):
    with path.open("w") as out:
        settings = {"name": "starter", "scorers": ["exact", "f1"], "delimiter": "", "max_tokens": 96}
        out.write(json.dumps({"task": settings}) + "\n")
        for fact in facts:
            for ask in fact["held"]:
                # Tasks are plain texts to go on with, so the template's marks are written out.
                prompt = f"<|im_start|>user\n{question(ask)}<|im_end|>\n<|im_start|>assistant\n"
                out.write(json.dumps({"prompt": prompt, "answer": fact["answer"]}) + "\n")


def ask_fact(random, fact, held=()):
    while True:
        ask = phrased(random, fact)
        if ask not in held:
            return ask


def phrased(random, fact):
    ask = random.choice(fact["asks"])
    if fact["kind"] == "=":
        command = fact["answer"].startswith("The command")
        shape = random.choice(ABOUT_COMMAND if command and random.random() < 0.5 else ABOUT)
        return shape.format(t=ask)
    return said_otherwise(random, ask)


def difference(random, topics):
    a, b = random.sample(topics, 2)
    shape = random.choice(["what is the difference between {a} and {b}", "difference between {a} and {b}", "compare {a} and {b}", "{a} or {b}", "what are {a} and {b}", "{a} versus {b}"])
    first = lambda f: f["answer"].split(". ")[0].rstrip(".") + "."
    return shape.format(a=random.choice(a["asks"]), b=random.choice(b["asks"])), first(a) + " " + first(b)


# Ways to say the same; applied to the questions of facts.txt, so that words are learned as well as sentences.
SAME = [
    ("how do i ", ["how can i ", "how to ", "how could i ", "is there a way to ", "what do i type to ", "i want to ", "tell me how to ",
                   "please show me how to ", "how does one ", "i would like to ", "what is the command to ", "can i "]),
    ("what is ", ["what's ", "whats ", "what is "]),
    ("can you ", ["could you ", "would you ", "are you able to "]),
    ("tell me ", ["give me ", "i want ", "please tell me "]),
    (" my ", [" a ", " the ", " this "]),
    (" a model", [" the model", " my model", " models", " an open model"]),
    (" see ", [" view ", " find ", " look at ", " get ", " show "]),
    ("does pasture ", ["can pasture ", "will pasture ", "does it "]),
]


def said_otherwise(random, ask):
    for this, others in SAME:
        if this in ask and random.random() < 0.3:
            ask = ask.replace(this, random.choice(others), 1)
    return ask


def typo(random, text):
    if len(text) < 6:
        return text
    i = random.randrange(1, len(text) - 2)
    kind = random.randrange(4)
    if kind == 0:
        return text[:i] + text[i + 1 :]
    if kind == 1:
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if kind == 2:
        return text[:i] + text[i] + text[i:]
    return text[:i] + random.choice("abcdefghijklmnopqrstuvwxyz") + text[i + 1 :]


def typed(random, ask):
    """As people type: some capitals, some marks, some typos, some politeness."""
    words = ask.split(" ")
    neat = random.random() < 0.6
    if neat:
        words = [w.upper() if w in UPPER else w.capitalize() if w in PROPER else w for w in words]
    ask = " ".join(words)
    if random.random() < 0.14:
        ask = random.choice(BEFORE) + ask
    if random.random() < 0.06:
        ask += random.choice(AFTER)
    if random.random() < 0.08:
        ask = typo(random, ask)
    if neat or random.random() < 0.25:
        ask = ask[0].upper() + ask[1:]
    elif random.random() < 0.7:
        ask = ask.lower()
    asks = ask.lower().split(" ")[0].rstrip(",") in ASKING
    mark = random.random()
    if asks:
        ask += "?" if mark < 0.7 else "" if mark < 0.95 else "??" if mark < 0.97 else "."
    else:
        ask += "" if mark < 0.55 else "." if mark < 0.8 else "!" if mark < 0.9 else "?"
    if random.random() < 0.015:
        ask = ask.upper()
    return ask


def turn(random, facts, topics):
    """One question and its answer; facts first, as they are what the model is for."""
    kind = random.random()
    if kind < 0.54:
        fact = random.choice(facts)
        return ask_fact(random, fact, {ask for fact in facts for ask in fact["held"]}), fact["answer"], fact
    if kind < 0.575:
        return *difference(random, topics), None
    return *skills.skill(random), None


def conversation(random, facts, topics):
    rounds = random.choices([1, 2, 3, 4, 6, 9, 14], [20, 22, 20, 14, 10, 5, 2])[0]
    talk, name, own = [], None, None
    pirate = False
    style = random.random()
    if style < 0.14:
        talk.append(("system", random.choice(SYSTEMS)))
    elif style < 0.18:
        talk.append(("system", random.choice(PIRATE)))
        pirate = True
    elif style < 0.23:
        own = skills.any_name(random)
        talk.append(("system", random.choice(NAMED).format(n=own)))
    greeting = next(f for f in facts if "hello" in f["asks"])
    for i in range(rounds):
        pick = random.random()
        fact = None
        if i == 0 and pick < 0.15:
            ask, answer = ask_fact(random, greeting), greeting["answer"]
        elif own and pick < 0.45:
            ask = random.choice(sorted(WHO))
            answer = f"My name is {own}."
        elif pick < 0.07:
            name = skills.any_name(random)
            ask, answer = random.choice(GIVE_NAME).format(n=name), f"Nice to meet you, {name}!"
        elif pick < (0.25 if name else 0.09):
            ask = random.choice(ASK_NAME)
            answer = f"Your name is {name}." if name else "You have not told me your name."
        else:
            ask, answer, fact = turn(random, facts, topics)
            while own and ask in WHO:
                ask, answer, fact = turn(random, facts, topics)
        # A name is only heard when it is spelled right, so turns that give one have no typos.
        shown = typed(random, ask)
        if (name and name.lower() in ask.lower()) or own:
            shown = ask[0].upper() + ask[1:] + random.choice(["", ".", "!", "?"])
        talk += [("user", shown), ("assistant", "Arr! " + answer if pirate else answer)]
        if fact and random.random() < (0.3 if fact["more"] else 0.03):
            more = fact["more"] or "I am sorry, I do not know more than that."
            talk += [("user", typed(random, random.choice(MORE))), ("assistant", "Arr! " + more if pirate else more)]
    if random.random() < 0.12:
        closing = random.choice([f for f in facts if "thanks" in f["asks"] or "goodbye" in f["asks"]])
        talk += [("user", typed(random, ask_fact(random, closing))), ("assistant", ("Arr! " if pirate else "") + closing["answer"])]
    return talk


def main():
    here = Path(__file__).parent
    options = argparse.ArgumentParser()
    options.add_argument("--count", type=int, default=45000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--questions", type=Path)
    options = options.parse_args()
    random = randomness.Random(options.seed)
    facts = read_facts(here / "facts.txt")
    topics = [f for f in facts if f["kind"] == "=" and not f["answer"].startswith("The command")]
    with options.out.open("w") as out:
        for _ in range(options.count):
            turns = [{"role": role, "content": text} for role, text in conversation(random, facts, topics)]
            out.write(json.dumps({"messages": turns}) + "\n")
    if options.questions:
        write_questions(facts, options.questions)


if __name__ == "__main__":
    main()
