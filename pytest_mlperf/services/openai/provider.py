"""The service ``endpoint``: OpenAI-compatible servers, one or many.

trtllm-serve, vLLM, SGLang, llama.cpp and others that serve ``/v1/completions`` or
``/v1/chat/completions``, and for recordings ``/v1/audio/transcriptions``. Several URLs
are one system that shares the requests.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.recordings import HasRecordings
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Requests
from pytest_mlperf.api.service import ServiceProvider
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import PromptWorkload
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.client import HttpClient
from pytest_mlperf.services.http.connection import AnswerReader
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.openai import negotiation
from pytest_mlperf.services.openai import preflight
from pytest_mlperf.services.openai.protocol import Dialect
from pytest_mlperf.services.openai.transcriptions import TranscriptionRequests
from pytest_mlperf.services.trial_request import TRIAL_S
from pytest_mlperf.services.trial_request import send_trial

TRIAL_TOKENS = 8


@dataclass(slots=True)
class EndpointRequests:
    """The bodies of the requests whose samples are loaded."""

    dialect: Dialect
    prompt_of: Callable[[int], Prompt]
    total: int
    performance_count: int
    bodies: dict[int, bytes] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    """Sample -> tokens of its answer, at most."""

    @property
    def path(self) -> str:
        """Where they are posted to."""
        return self.dialect.path

    def open_reader(self, sample: int) -> AnswerReader:
        """Return the reader of one answer."""
        return self.dialect.open_reader(self.lengths[sample])

    def load(self, indices: Sequence[int]) -> None:
        """Write the requests of these samples.

        Raises ``RunRefused`` for a prompt of ids alone in a conversation.
        """
        for index in indices:
            if index in self.bodies:
                continue
            prompt = self.prompt_of(index)
            if self.dialect.chat and not prompt.text:
                raise RunRefused(
                    f"sample {index} has token ids and no text, but a conversation "
                    "takes text; leave out --mlperf-endpoint-chat"
                )
            self.bodies[index] = http1.format_body(self.dialect.request(prompt))
            self.lengths[index] = prompt.max_tokens

    def unload(self, indices: Sequence[int]) -> None:
        """Forget the requests of these samples."""
        for index in indices:
            self.bodies.pop(index, None)
            self.lengths.pop(index, None)


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """A ``ServiceProvider`` that ``StartsEmbeddedServer``."""

    offers: frozenset[str] = frozenset({"prompts", "recordings"})
    embedded_precisions: tuple[str, ...] = ("f16", "q8_0", "q4_1")
    serves: frozenset[str] = frozenset({"embedded"})

    def check(
        self,
        target: ServiceTarget,
        workload: PromptWorkload | TensorWorkload,
        beat: Callable[[], None],
    ) -> tuple[ServiceTarget, Mapping[str, str]]:
        """Ask every endpoint for its health, its models and a short answer."""
        if isinstance(workload, HasRecordings):
            return self._check_recordings(target, workload, beat)
        prompt = prompts_of(workload).prompt(0)
        target, facts = self._find_model(target, beat)
        addresses = [parse_address(url, target.ca_file) for url in target.urls]
        short = replace(prompt, max_tokens=min(prompt.max_tokens, TRIAL_TOKENS))
        each = [
            negotiation.adapt_target(
                replace(target, urls=(url,)),
                lambda one: self._complete(one, short, beat),
            )
            for url in target.urls
        ]
        target = negotiation.join_targets(target, each)
        keeps = [self._keeps_connections(one, target, short) for one in addresses]
        if not all(keeps):
            target = replace(target, keeps_connections=False)
            facts["connections"] = "one a request: the server closes it unannounced"
        facts["token ids"] = "yes" if target.asks_ids else "no, text alone"
        if not target.counts_tokens:
            facts["tokens counted"] = "at the end: continuous_usage_stats is refused"
        return target, facts

    def _find_model(
        self, target: ServiceTarget, beat: Callable[[], None]
    ) -> tuple[ServiceTarget, dict[str, str]]:
        """Return the target with the model that every endpoint serves."""
        model, facts = "", {}
        for url in target.urls:
            address = parse_address(url, target.ca_file)
            health, served = preflight.ask_endpoint(address, target)
            if health:
                facts[f"health of {address.url}"] = health
            model = preflight.choose_model(target.model, address, served, model)
            beat()
        facts["model served"] = model
        return replace(target, model=model), facts

    def _check_recordings(
        self,
        target: ServiceTarget,
        workload: PromptWorkload | TensorWorkload,
        beat: Callable[[], None],
    ) -> tuple[ServiceTarget, dict[str, str]]:
        """Ask every endpoint for one transcript."""
        target, facts = self._find_model(target, beat)
        target = replace(target, stream=False)
        requests = self.requests(target, workload)
        requests.load([0])
        for url in target.urls:
            try:
                send_trial(self, replace(target, urls=(url,)), requests, beat)
            except RequestFailed as error:
                raise RunRefused(
                    f"the test transcription failed: {error}. {url} should serve"
                    f" {requests.path}; look into the server's log"
                ) from None
        facts["tokens counted"] = "of the transcripts, by the benchmark's tokenizer"
        return target, facts

    def unavailable(self, target: ServiceTarget) -> str | None:
        """Return what the embedded server lacks.

        Raises ``RunRefused`` for a URL at which no HTTP server answers.
        """
        if not target.urls:
            from pytest_mlperf.services.local import llama

            return llama.unavailable()
        for url in target.urls:
            preflight.send_get(parse_address(url, target.ca_file), preflight.HEALTH, {})
        return None

    def _keeps_connections(
        self, address: Address, target: ServiceTarget, prompt: Prompt
    ) -> bool:
        """Return whether an endpoint leaves a connection open after an answer."""
        dialect = make_dialect(target)
        head = make_head(address, dialect.path, target)
        request = head + http1.format_body(dialect.request(prompt))
        return preflight.keeps_connection(address, request, TRIAL_S)

    def _complete(
        self, target: ServiceTarget, prompt: Prompt, beat: Callable[[], None]
    ) -> Answer:
        requests = EndpointRequests(make_dialect(target), lambda _: prompt, 1, 1)
        requests.load([0])
        return send_trial(self, target, requests, beat)

    def embedded_server(
        self,
        workload: Workload,
        precision: str,
        cache: Path,
        cpus: Sequence[int],
        options: Mapping[str, str],  # noqa: ARG002 - there are none
    ) -> ServerRecipe:
        """Return how llama.cpp serves the embedded LLM, the only one that is here."""
        if isinstance(workload, HasRecordings):
            raise RunRefused(
                f"{workload.title}: no server that transcribes can be started here;"
                " name one that runs with --mlperf-endpoint URL"
            )
        # Imported here: most sessions never start it.
        from pytest_mlperf.services.local.llama import make_server_recipe

        return make_server_recipe(precision, cache, cpus)

    def requests(
        self, target: ServiceTarget, workload: PromptWorkload | TensorWorkload
    ) -> EndpointRequests | TranscriptionRequests:
        """Return the workload's requests in this dialect."""
        if isinstance(workload, TensorWorkload) and isinstance(workload, HasRecordings):
            return TranscriptionRequests(workload, workload, target.model)
        prompts = prompts_of(workload)
        fields = {**prompts.sampling, **target.fields, **target.asks_ids}
        return EndpointRequests(
            make_dialect(replace(target, fields=fields)),
            prompts.prompt,
            prompts.total,
            prompts.performance_count,
        )

    def open(
        self, target: ServiceTarget, requests: Requests, listener: Listener
    ) -> HttpClient:
        """Return the client of all endpoints; they share the target's concurrency."""
        known = EndpointRequests | TranscriptionRequests
        assert isinstance(requests, known), "made by requests()"
        endpoints = []
        for url in target.urls:
            address = parse_address(url, target.ca_file)
            head = make_head(address, requests.path, target)
            endpoints.append(Endpoint(address, head, target.concurrency_each))
        return HttpClient(
            endpoints,
            requests.bodies,
            requests.open_reader,
            listener,
            balance=target.balance,
            whole=not target.stream,
            keep_alive=target.keeps_connections,
            timeout_s=target.timeout_s,
            stall_s=target.stall_s,
        )


def make_head(address: Address, path: str, target: ServiceTarget) -> bytes:
    """Return the head of every request to an endpoint."""
    path = f"{address.base}{path}"
    close = {} if target.keeps_connections else {"Connection": "close"}
    headers = {**target.headers, **close}
    return http1.format_head("POST", path, address.authority, headers)


def make_dialect(target: ServiceTarget) -> Dialect:
    """Return how this target's requests are written."""
    return Dialect(
        target.model,
        target.chat,
        target.stream,
        target.counts_tokens,
        {k: v for k, v in target.fields.items() if k not in target.refused},
    )


def parse_address(url: str, ca_file: str | None) -> Address:
    """Return an endpoint's address; raises ``RunRefused`` for a malformed URL."""
    try:
        return Address.parse(url, ca_file)
    except ValueError as error:
        raise RunRefused(f"--mlperf-endpoint: {error}") from None


def prompts_of(workload: PromptWorkload | TensorWorkload) -> PromptWorkload:
    """Return a workload that has prompts; raises ``RunRefused`` for another one."""
    if isinstance(workload, PromptWorkload):
        return workload
    raise RunRefused(
        f"{workload.title} has tensors, but an OpenAI-compatible endpoint takes "
        "prompts; choose another provider with --mlperf-engine"
    )


ENDPOINT: ServiceProvider = OpenAIEndpoint()
