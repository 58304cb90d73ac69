"""The commands of ``pytest-mlperf``: each module here but ``main`` is one.

The module's name is the command's. It has one line of ``HELP``,
``add_arguments(parser)``, and ``run(arguments)``, which returns the exit code. Helpers
live in sub-packages, which are no commands.
"""
