"""Small skills whose examples are made from tables: days, numbers, opposites, names, and what is not known."""

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()
OPPOSITES = """hot cold|big small|good bad|day night|up down|left right|open closed|old young|new old|fast slow
high low|long short|light dark|black white|happy sad|rich poor|strong weak|hard soft|early late|near far|in out
full empty|wet dry|clean dirty|loud quiet|yes no|true false|begin end|first last|love hate|win lose|buy sell
push pull|day night|summer winter|north south|east west|thick thin|heavy light|easy hard|cheap expensive""".replace(
    "\n", "|"
).split("|")
COLORS = """sky blue|grass green|snow white|coal black|blood red|lemon yellow|banana yellow|tomato red|sun yellow
sea blue|milk white|chocolate brown|leaf green|rose red|night black|frog green|carrot orange|pumpkin orange
cherry red|cloud white|strawberry red|cucumber green|elephant gray|mouse gray|bear brown|salt white|pea green
wood brown|sheep white|crow black|violet violet|plum purple|fire red|pig pink|swan white""".replace("\n", "|").split("|")
MIXES = "blue yellow green|red yellow orange|red blue purple|black white gray|red white pink|green red brown".split("|")
SOUNDS = "cow moo|cat meow|dog woof|sheep baa|duck quack|pig oink|horse neigh|bird tweet|lion roar|mouse squeak".split("|")
LEGS = """cow 4|cat 4|dog 4|horse 4|bird 2|duck 2|chicken 2|spider 8|ant 6|bee 6|fly 6|fish 0|snake 0|table 4|chair 4
person 2|human 2|sheep 4|pig 4|mouse 4|lion 4|elephant 4|beetle 6|worm 0|frog 4""".replace("\n", "|").split("|")
CAPITALS = """France Paris|Germany Berlin|Italy Rome|Spain Madrid|England London|Portugal Lisbon|Austria Vienna
Poland Warsaw|Greece Athens|Russia Moscow|China Beijing|Japan Tokyo|India Delhi|Egypt Cairo|Canada Ottawa|Cuba Havana
Norway Oslo|Sweden Stockholm|Finland Helsinki|Denmark Copenhagen|Ireland Dublin|Hungary Budapest|Peru Lima|Kenya Nairobi
Turkey Ankara|Belgium Brussels|Chile Santiago|Ukraine Kyiv|Romania Bucharest|Iceland Reykjavik""".replace("\n", "|").split("|")
SIDES = "triangle 3|square 4|rectangle 4|pentagon 5|hexagon 6|octagon 8".split("|")
PLURALS = """cat cats|dog dogs|cow cows|horse horses|mouse mice|child children|man men|woman women|foot feet|tooth teeth
goose geese|box boxes|leaf leaves|sheep sheep|fish fish|house houses|book books|tree trees|city cities|baby babies""".replace(
    "\n", "|"
).split("|")
SIZES = "ant mouse cat dog sheep cow horse elephant house mountain".split()
NAMES = """Anna Tom Maria Ben Lisa Paul Emma Max Sara Leo Nina Jack Julia Sam Laura David Eva Peter Mia Alex Ella John Rosa
Oscar Clara Felix Ida Hugo Olga Ivan Yuki Chen Amir Fatima Omar Aisha Raj Priya Diego Sofia Lucas Hannah Noah Lena Finn
Marta Karl Greta Otto Frida Emil Alice Bob Carol Dan Erik Frank Grace Henry Irene James Kate Liam Mary Nora Oliver Pam
Quinn Rita Simon Tina Uma Victor Wendy Xavier Yara Zoe Adam Bella Chris Diana Eli Fay George Helen Iris Jane Kim Luke
Mark Nick Olive Pat Ralph Steve Ted Ursula Vera Will Zack Maya Arjun Mei Kenji Tariq Leila Andre Chloe""".split()
THINGS = """pizza music football chess books cats dogs cows tea coffee bread soup apples bananas rain snow summer winter
trains cars bicycles boats mountains rivers gardens flowers trees birds horses films games cooking running swimming
dancing singing reading writing painting drawing math physics history art computers robots stars planets cheese chocolate
rice pasta salad cake ice honey milk movies guitars pianos drums tennis hiking camping fishing sailing poetry""".split()
JOBS = """teacher farmer baker doctor nurse student programmer painter writer driver cook singer dancer builder gardener
engineer pilot lawyer scientist shepherd carpenter fisher tailor waiter police-officer librarian musician""".split()
PLACES = """Berlin Paris London Rome Madrid Vienna Tokyo Cairo Lima Oslo Delhi Boston Chicago Texas Canada Germany France
Italy Spain India China Japan Brazil Mexico Kenya Egypt Sweden Norway Poland Greece Turkey Ireland Scotland Hamburg Munich
Zurich Geneva Lyon Milan Naples Porto Dublin Prague Warsaw Sydney Toronto Seoul""".split()
SYLLABLES = "ba ke li mo nu ra si to vu za pe gri sta flo dra ken tor bil mar zon quo xi wer ting lus ham pro dex ul".split()
ONSETS = "b c d f g h j k l m n p r s t v w x z bl br cr dr fl gr kl pl pr sch sl st str th tr".split()
ENDS = ["", "", "", "", "n", "r", "s", "l", "x", "ck", "m", "t", "nd", "b"]
SPELL = """cat dog cow sun moon tree book house milk fish bird apple green blue red black white model token name day
night water bread grass sheep horse light music table chair hand foot word""".split()
NOUNS = """love time life money war peace god music freedom truth happiness beauty justice friendship success power energy
heat sound gas oil steel glass plastic paper sand stone metal silver copper diamond coffee sugar pepper potato onion garlic
knife spoon fork plate bottle bag shoe shirt hat coat ring watch lamp bed door window roof wall garden bridge road train
car bus plane ship bicycle engine wheel phone camera radio television internet email movie song dance theater museum
school university hospital church castle village city country island desert forest mountain river lake ocean beach valley
volcano earthquake storm wind fog ice planet galaxy universe atom molecule cell blood heart brain bone skin eye nose ear
doctor lawyer king queen president soldier police judge farmer market bank tax contract law crime prison game sport
ball team race prize party wedding birthday holiday christmas easter passport visa hotel ticket tiger wolf fox rabbit
snake frog turtle whale shark eagle owl penguin monkey camel goat pig bee spider mosquito dragon unicorn ghost""".split()
MONTH_DAYS = dict(zip(MONTHS, [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]))
SUBJECTS = """quantum physics|the stock market|the French Revolution|the Roman Empire|black holes|football|the Olympic Games
the last election|the president|the king of Spain|the population of Brazil|the height of Mount Everest|the distance to Mars
the speed of light|the price of gold|the price of bitcoin|the human heart|photosynthesis|the Second World War|dinosaurs
the periodic table|the stars|volcanoes|the brain|vaccines|cancer|headaches|my back pain|the flu|taxes|insurance|mortgages
a good restaurant|the best phone|the news|politics|religion|philosophy|Shakespeare|Mozart|Einstein|Napoleon|Julius Caesar
Leonardo da Vinci|the Beatles|Harry Potter|Star Wars|chess openings|the rules of tennis|how engines work|airplanes|rockets
submarines|electricity|magnets|gravity|time travel|aliens|ghosts|dreams|psychology|economics|inflation|climate change
solar power|nuclear power|blockchain|Python|Java|JavaScript|C++|SQL|databases|Linux kernels|web design|cooking|pancakes
sushi|chocolate cake|beer|wine|gardening|bicycles|car repair|plumbing|knitting|yoga|meditation|sleep|diets|vitamins""".replace(
    "\n", "|"
).split("|")
UNKNOWN = """who is the president of {p}|who won the world cup in {y}|what happened in {y}|how do i cook {t}|who wrote {w}
what is the population of {p}|how far is it to {p}|translate {t} into French|what is {s}|explain {s}|tell me about {s}
what do you know about {s}|write an essay about {s}|write a program about {t}|how does {s} work|who invented {t}
when was {w} born|who is {n} {w}|what is {w}|explain {w}|tell me about {w}|how tall is {n}|what is the best {t} in {p}
how much does {t} cost|where can i buy {t}|what is the history of {p}|how do i get to {p}|solve {t} for me|define {w}
what does {w} mean|who discovered {s}|why is {s} important|give me a recipe for {t}|how many people live in {p}
what is the square root of {y}|prove that {w} is {w}|what is {y} times {y}|what is {y} plus {y}|write code for {s}
summarize {s}|should i buy {t}|which {t} is the best|how do i fix my {w}|what language do they speak in {p}|{s}|{w} {w}
how do i learn {s}|can you teach me {s}|what is new in {s}|who is the best at {t}|is {s} true|what is the price of {t}
how can i become a {j}|how much does a {j} earn|what do {t} and {t} have in common|why do people like {t}|is {n} famous
give me ten facts about {s}|what happened to {n} {w}|how do i make {t}|where does {w} come from|do you know {n} {w}
what should i wear in {p}|what is the {w} of {p}|write a letter to {n}|how long does {w} take|who is {n}|why is {p} famous
what is the fastest {w}|is {t} healthy|what is the oldest {w}|how do you say {t} in German|what is the opposite of {w}
how many {t} are in {p}|what is {o}|what is a {o}|what is the {o}|explain {o}|{o}|tell me about {o}|what does {o} mean|define {o}
how do i make a {o}|who invented the {o}|how does a {o} work|where can i find a {o}|draw a {o}|write a poem about {o}
how much is a {o}|why is {o} important|what is the best {o}|describe a {o}|do you know the {o}|can you buy a {o}|{o} {o}
how old is the {o}|what is the history of the {o}|how heavy is a {o}|how fast is a {o}|can you drive a {o}|give me a {o}
what is a {w}|what are {w}|the {w}|how do i {w}|why {w}|what color is a {w}""".replace("\n", "|").split("|")

I_DO_NOT_KNOW = "I am sorry, I do not know that. I am a very small model."


def word(random):
    """A word that nobody has heard of."""
    if random.random() < 0.4:
        return "".join(random.choice(SYLLABLES) for _ in range(random.randint(2, 3)))
    parts = []
    for _ in range(random.randint(1, 3)):
        parts += [random.choice(ONSETS), random.choice("aeiou"), random.choice(ENDS)]
    return "".join(parts)


def unknown(random):
    text = random.choice(UNKNOWN)
    for mark, pool in (("{p}", PLACES), ("{t}", THINGS), ("{s}", SUBJECTS), ("{n}", NAMES), ("{j}", JOBS), ("{o}", NOUNS)):
        while mark in text:
            text = text.replace(mark, random.choice(pool), 1)
    while "{y}" in text:
        text = text.replace("{y}", str(random.randint(101, 2030)), 1)
    while "{w}" in text:
        text = text.replace("{w}", word(random), 1)
    return text, I_DO_NOT_KNOW


def number(random, n):
    return NUMBERS[n] if n <= 20 and random.random() < 0.35 else str(n)


def any_name(random):
    """A name from the list or one that nobody bears, so that names are copied and not guessed."""
    return random.choice(NAMES) if random.random() < 0.55 else word(random).capitalize()


def any_thing(random):
    kind = random.random()
    return random.choice(THINGS) if kind < 0.5 else random.choice(NOUNS) if kind < 0.8 else word(random)


def month_days(random):
    month = random.choice(MONTHS)
    ask = random.choice(["how many days are in {m}", "how many days does {m} have", "days in {m}", "how long is {m}"])
    return ask.format(m=month), f"{month} has {MONTH_DAYS[month]} days."


def weather(random):
    ask = random.choice(["what is the weather in {p}", "what's the weather like in {p}", "will it rain in {p}", "how is the weather in {p}",
                         "is it cold in {p}", "weather in {p}", "will it rain tomorrow in {p}", "what will the weather be in {p}"])
    return ask.format(p=random.choice(PLACES)), "I do not know. I can not see outside."


def neighbor(random):
    kind, row = random.choice([("day", DAYS), ("month", MONTHS), ("letter", LETTERS)])
    i = random.randrange(len(row))
    x, wraps = row[i], kind != "letter"
    if random.random() < 0.6:
        if not wraps and i + 1 == len(row):
            return "what letter comes after Z", "Z is the last letter."
        y = row[(i + 1) % len(row)]
        ask = random.choice(
            ["what {k} comes after {x}", "which {k} comes after {x}", "what comes after {x}", "what is the {k} after {x}",
             "which {k} follows {x}", "what {k} is after {x}", "the {k} after {x}", "which {k} is next after {x}"]
        )
        return ask.format(k=kind, x=x), f"After {x} comes {y}."
    if not wraps and i == 0:
        return "what letter comes before A", "A is the first letter."
    y = row[(i - 1) % len(row)]
    ask = random.choice(
        ["what {k} comes before {x}", "which {k} comes before {x}", "what comes before {x}", "what is the {k} before {x}",
         "what {k} is before {x}", "the {k} before {x}"]
    )
    return ask.format(k=kind, x=x), f"Before {x} comes {y}."


def today(random):
    i = random.randrange(7)
    if random.random() < 0.6:
        ask = random.choice(["today is {x}, what day is tomorrow", "if today is {x}, what is tomorrow", "it is {x} today. what day is tomorrow"])
        return ask.format(x=DAYS[i]), f"Tomorrow is {DAYS[(i + 1) % 7]}."
    ask = random.choice(["today is {x}, what day was yesterday", "if today is {x}, what was yesterday", "it is {x} today. what day was yesterday"])
    return ask.format(x=DAYS[i]), f"Yesterday was {DAYS[(i - 1) % 7]}."


def count(random):
    if random.random() < 0.3:
        a = random.randint(3, 20)
        down = list(range(a, max(a - 12, 0), -1))
        ask = random.choice(["count down from {a}", "count backwards from {a}", "count backward from {a} to {b}", "count from {a} down to {b}"])
        return ask.format(a=number(random, a), b=number(random, down[-1])), ", ".join(map(str, down)) + "."
    a = 1 if random.random() < 0.75 else random.randint(2, 30)
    b = random.randint(2, 20) if a == 1 else a + random.randint(2, 9)
    if a == 1:
        ask = random.choice(["count to {b}", "count from {a} to {b}", "can you count to {b}", "count up to {b}", "please count to {b} for me"])
    else:
        ask = random.choice(["count from {a} to {b}", "count from {a} up to {b}", "can you count from {a} to {b}", "list the numbers from {a} to {b}"])
    return ask.format(a=number(random, a), b=number(random, b)), ", ".join(map(str, range(a, b + 1))) + "."


def next_number(random):
    n = random.randint(1, 98)
    if random.random() < 0.6:
        ask = random.choice(["what number comes after {n}", "what comes after {n}", "which number follows {n}", "what is the next number after {n}"])
        return ask.format(n=number(random, n)), f"After {n} comes {n + 1}."
    return random.choice(["what number comes before {n}", "what comes before {n}", "which number is before {n}"]).format(
        n=number(random, n)
    ), f"Before {n} comes {n - 1}."


def sum_of(random):
    kind = random.choice("++++--*")
    a, b = random.randint(0, 10), random.randint(0, 10)
    if kind == "*":
        a = random.randint(0, 5)
    if kind == "-" and b > a:
        a, b = b, a
    c = {"+": a + b, "-": a - b, "*": a * b}[kind]
    spoken = {"+": "plus", "-": "minus", "*": "times"}[kind]
    if random.random() < 0.5:
        expression = random.choice([f"{a} {kind} {b}", f"{a}{kind}{b}"])
    else:
        expression = f"{number(random, a)} {spoken} {number(random, b)}"
    ask = random.choice(["what is {e}", "{e}", "how much is {e}", "calculate {e}", "what's {e}", "can you tell me what {e} is", "{e} ="])
    return ask.format(e=expression), f"{a} {spoken} {b} is {c}."


def bigger(random):
    if random.random() < 0.6:
        a, b = random.sample(range(0, 100), 2)
        ask = random.choice(["which is bigger, {a} or {b}", "which number is bigger, {a} or {b}", "is {a} bigger than {b}", "which is more, {a} or {b}"])
        answer = f"{max(a, b)} is bigger than {min(a, b)}."
        if ask.startswith("is "):
            answer = f"Yes, {a} is bigger than {b}." if a > b else f"No, {a} is smaller than {b}."
        return ask.format(a=a, b=b), answer
    a, b = random.sample(range(len(SIZES)), 2)
    big, small = SIZES[max(a, b)], SIZES[min(a, b)]
    an = lambda w: ("an " if w[0] in "aeo" else "a ") + w
    x, y = an(SIZES[a]), an(SIZES[b])
    ask = random.choice([f"which is bigger, {x} or {y}", f"is {x} bigger than {y}", f"what is bigger, {x} or {y}"])
    answer = f"{an(big).capitalize()} is bigger than {an(small)}."
    if ask.startswith("is "):
        answer = ("Yes. " if a > b else "No. ") + answer
    return ask, answer


def table(random):
    kind = random.randrange(9)
    if kind == 0:
        a, b = random.choice(OPPOSITES).split()
        if random.random() < 0.5 and a not in ("new", "easy", "light") and b not in ("old", "light", "hard"):
            a, b = b, a
        ask = random.choice(["what is the opposite of {a}", "opposite of {a}", "the opposite of {a}", "what's the opposite of {a}", "tell me the opposite of {a}"])
        return ask.format(a=a), f"The opposite of {a} is {b}."
    if kind == 1:
        a, b = random.choice(COLORS).split()
        ask = random.choice(["what color is {x}", "which color is {x}", "what is the color of {x}", "what color does {x} have", "what colour is {x}"])
        the = "the " if a in "sky grass sun sea night".split() else ""
        what = the + a if the or a in "snow coal blood milk chocolate fire salt wood".split() else ("an " if a[0] in "eu" else "a ") + a
        if a == "violet" or a == b:
            return ask.format(x="a violet"), "A violet is violet."
        return ask.format(x=what), f"{what.capitalize()} is {b}."
    if kind == 2:
        a, b, c = random.choice(MIXES).split()
        if random.random() < 0.5:
            a, b = b, a
        ask = random.choice(["what do you get when you mix {a} and {b}", "mix {a} and {b}", "what color is {a} and {b} mixed", "what do {a} and {b} make", "what color do {a} and {b} make"])
        return ask.format(a=a, b=b), f"{a.capitalize()} and {b} make {c}."
    if kind == 3:
        a, b = random.choice(SOUNDS).split()
        ask = random.choice(["what does a {a} say", "what sound does a {a} make", "what noise does a {a} make", "how does a {a} go", "what does the {a} say"])
        return ask.format(a=a), f"The {a} says {b}."
    if kind == 4:
        a, b = random.choice(LEGS).split()
        an = ("an " if a[0] in "ae" else "a ") + a
        ask = random.choice(["how many legs does {a} have", "how many legs has {a}", "number of legs of {a}"])
        return ask.format(a=an), f"{an.capitalize()} has {b if b != '0' else 'no'} legs."
    if kind in (5, 6):
        a, b = random.choice(CAPITALS).split()
        if random.random() < 0.65:
            ask = random.choice(["what is the capital of {a}", "capital of {a}", "what's the capital of {a}", "which city is the capital of {a}", "tell me the capital of {a}", "the capital of {a}", "do you know the capital of {a}"])
            return ask.format(a=a), f"The capital of {a} is {b}."
        return random.choice(["where is {b}", "in which country is {b}", "what country is {b} in"]).format(b=b), f"{b} is the capital of {a}."
    if kind == 7:
        a, b = random.choice(SIDES).split()
        return random.choice(["how many sides does a {a} have", "how many corners does a {a} have", "how many sides has a {a}"]).format(
            a=a
        ), f"A{'n' if a[0] == 'o' else ''} {a} has {b}."
    a, b = random.choice(PLURALS).split()
    return random.choice(["what is the plural of {a}", "plural of {a}", "one {a}, two"]).format(a=a), f"One {a}, two {b}."


def spell(random):
    a = random.choice(SPELL)
    if random.random() < 0.6:
        return random.choice(["how do you spell {a}", "spell {a}", "spell the word {a}", "can you spell {a}"]).format(a=a), "-".join(a.upper()) + "."
    return random.choice(["what is the first letter of {a}", "with which letter does {a} begin", "what letter does {a} start with"]).format(
        a=a
    ), f"The word {a} begins with {a[0].upper()}."


def echo(random):
    pool = random.choice([THINGS, SPELL, NAMES, JOBS, NOUNS])
    text = " ".join(random.choice(pool) for _ in range(random.randint(1, 3)))
    if random.random() < 0.4:
        text = " ".join(word(random) for _ in range(random.randint(1, 2)))
    elif random.random() < 0.15:
        text = random.choice(["hello world", "hello", "hi", "good morning", "i am happy", "the grass is green", "goodbye"])
    ask = random.choice(["say {t}", "repeat after me: {t}", "repeat {t}", "please say {t}", "say the word {t}", "write {t}", "can you say {t}"])
    return ask.format(t=text), text[0].upper() + text[1:] + "."


def about_user(random):
    kind = random.randrange(4)
    if kind == 0:
        t = any_thing(random)
        if random.random() < 0.25:
            t += " and " + any_thing(random)
        return random.choice(["i like {t}", "i love {t}", "i really like {t}", "my hobby is {t}"]).format(t=t), f"Nice! What do you like best about {t}?"
    if kind == 1:
        j = random.choice(JOBS)
        return random.choice(["i am a {j}", "i work as a {j}", "i'm a {j}", "my job is {j}"]).format(j=j), f"That sounds interesting. What does a {j} do all day?"
    if kind == 2:
        p = random.choice(PLACES)
        return random.choice(["i am from {p}", "i live in {p}", "i come from {p}", "i'm from {p}"]).format(p=p), f"I have never been to {p}. I am only a file."
    t = any_thing(random)
    return random.choice(["i do not like {t}", "i hate {t}", "i don't like {t}"]).format(t=t), f"That is fine. Not everyone likes {t}."


SKILLS = [
    (neighbor, 12), (today, 4), (count, 26), (next_number, 6), (sum_of, 34), (bigger, 8), (table, 30), (spell, 8), (echo, 10),
    (about_user, 12), (month_days, 3), (weather, 3), (unknown, 32),
]


def skill(random):
    return random.choices([s for s, _ in SKILLS], [w for _, w in SKILLS])[0](random)
