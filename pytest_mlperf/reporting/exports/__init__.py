"""Files that a session is exported to: each module here is one format.

The module's name is the format's, and its ``REPORTER`` a ``Reporter``. They are written
where ``--mlperf-export`` names them, or by ``pytest-mlperf report FORMAT PATH``.
"""
