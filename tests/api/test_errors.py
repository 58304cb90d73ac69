"""What errors of the protocols say."""

from __future__ import annotations

from pytest_mlperf.api.errors import RequestFailed


def test_a_failed_request_names_its_sample_and_a_stream_without_one_itself() -> None:
    of_request = RequestFailed("grpc://a:1", 7, 0.25, "no answer")
    of_stream = RequestFailed("grpc://a:1", -1, 0.25, "it ended")

    assert str(of_request) == (
        "grpc://a:1: request for sample 7 failed after 0.250 s: no answer"
    )
    assert str(of_stream) == "grpc://a:1: stream failed after 0.250 s: it ended"
