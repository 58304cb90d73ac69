"""Tests of VirtualClient's metrics."""
