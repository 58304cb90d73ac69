"""AES-256 by the openssl command, so that a person needs nothing else to decrypt.

The password goes to openssl through a pipe: it is never among arguments, which every
user of the machine can list, nor in a file, an environment or a log.
"""

from __future__ import annotations

import getpass
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from typing import IO

VARIABLE = "MLPERF_PACK_PASSWORD"
"""Environment variable that a password may come from."""
ITERATIONS = 600_000
"""Of PBKDF2 with SHA-256, as OWASP advises (2023)."""
HOW = ["-aes-256-cbc", "-pbkdf2", "-iter", str(ITERATIONS), "-md", "sha256"]
LONGEST = 500
"""Bytes of a password; openssl reads no more than 1,023 of a line."""


class CipherError(Exception):
    """What keeps a file from being encrypted or decrypted, and what to do."""


def command(name: str) -> str:
    """Return what decrypts and unpacks a file; openssl asks for the password.

    ``name`` is as a shell takes it.
    """
    return f"openssl enc -d {' '.join(HOW)} -in {name} | tar xz"


@contextmanager
def sealing(file: IO[bytes], password: bytes | None) -> Iterator[IO[bytes]]:
    """Give a stream whose bytes end in ``file``, encrypted where there is a password.

    Raises ``CipherError`` when openssl is missing or fails.
    """
    if password is None:
        yield file
        return
    with running(password, ["-e", "-salt"], stdin=subprocess.PIPE, stdout=file) as run:
        assert run.stdin is not None
        # Where openssl ended early, its message says why.
        with suppress(BrokenPipeError):
            yield run.stdin
            run.stdin.close()


@contextmanager
def opening(file: IO[bytes], password: bytes | None) -> Iterator[IO[bytes]]:
    """Give a stream of what ``file`` holds, decrypted where there is a password."""
    if password is None:
        yield file
        return
    with running(password, ["-d"], stdin=file, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        yield run.stdout
        # The rest of a stream has to be taken for openssl to end well.
        while run.stdout.read(1 << 20):
            pass


@contextmanager
def running(
    password: bytes,
    arguments: list[str],
    *,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int,
) -> Iterator[subprocess.Popen[bytes]]:
    """Give a running openssl that was told the password; ``CipherError`` if it
    fails.
    """
    program = shutil.which("openssl")
    if program is None:
        text = "no openssl on this machine: install it (package openssl)"
        raise CipherError(f"{text}, or leave out --encrypt")
    inlet, outlet = os.pipe()
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    try:
        run = subprocess.Popen(
            [program, "enc", *arguments, *HOW, "-pass", f"fd:{inlet}"],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            pass_fds=(inlet,),
            env=environment,
        )
    except OSError:
        os.close(outlet)
        raise
    finally:
        os.close(inlet)
    # An openssl that ended before it read the password says why.
    with suppress(BrokenPipeError):
        os.write(outlet, password + b"\n")
    os.close(outlet)
    assert run.stderr is not None
    try:
        yield run
    except BaseException:
        run.kill()
        raise
    finally:
        said = run.stderr.read().decode(errors="replace").strip()
        for stream in (run.stdin, run.stdout, run.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        code = run.wait()
    if code:
        raise CipherError(f"openssl ended with {code}: {said[-300:]}")


def password_of(file: Path | None) -> bytes:
    """Return the password: from a file, the environment, or a person, asked twice.

    Raises ``CipherError`` for none, an empty one and one that openssl would cut.
    """
    if file is not None:
        found, where = from_file(file), str(file)
    elif VARIABLE in os.environ:
        found, where = os.environb[VARIABLE.encode()], f"${VARIABLE}"
    else:
        found, where = from_person(), "the password"
    if not found:
        raise CipherError(f"{where}: empty; a password needs at least one character")
    if len(found) > LONGEST or b"\0" in found or b"\n" in found:
        what = f"no line of at most {LONGEST} bytes"
        raise CipherError(f"{where}: {what}; choose a shorter password")
    return found


def from_file(file: Path) -> bytes:
    """Return a file's first line; ``CipherError`` where others may read it."""
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise CipherError(f"{file}: no regular file; name one with the password")
        if mode & (stat.S_IRGRP | stat.S_IROTH):
            text = f"{file}: others on this machine may read it; chmod 600 {file}"
            raise CipherError(text)
        with file.open("rb") as stream:
            return stream.readline(LONGEST + 3).rstrip(b"\r\n")
    except OSError as error:
        why = f"{error.strerror or error}".lower()
        raise CipherError(f"{file}: {why}; name a file with the password") from None


def from_person() -> bytes:
    """Return what a person types, the same twice."""
    if not sys.stdin.isatty():
        ways = f"--password-file FILE or ${VARIABLE}"
        raise CipherError(f"no terminal to ask for a password at; give {ways}")
    try:
        first = getpass.getpass("password: ")
        second = getpass.getpass("once more: ")
    except EOFError:
        raise CipherError("no password was typed; try again") from None
    if first != second:
        raise CipherError("the two passwords differ; try again")
    # The bytes that were typed, which need not be UTF-8: openssl reads no others.
    return os.fsencode(first)
