"""Loads the fixtures that wire suites to runners; nothing else."""

pytest_plugins = ["fixtures.device", "fixtures.run"]
