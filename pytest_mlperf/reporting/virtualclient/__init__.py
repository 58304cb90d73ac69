"""Metrics as VirtualClient names them, of sessions and of NVIDIA's harness's files.

VirtualClient ran MLPerf Inference until July 2026 and named its metrics in three
generations; the dashboards that were built on them still ask for these names. Its
metrics of BERT training are read from training logs.
"""
