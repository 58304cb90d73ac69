"""What an option's text means: each parser returns a value or says what is legal.

The text of a ``ValueError`` completes the sentence "found x, but should be …".
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pytest_mlperf.core.types import Scenario

PerScenario = float | tuple[tuple[str, float], ...]
"""One number for all cells, or (scenario's slug, number) pairs; the slug is empty for
the scenarios without a number of their own."""
TOKEN_ENV = "MLPERF_ENDPOINT_TOKEN"  # noqa: S105 - the name of a variable
HIGHEST_CLOCK = "max"
"""Stands for the highest clock that the GPU names."""
FEWEST_MHZ, MOST_MHZ = 100, 10_000


def suggest(name: str, legal: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for a near miss, else nothing."""
    near = difflib.get_close_matches(name, list(legal), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def parse_switch(text: str) -> bool:
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.strip().lower() == "true"


def parse_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ValueError("a number above 0")
    return value


def parse_seconds(text: str) -> float:
    try:
        return parse_number(text)
    except ValueError as error:
        raise ValueError(f"{error}, in seconds") from None


def parse_whole(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError("a whole number of at least 1")
    return int(text)


def parse_device_count(text: str) -> int | str:
    """How many devices: a number, or ``all``."""
    if text.strip() == "all":
        return "all"
    try:
        return parse_whole(text)
    except ValueError as error:
        raise ValueError(f"{error}, or all") from None


def parse_delay(text: str) -> float:
    """A delay, where 0 is a legal choice: do not wait."""
    return 0.0 if text.strip() in ("0", "0.0") else parse_number(text)


def parse_word(text: str) -> str:
    if not text.strip():
        raise ValueError("a name")
    return text.strip()


def parse_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Options of an engine: ``level=3,cuda-graphs=off``."""
    found = [part.partition("=") for part in text.split(",") if part.strip()]
    if not found or not all(name.strip() and sign for name, sign, _ in found):
        raise ValueError("NAME=VALUE, several separated by commas")
    return tuple((name.strip(), value.strip()) for name, _, value in found)


NAMED_OTHERWISE = ("latest", "official")
"""What ``--mlperf-compare`` takes for another thing than a saved session."""


def parse_saved_name(text: str) -> str:
    """Return the name of a saved session, which is a folder's."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", text) or text in NAMED_OTHERWISE:
        raise ValueError(
            "a name of letters, digits, dots, hyphens and underscores, other than "
            f"{' and '.join(NAMED_OTHERWISE)}"
        )
    return text


def parse_round(text: str) -> str:
    from pytest_mlperf.core.rounds import ROUNDS

    name = text if text.startswith("v") else f"v{text}"
    if name not in ROUNDS:
        raise ValueError(f"one of {', '.join(ROUNDS)}.{suggest(name, ROUNDS)}")
    return name


def one_of(*legal: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in legal:
            raise ValueError(f"one of {', '.join(legal)}.{suggest(text, legal)}")
        return text

    return parse


def list_of(parse: Callable[[str], str], what: str) -> Callable[[str], tuple[str, ...]]:
    """Return the parser of a list separated by commas; each value counts once."""

    def parse_list(text: str) -> tuple[str, ...]:
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise ValueError(f"{what} separated by commas, without an empty name")
        return tuple(dict.fromkeys(map(parse, parts)))

    return parse_list


def parse_formats(text: str) -> tuple[str, ...]:
    """Formats that results are exported to."""
    legal = (
        "csv", "github", "openmetrics", "opentelemetry", "parquet", "virtualclient",
    )  # fmt: skip
    return list_of(one_of(*legal), "formats")(text)


def parse_scenario(text: str) -> str:
    """Return the slug of any usual spelling."""
    try:
        return Scenario.parse(text).slug
    except ValueError:
        legal = [scenario.slug for scenario in Scenario]
        near = suggest(text.lower(), legal)
        raise ValueError(f"one of {', '.join(legal)}.{near}") from None


def per_scenario(*scenarios: Scenario) -> Callable[[str], PerScenario]:
    """Return the parser of a number that scenarios may have each for themselves."""
    slugs = tuple(scenario.slug for scenario in scenarios)

    def parse(text: str) -> PerScenario:
        if "=" not in text and "," not in text:
            return parse_number(text)
        found: dict[str, float] = {}
        for part in text.split(","):
            name, sign, value = part.rpartition("=")
            scenario = one_of(*slugs)(parse_scenario(name)) if sign else ""
            if scenario in found:
                raise ValueError(f"one number for {scenario or 'all scenarios'}")
            found[scenario] = parse_number(value)
        return tuple(sorted(found.items()))

    return parse


def number_for(value: PerScenario | None, scenario: Scenario) -> float | None:
    """Return the number that holds for a scenario; None leaves it to the probe."""
    if not isinstance(value, tuple):
        return value
    numbers = dict(value)
    return numbers.get(scenario.slug, numbers.get(""))


def resolve_benchmark(name: str, installed: Mapping[str, str]) -> str:
    """Return the canonical benchmark, ``bert``, or model, ``bert-99.9``, of a name.

    ``installed``: name or alias -> benchmark, of the benchmarks that packages install.
    """
    from pytest_mlperf.core import catalog
    from pytest_mlperf.core.rounds import names

    if found := installed.get(name.lower()):
        return found
    if names.is_interactive(name):
        raise ValueError("a benchmark; add --mlperf-scenario interactive to select it")
    if canonical := names.resolve_benchmark(name):
        return "-".join(filter(None, canonical))
    legal = sorted({*catalog.read_all(), *installed.values()})
    raise ValueError(f"one of {', '.join(legal)}.{suggest(name.lower(), legal)}")


def parse_category(text: str) -> str:
    legal = ("edge", "datacenter", "datacenter,edge")
    parts = sorted(part.strip() for part in text.split(","))
    return one_of(*legal)(",".join(parts))


def parse_org(text: str) -> str:
    from pytest_mlperf.core.submission.layout import folder_problem

    if problem := folder_problem(text):
        raise ValueError(f"{problem}: it names a folder of the submission")
    return text


def parse_path(text: str) -> Path:
    # Anybody's session comes here; Path.expanduser raises for a ~ that has no home.
    return Path(os.path.expanduser(parse_word(text)))  # noqa: PTH111


def parse_clock(text: str) -> str:
    """MHz, or ``HIGHEST_CLOCK``."""
    clock = text.strip()
    is_mhz = clock.isdecimal() and FEWEST_MHZ <= int(clock) <= MOST_MHZ
    if clock != HIGHEST_CLOCK and not is_mhz:
        raise ValueError(f"max, or MHz from {FEWEST_MHZ} to {MOST_MHZ}")
    return clock


def parse_address(text: str) -> str:
    """Return HOST or HOST:PORT as it was typed."""
    host, colon, port = text.strip().rpartition(":")
    bare = not colon or text.strip().endswith("]")
    good = bare or (host and port.isdecimal() and 0 < int(port) < 1 << 16)
    if not good or not re.fullmatch(r"[\w.:\[\]-]+", text.strip()):
        raise ValueError("HOST or HOST:PORT, PORT from 1 to 65535")
    return text.strip()


HTTP = ("http", "https")
GRPC = ("grpc", "grpcs")


def parse_urls(text: str, schemes: Sequence[str] = HTTP) -> tuple[str, ...]:
    """URLs of endpoints, separated by commas; the client parses them again."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError("URLs separated by commas, none of them empty")
    for part in parts:
        if problem := find_url_problem(part, schemes):
            raise ValueError(f"http://host:port[,…] ({problem})")
    if len(set(parts)) != len(parts):
        raise ValueError("URLs of which none is named twice")
    return tuple(parts)


def parse_tensor_urls(text: str) -> tuple[str, ...]:
    """URLs of KServe v2 servers, of one protocol: ``http`` or ``grpc``."""
    urls = parse_urls(text, HTTP + GRPC)
    if len({is_grpc(url) for url in urls}) > 1:
        raise ValueError(
            "URLs of one protocol: http:// (https://) or grpc:// (grpcs://)"
        )
    return urls


def is_grpc(url: str) -> bool:
    """Return whether a URL's scheme is one of gRPC's."""
    return url.partition("://")[0] in GRPC


def find_url_problem(url: str, schemes: Collection[str]) -> str:
    """Return what keeps a text from being an endpoint's URL; empty: nothing."""
    # A key may stand in what is left out.
    shown = re.split("[?#]", url.rpartition("@")[2])[0]
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        _ = parts.port
    except ValueError as error:
        return f"{shown!r}: {error}; write http://host:port"
    if parts.scheme not in schemes or not parts.hostname:
        legal = " or ".join(f"{scheme}://" for scheme in schemes)
        return f"{shown!r} is no {legal} URL with a host"
    if parts.username or parts.password:
        return (
            f"{parts.hostname!r}: a password in a URL ends in logs; give a token by an "
            "environment variable"
        )
    if parts.query or parts.fragment:
        return f"{shown!r}: an endpoint's URL has no ? and no #"
    return ""


def parse_url_path(text: str) -> str:
    """The path of a page, without host and query."""
    if not re.fullmatch(r"/[!-~]*", text) or {*"?#"} & {*text}:
        raise ValueError("a path that begins with /, without ? and #")
    return text


def parse_variable(text: str) -> str:
    """The name of an environment variable, never the secret in it."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", text):
        raise ValueError(
            "the name of an environment variable that holds the token (not the token)"
        )
    return text


def find_token_problem(token: str) -> str:
    """Return why no HTTP header can hold a bearer token, without any of it; empty for
    one that can (RFC 9110 5.5: visible characters of ASCII).
    """
    for place, character in enumerate(token, 1):
        if not "!" <= character <= "~":
            kind = {"\n": "a line break", "\r": "a line break", " ": "a space"}
            what = kind.get(character, "not a visible character of ASCII")
            return (
                f"holds no usable token: character {place} of {len(token)} is {what}, "
                "which an HTTP header cannot hold; set the variable to the token alone"
            )
    return ""


CORE_TYPES = {
    "trtllm_endpoint": "",
    "trtllm_executor": "runs the model in this process, which is not written",
    "trtllm_hlapi": "runs the model in this process, which is not written",
    "trtllm_disagg": "is a server like any other here",
    "triton_grpc": "asks Triton for text by gRPC, which is not written (tensors: "
    "--mlperf-triton grpc://host:8001)",
}
"""NVIDIA's names for how a harness reaches a model -> why it is refused."""


def parse_core_type(text: str) -> str:
    """NVIDIA's name for an OpenAI-compatible server."""
    if text == "dummy":
        raise ValueError(
            "trtllm_endpoint: dummy, which infers nothing, is --mlperf-engine null"
        )
    why = CORE_TYPES.get(text)
    if why:
        raise ValueError(
            f"trtllm_endpoint: {text} {why}; start a server with an "
            "OpenAI-compatible front end and name it with --mlperf-endpoint"
        )
    return one_of("trtllm_endpoint")(text)
