"""`megakernel chat` as a person uses it, on a terminal, and as a script does, with pipes."""

import json
import os
import signal
import time
import unittest

import serving

PROMPT = r'(?:^|\n)> $'
STATS = r'\[first token [^\]]*\]\r\n'


class Chat(unittest.TestCase):
    # Long replies at 5 ms a token: time to press Ctrl-C in the middle.
    SLOW = ['--device', 'fake', '--fake-step-time', '5ms']

    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server(*cls.SLOW)

    @classmethod
    def tearDownClass(cls):
        if cls.server.stop() != 0:
            raise AssertionError(f'the server ended badly:\n{cls.server.text().decode()}')

    def chat(self, *arguments, server=None):
        return serving.Terminal('chat', '--server', (server or self.server).address, '--ignore-eos', *arguments)

    def sessions(self, server=None):
        return [json.loads(line) for line in (server or self.server).run('session', 'list', '--json').stdout.splitlines()]

    def test_turns_and_leaving(self):
        for leave in ('/exit', '/quit', None):
            with self.subTest(leave=leave), self.chat('--max-tokens', '5') as person:
                person.expect('/help lists commands')
                person.expect('> ')
                person.type('Hello')
                person.expect(STATS)
                person.expect('> ')
                lengths = [entry['length'] for entry in self.sessions()]
                self.assertEqual(len(lengths), 1)
                person.type('/info')
                _, found = person.expect(r'session ([0-9a-f]{32}), (\d+) tokens')
                self.assertEqual(int(found.group(2)), lengths[0])
                person.expect('> ')
                if leave:
                    person.type(leave)
                else:
                    person.press('d')
                self.assertEqual(person.wait(), 0)
                self.assertEqual(self.sessions(), [])

    def test_ctrl_c_stops_the_reply_and_not_the_program(self):
        with self.chat('--max-tokens', '2000', 'Begin') as person:
            person.expect('leaves')
            person.expect('[^\r\n]{20}')  # it is talking
            person.press('c')
            person.expect(r'\(stopped\)')
            person.expect('> ')
            stopped = self.sessions()[0]
            self.assertFalse(stopped['busy'])
            self.assertLess(stopped['length'], 1000)
            person.type('Again')  # the history goes on from what was shown
            person.expect('[^\r\n]{20}')
            person.press('c')
            person.expect(r'\(stopped\)')
            person.expect('> ')
            self.assertGreater(self.sessions()[0]['length'], stopped['length'])
            person.press('c')
            person.expect(r'Ctrl-C again')
            person.expect('> ')
            person.press('c')
            self.assertEqual(person.wait(), 130)
        self.assertEqual(self.sessions(), [])

    def test_a_line_after_ctrl_c_at_the_prompt_goes_on(self):
        with self.chat('--max-tokens', '3') as person:
            person.expect('> ')
            for _ in range(2):
                person.press('c')
                person.expect('Ctrl-C again')
                person.expect('> ')
                person.type('Hello')
                person.expect(STATS)
                person.expect('> ')
            person.type('/exit')
            self.assertEqual(person.wait(), 0)

    def test_commands(self):
        with self.chat('--max-tokens', '4', '--temperature', '0') as person:
            person.expect('> ')
            person.type('/undo')
            person.expect('nothing to take back')
            person.type('One')
            person.expect(STATS)
            first = self.sessions()[0]['length']
            person.type('Two')
            person.expect(STATS)
            second = self.sessions()[0]['length']
            self.assertGreater(second, first)
            person.type('/retry')
            person.expect(STATS)
            self.assertEqual(self.sessions()[0]['length'], second)
            person.type('/undo')
            person.expect('Took back')
            self.assertEqual(self.sessions()[0]['length'], first)
            person.type('/reset')
            person.expect('Started over')
            self.assertEqual(self.sessions()[0]['length'], 0)
            person.type('/udno')
            person.expect(r'There is no /udno; did you mean /undo\?')
            person.type('/help')
            person.expect('/retry +say the last message again')
            person.type('/exit')
            self.assertEqual(person.wait(), 0)

    def test_a_kept_session(self):
        session = self.server.run('session', 'create').stdout.strip()
        for _ in range(2):
            with self.chat('--session', session, '--max-tokens', '2') as person:
                person.expect('> ')
                person.type('Hello')
                person.expect(STATS)
                person.type('/exit')
                self.assertEqual(person.wait(), 0)
        self.assertEqual([entry['session_id'] for entry in self.sessions()], [session])
        self.server.run('session', 'delete', session)

    def test_an_expired_session(self):
        with self.chat('--ttl', '1', '--max-tokens', '2') as person:
            person.expect('> ')
            person.type('Hello')
            person.expect(STATS)
            deadline = time.monotonic() + serving.START_LIMIT_S
            while self.sessions() and time.monotonic() < deadline:
                time.sleep(0.1)
            person.type('Still there?')
            person.expect('SESSION_EXPIRED')
            person.expect('/reset starts a new one')
            person.type('/reset')
            person.expect('Started over')
            person.type('Hello')
            person.expect(STATS)
            person.type('/exit')
            self.assertEqual(person.wait(), 0)

    def test_the_server_goes_away(self):
        with serving.Server(*self.SLOW) as server, self.chat('--max-tokens', '2000', server=server) as person:
            person.expect('> ')
            person.type('Hello')
            person.expect('[^\r\n]{20}')
            server.kill()
            person.expect('UNAVAILABLE')
            person.expect('The server went away')
            person.expect('> ')
            person.type('Hello?')
            person.expect('The server went away')
            person.type('/exit')
            self.assertEqual(person.wait(), 0)

    def test_terminated(self):
        for during_reply in (False, True):
            with self.subTest(during_reply=during_reply), self.chat('--max-tokens', '2000') as person:
                person.expect('> ')
                if during_reply:
                    person.type('Hello')
                    person.expect('[^\r\n]{20}')
                os.kill(person.pid, signal.SIGTERM)
                self.assertEqual(person.wait(), 128 + signal.SIGTERM)
                self.assertEqual(self.sessions(), [])

    def test_pipes(self):
        done = self.server.run('chat', '--max-tokens', '4', '--ignore-eos', '--json', stdin='One\n\nTwo')
        events = [json.loads(line) for line in done.stdout.splitlines()]
        started = [event['started'] for event in events if 'started' in event]
        self.assertEqual(len(started), 2)
        self.assertGreater(started[1]['prompt_tokens'], started[0]['prompt_tokens'])
        self.assertGreater(started[1]['cached_tokens'], 0)
        self.assertEqual(self.sessions(), [])
        failed = self.server.run('chat', '--top-p', '2', stdin='One\nTwo\n', expect=1)
        self.assertEqual(failed.stderr.count('INVALID_ARGUMENT'), 1, 'the first error ends it')


if __name__ == '__main__':
    serving.main()
