"""deploy/run_demo.sh, which `make run` calls: with and without a terminal, when it cannot start, and what it leaves.

The programs are those of build/cpu, which the script builds; everything is set up and built before, so each run here is
one that has nothing to fetch. Network access is taken away by proxies that refuse.
"""

import os
import signal
import subprocess
import sys
import time
import unittest
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'clients'))
import serving  # noqa: E402

SCRIPT = os.path.join(ROOT, 'deploy', 'run_demo.sh')
RUN_LIMIT_S = 150
LONG = 'Write a long story about a dragon, a princess and the sea.'  # a reply to press Ctrl-C in


def marked(mark):
    """The processes that were started, however indirectly, with the mark in their environment: {pid: name}."""
    found = {}
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/environ', 'rb') as environment, open(f'/proc/{pid}/comm') as name:
                if mark.encode() in environment.read():
                    found[int(pid)] = name.read().strip()
        except OSError:  # it ended meanwhile
            continue
    return found


class RunDemo(unittest.TestCase):
    def setUp(self):
        self.mark = 'DEMO_TEST_MARK=' + uuid.uuid4().hex
        refusing, address = serving.refused_address()
        self.addCleanup(refusing.close)
        proxies = {name: 'http://' + address for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY')}
        self.environment = {**os.environ, **proxies, 'no_proxy': '127.0.0.1',
                            **dict([self.mark.split('=')])}

    def tearDown(self):
        for pid in marked(self.mark):
            os.kill(pid, signal.SIGKILL)

    def assert_nothing_left(self):
        deadline = time.monotonic() + serving.STOP_LIMIT_S
        while marked(self.mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(marked(self.mark), {})

    def run_piped(self, *flags):
        """The script without a terminal, to its end; its output is in files, so that a process left behind shows as such."""
        return subprocess.run([SCRIPT, *flags], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=RUN_LIMIT_S)

    def terminal(self, *flags):
        return serving.Terminal(*flags, path=SCRIPT, environment=self.environment)

    def test_one_reply_without_a_terminal_offline_and_quiet(self):
        done = self.run_piped('--device', 'cpu')
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn('sky', done.stdout)
        self.assertRegex(done.stderr, r'first token \d+(\.\d+)? m?s, .*\d tokens/s')
        for line in done.stdout.splitlines():
            self.assertNotRegex(line, '^(setup|model): ', 'there was nothing to set up or fetch')
        self.assert_nothing_left()

    def test_chat_on_a_terminal(self):
        with self.terminal('--device', 'cpu') as person:
            person.expect('/help lists commands', RUN_LIMIT_S)
            person.expect('> ')
            self.assertIn('megakernel-serv', marked(self.mark).values())
            person.type(LONG)
            person.expect('[^\r\n]{20}')  # it is talking
            person.press('c')
            person.expect(r'\(stopped\)')
            person.expect('> ')
            person.type('/info')  # neither the client nor the server went away
            person.expect(r'session [0-9a-f]{32}, \d+ tokens')
            person.expect('> ')
            person.press('d')
            self.assertEqual(person.wait(), 0)
        self.assert_nothing_left()

    def test_the_terminal_is_closed_during_a_reply(self):
        with self.terminal('--device', 'cpu') as person:
            person.expect('> ', RUN_LIMIT_S)
            person.type(LONG)
            person.expect('[^\r\n]{20}')
            self.assertGreater(person.hang_up(RUN_LIMIT_S), 128)  # the reply may end first
        self.assert_nothing_left()

    def test_a_killed_script_takes_all_along(self):
        with self.terminal('--device', 'cpu') as person:
            person.expect('> ', RUN_LIMIT_S)
            self.assertIn('megakernel-serv', marked(self.mark).values())
            os.kill(person.pid, signal.SIGKILL)
            self.assertEqual(person.wait(), -signal.SIGKILL)
        self.assert_nothing_left()

    def test_port_taken(self):
        with serving.Server('--device', 'fake') as other:
            done = self.run_piped('--device', 'fake', '--listen', other.address)
        self.assertEqual(done.returncode, 1)
        self.assertIn(other.address, done.stderr, 'the log of the server that could not start')
        self.assertIn('run: error: the server did not start; its log is above', done.stderr)
        self.assert_nothing_left()

    def test_the_server_dies_at_start(self):
        done = self.run_piped('--device', 'cpu', '--kv-memory', '1MiB')
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, '1 MiB|1MiB|1048576|1.0 MB', 'the log names what was too little')
        self.assertIn('run: error: the server did not start; its log is above', done.stderr)
        self.assert_nothing_left()


if __name__ == '__main__':
    serving.main()
