"""The service ``endpoint``: OpenAI-compatible servers, one or many.

trtllm-serve, vLLM, SGLang, llama.cpp and whatever else speaks ``/v1/completions`` or
``/v1/chat/completions``. Several URLs are one system: the requests are shared out.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import Any

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Service
from pytest_mlperf.api.service import Target
from pytest_mlperf.core.errors import Refused
from pytest_mlperf.services import request_batch
from pytest_mlperf.services.http import client
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.connection import Address
from pytest_mlperf.services.openai import preflight
from pytest_mlperf.services.openai.protocol import Dialect

if TYPE_CHECKING:
    from pytest_mlperf.api.workload import RequestWorkload

TRIAL_S = 120.0
"""How long a test completion may take: the first one may compile kernels."""
TRIAL_TOKENS = 8
Fields = Mapping[str, Any]
ASK_IDS: tuple[Fields, ...] = (
    {"return_token_ids": True},
    {"logprobs": 1, "post_sampling_probs": True},
    {"detokenize": False},
)
"""How token ids are asked for: of vLLM and those that follow it; of llama.cpp, which
tells them with the probability that the sampler left (no cost: greedy leaves one); of
trtllm-serve, which tells them in the place of the text."""
NO_TOP_K, TENSORRT_NO_TOP_K = -1, 0
"""How a request says that any token may be sampled: to vLLM and SGLang, and to
TensorRT-LLM, which refuses the other's word."""


@dataclass(slots=True)
class EndpointRequests:
    """The bodies of the requests whose samples are loaded."""

    dialect: Dialect
    prompt_of: Callable[[int], Prompt]
    total: int
    performance_count: int
    bodies: dict[int, bytes] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    """Sample -> tokens that its answer may have."""

    def load(self, indices: Sequence[int]) -> None:
        """Write the requests of these samples; ``Refused`` for a prompt of ids alone
        in a conversation.
        """
        for index in indices:
            if index in self.bodies:
                continue
            prompt = self.prompt_of(index)
            if self.dialect.chat and not prompt.text:
                raise Refused(
                    f"sample {index} has token ids and no text, but a conversation "
                    "takes text; leave out --mlperf-endpoint-chat"
                )
            self.bodies[index] = http1.body(self.dialect.request(prompt))
            self.lengths[index] = prompt.max_tokens

    def unload(self, indices: Sequence[int]) -> None:
        """Forget the requests of these samples."""
        for index in indices:
            self.bodies.pop(index, None)
            self.lengths.pop(index, None)


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """A ``ServiceProvider``; see there for its methods."""

    def check(
        self, target: Target, prompt: Prompt, beat: Callable[[], None]
    ) -> tuple[Target, Mapping[str, str]]:
        """Ask every endpoint for its health, its models and a short answer."""
        addresses = [parsed(url, target.ca_file) for url in target.urls]
        model = ""
        for address in addresses:
            preflight.look(address, target.headers, target.key_name)
            served = preflight.models(address, target.headers, target.key_name)
            model = preflight.chosen(target.model, address, served, model)
            beat()
        target = replace(target, model=model)
        short = replace(prompt, max_tokens=min(prompt.max_tokens, TRIAL_TOKENS))
        try:
            told = self._told(target, short, beat)
        except Refused:
            if target.fields.get("top_k") != NO_TOP_K:
                raise
            fields = {**target.fields, "top_k": TENSORRT_NO_TOP_K}
            target = replace(target, fields=fields)
            told = self._told(target, short, beat)
        # One run asks all endpoints alike.
        if told and None not in told and all(how == told[0] for how in told):
            target = replace(target, asks_ids=told[0] or {})
        ids = "yes" if target.asks_ids else "no, text alone"
        return target, {"model served": model, "token ids": ids}

    def _told(
        self, target: Target, prompt: Prompt, beat: Callable[[], None]
    ) -> list[Fields | None]:
        """Return what each endpoint tells token ids for."""
        each = [replace(target, urls=(url,)) for url in target.urls]
        return [self._complete(one, prompt, beat) for one in each]

    def _complete(
        self, target: Target, prompt: Prompt, beat: Callable[[], None]
    ) -> Fields | None:
        """Return what a short answer came with token ids for, if it did for anything.

        Raises ``Refused`` where no answer comes.
        """
        answered = False
        for fields in (*ASK_IDS, {}):
            if answered and not fields:
                break
            one = replace(target, fields={**target.fields, **fields})
            try:
                answer = self._ask(one, prompt, beat)
            except RequestFailed as error:
                # Some refuse a field that they do not know.
                if fields and error.problem.startswith(("HTTP 400", "HTTP 422")):
                    continue
                raise Refused(
                    f"{error.url}: a test completion of {prompt.max_tokens} tokens "
                    f"failed after {error.after_s:.3f} s: {error.problem}. It should "
                    "be answered before a run is worth starting; look into the "
                    "server's log"
                ) from None
            answered = True
            if answer.token_ids is not None:
                return fields
        return None

    def _ask(self, target: Target, prompt: Prompt, beat: Callable[[], None]) -> Answer:
        requests = EndpointRequests(dialect(target), lambda _: prompt, 1, 1)
        requests.load([0])
        patient = replace(target, timeout_s=min(TRIAL_S, target.timeout_s))
        found = request_batch.run(
            lambda listener: self.open(patient, requests, listener),
            [0], outstanding=1, count=1, beat=beat,
        )  # fmt: skip
        return found.answers[0]

    def requests(self, target: Target, workload: RequestWorkload) -> EndpointRequests:
        """Return the workload's requests in this dialect."""
        fields = {**workload.sampling, **target.fields, **target.asks_ids}
        return EndpointRequests(
            dialect(replace(target, fields=fields)),
            workload.prompt,
            workload.total,
            workload.performance_count,
        )

    def open(
        self, target: Target, requests: EndpointRequests, listener: Listener
    ) -> Service:
        """Return the client of all endpoints, which share its concurrency."""
        limit = max(1, -(-target.concurrency // len(target.urls)))
        endpoints = []
        for url in target.urls:
            address = parsed(url, target.ca_file)
            path = f"{address.base}{requests.dialect.path}"
            head = http1.head("POST", path, address.authority, target.headers)
            endpoints.append(client.Endpoint(address, head, limit))
        make, lengths = requests.dialect.exchange, requests.lengths
        return client.Pool(
            endpoints,
            requests.bodies,
            lambda sample: make(lengths[sample]),
            listener,
            balance=target.balance,
            whole=not target.stream,
            timeout_s=target.timeout_s,
            stall_s=target.stall_s,
        )


def dialect(target: Target) -> Dialect:
    """Return how this target's requests are written."""
    return Dialect(target.model, target.chat, target.stream, dict(target.fields))


def parsed(url: str, ca_file: str | None) -> Address:
    """Return an address; ``Refused`` for a URL that is none."""
    try:
        return Address.parse(url, ca_file)
    except ValueError as error:
        raise Refused(f"--mlperf-endpoint: {error}") from None


ENDPOINT = OpenAIEndpoint()
