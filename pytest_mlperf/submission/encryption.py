"""AES-256 with the openssl command, so that decrypting takes nothing else.

The password goes to openssl through a pipe. It is never in the arguments, which every
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
"""Environment variable that may hold the password."""
ITERATIONS = 600_000
"""For PBKDF2 with SHA-256, as OWASP advises (2023)."""
HOW = ["-aes-256-cbc", "-pbkdf2", "-iter", str(ITERATIONS), "-md", "sha256"]
LONGEST = 500
"""Most bytes of a password; openssl reads at most 1,023 of a line."""


class CipherError(Exception):
    """A file cannot be encrypted or decrypted; the text has the remedy."""


def format_command(name: str) -> str:
    """Return the command that decrypts and unpacks a file; it asks for the password.

    ``name`` is quoted for a shell.
    """
    return f"openssl enc -d {' '.join(HOW)} -in {name} | tar xz"


@contextmanager
def encrypt_into(file: IO[bytes], password: bytes | None) -> Iterator[IO[bytes]]:
    """Yield a stream into ``file``, encrypted if there is a password.

    Raises ``CipherError`` when openssl is missing or fails.
    """
    if password is None:
        yield file
        return
    with run_openssl(
        password, ["-e", "-salt"], stdin=subprocess.PIPE, stdout=file
    ) as run:
        assert run.stdin is not None
        # If openssl ended early, its message says why.
        with suppress(BrokenPipeError):
            yield run.stdin
            run.stdin.close()


@contextmanager
def decrypt_from(file: IO[bytes], password: bytes | None) -> Iterator[IO[bytes]]:
    """Yield a stream of the content of ``file``, decrypted if there is a password."""
    if password is None:
        yield file
        return
    with run_openssl(password, ["-d"], stdin=file, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        yield run.stdout
        # openssl fails unless its whole output is read.
        while run.stdout.read(1 << 20):
            pass


@contextmanager
def run_openssl(
    password: bytes,
    arguments: list[str],
    *,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a running openssl that has the password; ``CipherError`` if it fails."""
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
    # If openssl ended before it read the password, its message says why.
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
        message = run.stderr.read().decode(errors="replace").strip()
        for stream in (run.stdin, run.stdout, run.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        code = run.wait()
    if code:
        raise CipherError(f"openssl ended with {code}: {message[-300:]}")


def get_password(file: Path | None) -> bytes:
    """Return the password: from a file, the environment, or a person, typed twice.

    Raises ``CipherError`` for none, an empty one and one that openssl would truncate.
    """
    if file is not None:
        password, where = read_password(file), str(file)
    elif VARIABLE in os.environ:
        password, where = os.environb[VARIABLE.encode()], f"${VARIABLE}"
    else:
        password, where = ask_password(), "the password"
    if not password:
        raise CipherError(f"{where}: empty; a password needs at least one character")
    if len(password) > LONGEST or b"\0" in password or b"\n" in password:
        what = f"no line of at most {LONGEST} bytes"
        raise CipherError(f"{where}: {what}; choose a shorter password")
    return password


def read_password(file: Path) -> bytes:
    """Return a file's first line; ``CipherError`` if others may read the file."""
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


def ask_password() -> bytes:
    """Return the password that a person types twice."""
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
    # The bytes as typed, as openssl reads them; they need not be UTF-8.
    return os.fsencode(first)
