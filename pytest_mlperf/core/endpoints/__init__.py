"""Results of MLPerf Endpoints, which rounds since v6.1 take in LoadGen's place.

Its client (mlcommons/endpoints) writes JSON and YAML instead of LoadGen's logs:
``config.yaml``, ``performance/result_summary.json``, ``accuracy/accuracy_results.json``
and ``audit/audit_<name>.json``. ``checker`` in this package is mlcommons/inference
b66003e1, tools/submission/submission_checker; ``client`` is mlcommons/endpoints
ea332753, src/inference_endpoint.
"""
