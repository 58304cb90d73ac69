"""What ``pytest-mlperf`` does, one module a command.

Each has ``add(parser)``, which declares its arguments, and ``run(arguments)``, which
returns the exit code.
"""
