"""Runs the real programs for tests: servers on free ports, the client, a client on a terminal. Standard library only.

From the environment: MEGAKERNEL_BIN, the folder with the programs; MEGAKERNEL_TEST_MODEL, the default model's file.
"""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import unittest

START_LIMIT_S = 60  # a server under a sanitizer on a busy machine
STOP_LIMIT_S = 30
CALL_LIMIT_S = 120
LISTENING = re.compile(rb'serving address=(127\.0\.0\.1:\d+)')


def program(name):
    path = os.path.join(os.environ['MEGAKERNEL_BIN'], name)
    if not os.access(path, os.X_OK):
        raise AssertionError(f'{path} is missing: build it first')
    return path


def model_flags():
    model = os.environ['MEGAKERNEL_TEST_MODEL']
    if not os.path.isfile(model):
        raise AssertionError(f'{model} is missing: run deploy/fetch_model.sh')
    return ['--device', 'cpu', '--model', model]


def refused_address():
    """An address of this machine where nobody listens; the socket keeps it so."""
    held = socket.socket()
    held.bind(('127.0.0.1', 0))
    return held, '127.0.0.1:%d' % held.getsockname()[1]


class Server:
    """A megakernel-server process. Use it in a `with` statement, or call stop()."""

    def __init__(self, *flags):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([program('megakernel-server'), '--listen', '127.0.0.1:0', *flags],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.address = self._await_address()
        except BaseException:
            self.kill()
            raise

    def _await_address(self):
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            found = LISTENING.search(self.text())
            if found:
                return found.group(1).decode()
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f'the server did not start (status {self.process.poll()}):\n{self.text().decode()}')

    def text(self):
        """What it has logged so far."""
        return os.pread(self.log.fileno(), 1 << 24, 0)

    def stop(self):
        """Ends it as an operator would; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f'the server did not stop:\n{self.text().decode()}')

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait(STOP_LIMIT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.log.close()

    def run(self, *arguments, **options):
        return run('--server', self.address, *arguments, **options)

    def start(self, *arguments, **options):
        """The client, left running, with its output in pipes."""
        return subprocess.Popen(command('--server', self.address, *arguments), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def command(flag, value, name, *arguments):
    """`megakernel NAME FLAG VALUE ARGUMENTS...`"""
    return [program('megakernel'), name, flag, value, *arguments]


def run(flag, value, *arguments, stdin='', expect=0):
    """Runs the client to its end; its exit status must be `expect` (None: whatever)."""
    done = subprocess.run(command(flag, value, *arguments), input=stdin, capture_output=True, text=True,
                          timeout=CALL_LIMIT_S)
    if expect is not None and done.returncode != expect:
        raise AssertionError(f'{done.args[1:]}: status {done.returncode}, not {expect}\n{done.stdout}{done.stderr}')
    return done


class Terminal:
    """A program, the client unless `path` names another, on a terminal of its own, with a person at the keyboard."""

    def __init__(self, *arguments, path=None, environment=None):
        path = path or program('megakernel')
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(path, [path, *arguments], environment or os.environ)
        self.seen = b''  # not yet matched
        self.status = None
        settings = termios.tcgetattr(self.fd)
        settings[3] &= ~termios.ECHO  # what is typed is not output
        termios.tcsetattr(self.fd, termios.TCSANOW, settings)

    def type(self, line):
        os.write(self.fd, line.encode() + b'\n')

    def press(self, key):
        """'c' for Ctrl-C."""
        os.write(self.fd, bytes([ord(key) & 0x1f]))

    def expect(self, pattern, limit_s=30):
        """Waits for output that matches; returns what came before it, and the match."""
        deadline = time.monotonic() + limit_s
        while True:
            found = re.search(pattern.encode(), self.seen)
            if found:
                before, self.seen = self.seen[:found.start()], self.seen[found.end():]
                return before.decode(), found
            if not self._read(deadline):
                raise AssertionError(f'no {pattern!r} within {limit_s} s, or the end; only: {self.seen!r}')

    def _read(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.fd], [], [], left)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other side is closed
            return False
        self.seen += data
        return bool(data)

    def wait(self, limit_s=30):
        """Waits for the program to end; returns its exit status as shells see it."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self._read(time.monotonic() + 0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                os.close(self.fd)
                return self.status
        raise AssertionError(f'it has not ended after {limit_s} s: {self.seen!r}')

    def hang_up(self, limit_s=30):
        """Closes the terminal; returns the program's exit status as shells see it."""
        os.close(self.fd)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code
                return self.status
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        self.status = os.waitpid(self.pid, 0)[1]
        raise AssertionError(f'it has not ended {limit_s} s after its terminal was closed')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.fd)


def main():
    """Runs the tests of the calling file. No test found is an error."""
    result = unittest.main(module='__main__', exit=False, verbosity=2).result
    if result.testsRun == 0:
        print('no test found', file=sys.stderr)
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)
