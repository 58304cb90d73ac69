"""What can happen to a log on its way: harmless, damaging, or just any bytes.

A *harmless* operator keeps every value: the verdict has to stay VALID. A *damaging*
one takes away, doubles, cuts or contradicts something that LoadGen wrote: VALID would
be wrong. What *any* bytes do is seen by reading the result again, without the code
under test: see ``told``.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from collections.abc import Container
from typing import Any

MARKER = b":::MLLOG "
Change = Callable[[bytes, random.Random], bytes]

TOKENS = (
    b"null", b"NaN", b"-Infinity", b"1e999", b"true", b'"', b"\\", b"{", b"}", b"[",
    b"]", b",", b":", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
    b"9" * 400, b"9" * 5000, b"-", b".", b"e", b"0", b"[" * 3000, b'{"a":' * 2000,
    b":::MLLOG {}", b"VALID", b"INVALID", b"Result is : VALID\n", b"\t", b" ",
)  # fmt: skip

# Values that no rule looks at, because LoadGen does nothing of account with them, or
# because they may differ from what they are compared with.
FREE = re.compile(
    r"loadgen_(build|git_commit|git_log|version)|test_datetime|qsl_name|logger_|get_sut|"
    r"generic_message|warning_|sut_name|generated_query_duration|generated_query_count|"
    r"requested_server_(coalesce|find_peak|max_async|num_issue)|power_|loadgen_file_sha1|"
    r"qsl_reported|requested_min_query_count|effective_(max_async|target_latency)|"
    r"requested_accuracy_sample_count_override"
)


def span(data: bytes, rng: random.Random, longest: int = 300) -> tuple[int, int]:
    """Return a random piece of the bytes."""
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randint(1, longest))


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def lose(data: bytes, rng: random.Random) -> bytes:
    start, end = span(data, rng)
    return data[:start] + data[end:]


def double(data: bytes, rng: random.Random) -> bytes:
    start, end = span(data, rng)
    return data[:end] + data[start:]


def insert(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.randbytes(rng.randint(1, 8)) + data[start:]


def token(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    end = start + rng.choice((0, 1, 1, 4))
    return data[:start] + rng.choice(TOKENS) + data[end:]


def flip(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return (
        data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    )


def digit(data: bytes, rng: random.Random) -> bytes:
    places = [m.start() for m in re.finditer(rb"\d", data)]
    if not places:
        return data
    place = rng.choice(places)
    return data[:place] + b"%d" % rng.randrange(10) + data[place + 1 :]


def swap(data: bytes, rng: random.Random) -> bytes:
    first, second = sorted((span(data, rng), span(data, rng)))
    if first[1] > second[0]:
        return data
    return b"".join((
        data[: first[0]], data[slice(*second)], data[first[1] : second[0]],
        data[slice(*first)], data[second[1] :],
    ))  # fmt: skip


ANY: tuple[Change, ...] = (lose, double, insert, token, flip, digit, swap)


def lines(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines(keepends=True) if line.strip()]


def without_a_line(data: bytes, rng: random.Random) -> bytes:
    """LoadGen's words apart, every line is needed."""
    found = lines(data)
    needed = [i for i, x in enumerate(found) if b'"Ending naturally' not in x]
    place = rng.choice(needed)
    return b"".join(found[:place] + found[place + 1 :])


def a_line_twice(data: bytes, rng: random.Random) -> bytes:
    found = lines(data)
    # LoadGen repeats its messages and warnings.
    line = rng.choice([x for x in found if b"generic_message" not in x])
    found.insert(rng.randrange(len(found) + 1), line)
    return b"".join(found)


def a_line_cut(data: bytes, rng: random.Random) -> bytes:
    found = lines(data)
    place = rng.randrange(len(found))
    kept = found[place].rstrip()
    found[place] = kept[: rng.randrange(1, len(kept))] + b"\n"
    return b"".join(found)


def a_foreign_line(data: bytes, rng: random.Random) -> bytes:
    found = lines(data)
    noise = rng.choice((b"INFO loaded\n", b"{}\n", b":::MLLOG\n", b"MLLOG {}\n"))
    found.insert(rng.randrange(len(found) + 1), noise)
    return b"".join(found)


def another_type(data: bytes, rng: random.Random) -> bytes:
    """One value of a type that LoadGen does not write there."""
    records = read(data)
    known = [r for r in records if not r["key"].startswith(("warning_", "error_"))]
    record = rng.choice(known)
    others: list[Any] = [None, [], {}, True, "7", 7, [None], float("inf")]
    others = [x for x in others if type(x) is not type(record["value"])]
    if type(record["value"]) is float:
        others.remove(7)
    if type(record["value"]) is int:
        others.remove(float("inf"))
    record["value"] = rng.choice(others)
    return write(records)


def another_value(data: bytes, rng: random.Random) -> bytes:
    """One value that a rule looks at, another than it was."""
    records = read(data)
    record = rng.choice([r for r in records if not FREE.match(r["key"])])
    value = record["value"]
    if type(value) is bool:
        record["value"] = not value
    elif type(value) is str:
        record["value"] = rng.choice((value + "x", value.strip()[1:] or "x"))
    elif type(value) is list:
        record["value"] = rng.choice(
            (value[1:], [*value, value[0]], [*value[:-1], 10**6])
        )
    elif type(value) is dict:
        record["value"] = []
    else:
        record["value"] = rng.choice((2 * value + 2, -value - 1, value * 10 + 5))
    return write(records)


def a_second_run(data: bytes, rng: random.Random) -> bytes:
    found = lines(data)
    return data + b"".join(found[rng.randrange(len(found) - 60) :])


def another_encoding(data: bytes, rng: random.Random) -> bytes:
    name = rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"))
    return data.decode().encode(name)


OF_OTHER_KINDS = {
    "Offline": ("result_perf_constraints_met", "requested_server_ttft_latency"),
    "Server": ("result_samples_per_second", "early_stopping_latency_ss"),
    "SingleStream": ("result_samples_per_second", "requested_offline_expected_qps"),
    "MultiStream": ("early_stopping_latency_ss", "result_scheduled_samples_per_sec"),
}
"""Scenario -> keys that LoadGen writes in other scenarios' logs."""


def a_key_of_another_kind(data: bytes, rng: random.Random) -> bytes:
    """A value that LoadGen never wrote in a run of this scenario."""
    records = read(data)
    values = {record["key"]: record["value"] for record in records}
    made = json.loads(json.dumps(records[0]))
    key = rng.choice(OF_OTHER_KINDS[values["effective_scenario"]])
    made |= {"key": key, "value": True if key.endswith("met") else 1_000_000}
    records.insert(rng.randrange(len(records) + 1), made)
    return write(records)


def an_end_that_was_passed(data: bytes, rng: random.Random) -> bytes:
    """Fewer queries allowed than were issued; Offline issues one."""
    records = read(data)
    values = {record["key"]: record["value"] for record in records}
    if values["effective_scenario"] == "Offline":
        return without_a_line(data, rng)
    for record in records:
        if record["key"].endswith("_max_query_count"):
            record["value"] = rng.randint(1, 64)
    return write(records)


def a_sample_twice(data: bytes, rng: random.Random) -> bytes:
    """A loaded set of the same size with one sample less."""
    records = read(data)
    for record in records:
        if record["key"] == "loaded_qsl_set":
            listed = record["value"]
            # MultiStream repeats the first seven.
            place = rng.randrange(8, len(listed) - 8)
            listed[place] = listed[place + 1]
    return write(records)


DAMAGE: tuple[Change, ...] = (
    cut, without_a_line, a_line_twice, a_line_cut, a_foreign_line, another_type,
    another_value, a_second_run, another_encoding, a_key_of_another_kind,
    an_end_that_was_passed, a_sample_twice,
)  # fmt: skip


def without_a_label(data: bytes, rng: random.Random) -> bytes:
    found = data.splitlines(keepends=True)
    needed = [
        i for i, x in enumerate(found) if re.search(rb"[\w)] *: *[^\s]|count|\*", x)
    ]
    # LoadGen writes a server's tokens a second twice, and warns of equal issue.
    spare = rb".*Result:|Completed tokens|WARNING:"
    place = rng.choice([i for i in needed if not re.match(spare, found[i])])
    return b"".join(found[:place] + found[place + 1 :])


def another_number(data: bytes, rng: random.Random) -> bytes:
    found = data.splitlines(keepends=True)
    places = [i for i, x in enumerate(found) if re.search(rb": -?\d", x)]
    place = rng.choice(places)
    label, _, value = found[place].rpartition(b":")
    wrong = b"%d" % (3 * int(float(value)) + 1)
    found[place] = label + b": " + wrong + b"\n"
    return b"".join(found)


def another_verdict(data: bytes, rng: random.Random) -> bytes:
    yes = rng.choice(list(re.finditer(rb": (Yes|VALID)", data)))
    wrong = (
        b": NO" if yes[1] == b"Yes" else rng.choice((b": INVALID", b": valid", b":"))
    )
    return data[: yes.start()] + wrong + data[yes.end() :]


def a_label_of_another_kind(data: bytes, rng: random.Random) -> bytes:
    """A line that LoadGen writes in the summary of another scenario, or of tokens."""
    labels = [b"Samples per second", b"Completed samples per second"]
    labels += [b"ttft_latency (ns)", b"tpot_latency (ns)", b"Tokens per second"]
    foreign = [x for x in labels if not re.search(rb"(?m)^%s *:" % re.escape(x), data)]
    made = rng.choice(foreign) + b" : 100000000\n"
    return data.replace(b"Result is", made + b"Result is", 1)


def another_notation(data: bytes, rng: random.Random) -> bytes:
    """A number that Python reads, and LoadGen does not write."""
    numbers = list(re.finditer(rb"latency \(ns\) *: (\d{2,})", data))
    chosen = rng.choice(numbers)
    text = chosen[1].decode()
    wide = "".join(chr(0xFF10 + int(x)) for x in text)
    written = rng.choice((f"{text[0]}_{text[1:]}", wide, f"+{text}", f"{text}."))
    return data[: chosen.start(1)] + written.encode() + data[chosen.end(1) :]


def twice(data: bytes, _: random.Random) -> bytes:
    return data + data


SUMMARY_DAMAGE: tuple[Change, ...] = (
    cut, without_a_label, another_number, another_verdict, twice, another_encoding,
    a_label_of_another_kind, another_notation,
)  # fmt: skip


def crlf(data: bytes, _: random.Random) -> bytes:
    return data.replace(b"\n", b"\r\n")


def blanks(data: bytes, rng: random.Random) -> bytes:
    tail = rng.choice((b"  \n", b"\t\n", b"\n\n", b" \r\n"))
    return data.replace(b"\n", tail)


def tail(data: bytes, rng: random.Random) -> bytes:
    return data.rstrip(b"\n") + rng.choice((b"", b"\n\n\n", b"\n   \n", b"\r\n"))


def shuffle(data: bytes, rng: random.Random) -> bytes:
    found = lines(data if data.endswith(b"\n") else data + b"\n")
    rng.shuffle(found)
    return b"".join(found)


def rewritten(data: bytes, rng: random.Random) -> bytes:
    """The same records in another writer's JSON."""
    style: dict[str, Any] = {
        "sort_keys": rng.random() < 0.5,
        "ensure_ascii": rng.random() < 0.5,
        "separators": rng.choice(((",", ":"), (", ", ": "))),
    }
    return write(read(data), **style)


def more_keys(data: bytes, rng: random.Random) -> bytes:
    """Keys that no LoadGen writes yet, in records and as records, and names."""
    records = read(data)
    for record in records:
        if rng.random() < 0.1:
            record[f"new_{rng.randrange(9)}"] = {"größe": [1, None, "✓"]}
        if record["key"] in ("sut_name", "qsl_name"):
            record["value"] = "Größe ✓ 測試"
    made = json.loads(json.dumps(records[0]))
    made |= {"key": "result_of_tomorrow", "value": {"a": [1, 2.5, None]}}
    records.insert(rng.randrange(len(records) + 1), made)
    return write(records, ensure_ascii=False)


def more_warnings(data: bytes, rng: random.Random) -> bytes:
    records = read(data)
    made = json.loads(json.dumps(records[0]))
    made |= {"key": "warning_generic_message", "value": "Logging allocation detected"}
    made["metadata"]["is_warning"] = True
    return write([*records, *[made] * rng.randint(1, 5)])


HARMLESS: tuple[Change, ...] = (
    crlf, blanks, tail, shuffle, rewritten, more_keys, more_warnings,
)  # fmt: skip
SUMMARY_HARMLESS: tuple[Change, ...] = (crlf, blanks, tail)


def read(data: bytes) -> list[dict[str, Any]]:
    """Return the records of a detail log that is in order."""
    texts = (line.strip() for line in data.decode().split("\n"))
    return [json.loads(text[len(MARKER) - 1 :]) for text in texts if text]


def write(records: list[dict[str, Any]], **style: Any) -> bytes:
    """Return the detail log of these records."""
    made = (json.dumps(record, **style).encode() for record in records)
    return b"".join(MARKER + line + b"\n" for line in made)


def told(data: bytes, keys: Container[str] = ()) -> dict[str, Any] | None:
    """Return what a detail log says that a rule looks at; None where it says nothing.

    Not by the code under test. Of ``keys`` only, where there are some. Of the loaded
    samples the rules know how many there have to be, and not which; real numbers keep
    four digits, because LoadGen's six are compared with some slack.
    """
    found: dict[str, Any] = {}
    try:
        for record in read(data):
            key, value = record["key"], record["value"]
            if FREE.match(key) or (keys and key not in keys):
                continue
            if key in found or record["metadata"]["is_error"]:
                return None
            if type(value) is float:
                value = f"{value:.4g}"
            if type(value) is list:
                value = (len(value), len(set(value)))
            found[key] = value
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return None
    return found
