"""Runs what a reader types, as the reader's shell would, and keeps what was seen."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

COLUMNS = 200


class Ended(Exception):
    """A command did not end in its time."""


def run(command, environment, cwd, timeout=120, input=None):
    """Through bash, without a terminal. Both outputs in the order in which they came; the status."""
    process = subprocess.Popen(
        ["bash", "-c", command], env=environment, cwd=cwd, text=True, start_new_session=True,
        stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process.pid)
        output, _ = process.communicate()
        raise Ended(f"{command} did not end within {timeout} s:\n{output}") from None
    return output, process.returncode


def run_on_terminal(command, environment, cwd, timeout=120, typed=""):
    """With a terminal, as `-it` wants one; `typed` is what is typed into it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe("bash", ["bash", "-c", command], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    seen, deadline = b"", time.monotonic() + timeout
    waiting = typed.encode()
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Ended(f"{command} did not end within {timeout} s:\n{seen.decode(errors='replace')}")
            if not select.select([terminal], [], [], min(left, 1))[0]:
                continue
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the other end is closed: EIO
                break
            if not part:
                break
            seen += part
            # Typed when there is a prompt, one line at a time, as people do.
            if waiting and seen.rstrip(b" ").endswith((b"#", b"$", b"(y/N)")):
                line, _, waiting = waiting.partition(b"\n")
                os.write(terminal, line + b"\n")
    finally:
        os.close(terminal)
        kill(pid)
        _, status = os.waitpid(pid, 0)
    text = seen.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text), os.waitstatus_to_exitcode(status)


def kill(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
