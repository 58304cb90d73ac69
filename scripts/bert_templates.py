"""What the embedded BERT's passages say of cities and countries, and its questions.

``{X}`` is the subject at the start of a sentence, ``{x}`` inside one. The second list
of each pair is held out: evaluation only.
"""

from __future__ import annotations

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
