"""Whole sessions with planted secrets: no file that they leave shows any of them.

The server prints and repeats whatever it is told. Every file is searched: logs,
results, junit, the submission tree, the archive of it, packed and unpacked.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from pytest_mlperf.commands.main import main
from pytest_mlperf.core.submission import description
from pytest_mlperf.submission import encryption
from tests.support.service_doubles import SPEC

ROOT = Path(__file__).parents[2]
BEARER = "Qv7!kJ3-Lz9_WkzJw@mRxTq"
LITERAL = "sk-Bq8R4t2XVhNw6j3LYkd0z5PzGm"
HIDDEN = "Zf58#HuYw29"
QUERY = "Jx61qUvKo93Wn"
SECRETS = {"token": BEARER, "key": LITERAL, "password": HIDDEN, "query": QUERY}
SHORTEST = 5
"""Characters of a secret in a row that are a leak."""
SERVER = """
import sys, time
sys.path.insert(0, {root!r})
from tests.support.endpoint_double import *

count, port, words = {count!r}, int(sys.argv[1]), sys.argv[2:]
with open(count, "a+") as starts:
    starts.write("x")
    starts.seek(0)
    number = len(starts.read())
print("started with", words, flush=True)

def echo(send, number):
    head = send.request.decode("latin-1")
    print("was asked", head, flush=True)
    send(format_page(500, "you sent " + head.replace("\\r\\n", " ") + str(words)))
    return True

def answer(send, number):
    if number < 3:
        print("was asked", send.request.decode("latin-1"), flush=True)
    time.sleep(0.002)  # at most 4,000 a second on 8 connections
    return answer_well(send, number)

behavior = answer if number == 1 else answer_well_until(40, echo)
with serve_endpoint(behavior, port=port):
    time.sleep(600)
"""


def find_leaks(data: bytes) -> set[str]:
    """Return what bytes show of the secrets."""
    text = data.decode("utf-8", "replace")
    return {
        f"{name}: {secret[at : at + SHORTEST]}"
        for name, secret in SECRETS.items()
        for at in range(len(secret) - SHORTEST + 1)
        if secret[at : at + SHORTEST] in text
    }


def find_leaks_below(folder: Path) -> dict[str, set[str]]:
    """Return what names and contents of files show of the secrets."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        leaks = find_leaks(name.encode())
        if path.is_file() and not path.is_symlink():
            leaks |= find_leaks(path.read_bytes())
        if leaks:
            found[name] = leaks
    return found


@pytest.fixture
def session(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """A benchmark for services, and a system whose server is told secrets."""
    metadata = pytester.mkdir("asking-1.dist-info")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: asking\n")
    (metadata / "entry_points.txt").write_text(
        f"[pytest_mlperf.benchmarks]\nllama3.1-8b = {SPEC}\n"
    )
    for path in (str(ROOT), str(pytester.path)):
        monkeypatch.setenv("PYTHONPATH", path, prepend=os.pathsep)
    monkeypatch.setenv("MLPERF_ENDPOINT_TOKEN", BEARER)
    return pytester


def write_system(session: pytest.Pytester) -> Path:
    script = session.makepyfile(
        server=SERVER.format(root=str(ROOT), count=str(session.path / "starts"))
    )
    known: dict[str, str] = dict.fromkeys(description.FIELDS, "N/A")
    known |= {"status": "available", "division": "open", "system_type": "datacenter"}
    known |= dict.fromkeys(description.COUNTS, "1")
    lines = [f"{name} = {value!r}" for name, value in known.items()]
    url = f"http://me:{HIDDEN}@localhost/x?api_key={QUERY}"
    command = [sys.executable, str(script), "{port}", "--api-key", LITERAL]
    command += ["--upstream", url]
    server = ["[server]", f"command = {' '.join(command)!r}", "ready_s = 120"]
    folder = session.mkdir("systems")
    path = folder / "box.toml"
    path.write_text("\n".join(["[description]", *lines, *server, ""]))
    return path


def run_session(session: pytest.Pytester, *words: str | Path) -> pytest.RunResult:
    return session.runpytest_subprocess(
        str(ROOT / "suites"), "--mlperf-duration", "0.3", "--junitxml", "junit.xml",
        "--mlperf-reports", "reports", "--mlperf-target-qps", "5000", "-rA",
        "--mlperf-endpoint-concurrency", "8", "-p", "no:cacheprovider", *words,
    )  # fmt: skip


def pack(tree: Path, *words: str) -> None:
    assert main(["submit", "pack", str(tree), "--force", *words]) in (0, 1)


def test_a_submission_of_a_talkative_server_holds_none_of_its_secrets(
    session: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Offline is well; Server fails with all that the server was told."""
    result = run_session(
        session, "--mlperf-submission", "ACME", "--mlperf-category", "datacenter",
        "--mlperf-division", "open", "--mlperf-system", write_system(session),
        "-k", "llama3.1-8b- and (offline or server)",
    )  # fmt: skip
    reports = (session.path / "reports" / "latest").resolve()
    home = reports / "submission" / "open" / "ACME"
    server_log = "logs/llama3.1-8b-server-endpoint/performance/server.log"
    pack(reports / "submission")
    if shutil.which("openssl"):
        monkeypatch.setenv(encryption.VARIABLE, "of the archive")
        pack(reports / "submission", "--encrypt")
    with tarfile.open(reports / "submission-with-problems.tar.gz") as archive:
        archive.extractall(reports / "unpacked", filter="data")
    shown = result.stdout.str() + result.stderr.str() + "".join(capsys.readouterr())

    result.assert_outcomes(passed=2, failed=2)
    assert "HTTP 500: you sent POST /v1/completions" in shown
    assert "Bearer $MLPERF_ENDPOINT_TOKEN" in (reports / server_log).read_text()
    assert (home / "results/box/llama3.1-8b-embedded/Offline").is_dir()
    copied = (home / "src/pytest-mlperf/systems/box.toml").read_text()
    assert "--api-key ***" in copied
    assert list((reports / "unpacked").rglob("mlperf_log_detail.txt"))
    assert find_leaks(shown.encode()) == set()
    assert find_leaks((session.path / "junit.xml").read_bytes()) == set()
    assert find_leaks_below(session.path / "reports") == {}


@pytest.mark.parametrize("rest", ["?api_key={query}", ""])
def test_an_endpoint_with_a_secret_in_its_address_is_refused_without_it(
    session: pytest.Pytester, rest: str
) -> None:
    """Where a password stands, and where a key does."""
    name = "localhost:1" if rest else f"me:{HIDDEN}@localhost:1"
    url = f"http://{name}{rest.format(query=QUERY)}"
    result = run_session(session, "--mlperf-endpoint", url, "-k", "llama3.1-8b-offline")

    assert result.ret != 0
    assert "localhost" in result.stderr.str() + result.stdout.str()
    for text in (result.stdout.str(), result.stderr.str()):
        assert find_leaks(text.encode()) == set()
    assert find_leaks_below(session.path / "reports") == {}
