"""The commit of the code that a session runs, for comparing sessions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

VARIABLES = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")
"""What GitHub, GitLab and Jenkins call it."""
PATIENCE_S = 5


def find_commit(root: Path) -> str:
    """Return the commit of a checkout; ``-dirty`` behind it with changes of tracked
    files. Without a checkout it is the one that the CI names; else empty.
    """
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40",
               "--exclude=*"]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return next((os.environ[v] for v in VARIABLES if os.environ.get(v)), "")
    return done.stdout.strip()
