"""`megakernel load` against the fake device, whose step time is known: counts are exact, times are the device's."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

import serving

STEP_MS = 5
PLOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'clients', 'load', 'plot.py')


def runs(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


class Load(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server('--device', 'fake', '--fake-step-time', f'{STEP_MS}ms', '--max-sequences', '8',
                                    '--max-queue', '4')

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f'the server ended with {status}: {cls.server.text().decode()}')

    def load(self, *flags, expect=0):
        return runs(self.server.run('load', '--json', *flags, expect=expect))

    def test_a_closed_loop_counts_exactly_and_sees_the_steps_of_the_device(self):
        one, four = self.load('--concurrency', '1,4', '--calls', '12', '--warm-up', '2', '--output-tokens', '20')
        for run, callers in ((one, 1), (four, 4)):
            self.assertEqual((run['loop'], run['concurrency']), ('closed', callers))
            self.assertEqual((run['sent'], run['ok'], run['failed'], run['tokens']), (12, 12, 0, 240))
            self.assertEqual(run['ttft_ms']['count'], 12)
            self.assertEqual(run['itl_ms']['count'], 12 * 19)
            # A step cannot be shorter; tokens that come in one message stand at 0, and the rest makes up for it.
            self.assertGreaterEqual(run['tpot_ms']['p50'], STEP_MS * 0.98)
            self.assertGreaterEqual(run['ttft_ms']['p50'], STEP_MS * 0.98)
            self.assertAlmostEqual(run['itl_ms']['mean'], run['tpot_ms']['mean'], delta=0.01)
            self.assertGreaterEqual(run['e2e_ms']['p50'], STEP_MS * 20 * 0.98)
            self.assertEqual(len(run['curves']['itl_ms']), 101)
            for times in ('ttft_ms', 'itl_ms', 'tpot_ms', 'e2e_ms'):
                ordered = [run[times][q] for q in ('p50', 'p90', 'p99', 'max')]
                self.assertEqual(ordered, sorted(ordered))
        self.assertGreater(four['tokens_per_s'], 2 * one['tokens_per_s'])

    def test_an_open_loop_is_the_same_again_and_counts_from_when_a_call_was_due(self):
        # More than the device can do: 8 at a time, 100 ms each, so 80 a second; the queue fills, and time with it.
        flags = ['--rate', '400', '--calls', '60', '--output-tokens', '20', '--seed', '7']
        run = self.load(*flags, expect=None)[0]
        self.assertEqual((run['loop'], run['sent']), ('open', 60))
        self.assertEqual(run['late_ms']['count'], 60)
        self.assertEqual(run['ok'] + run['failed'], 60)
        self.assertEqual(run['errors'], {'RESOURCE_EXHAUSTED QUEUE_FULL': run['failed']})
        self.assertGreater(run['failed'], 0)
        self.assertGreater(run['ttft_ms']['max'], 80, 'the first to wait waits for a whole call')
        failing = self.server.run('load', *flags, expect=1)
        self.assertRegex(failing.stdout, r'calls ended with RESOURCE_EXHAUSTED QUEUE_FULL')

    def test_the_rate_is_the_one_asked_for(self):
        run = self.load('--rate', '50', '--calls', '100', '--output-tokens', '1', '--prompt-tokens', '2')[0]
        # 100 gaps of an exponential distribution with mean 20 ms: their sum is within 5 deviations (of 10 %).
        self.assertEqual(run['ok'], 100)
        self.assertGreater(run['seconds'], 1.0)
        self.assertLess(run['seconds'], 3.5)

    def test_goodput_counts_the_calls_within_the_objective(self):
        flags = ['--calls', '6', '--output-tokens', '10']
        loose = self.load(*flags, '--slo', 'ttft=10s,itl=10s,tpot=10s,e2e=20s')[0]
        self.assertEqual(loose['good'], 6)
        self.assertEqual(loose['slo'], {'ttft_ms': 10000, 'itl_ms': 10000, 'tpot_ms': 10000, 'e2e_ms': 20000})
        for bound in ('ttft=1ms', 'itl=1ms', 'tpot=1ms', 'e2e=10ms'):
            self.assertEqual(self.load(*flags, '--slo', bound)[0]['good'], 0, bound)

    def test_cancelled_calls_count_apart(self):
        run = self.load('--calls', '10', '--concurrency', '2', '--output-tokens', '400', '--cancel-at', '5')[0]
        self.assertEqual((run['ok'], run['cancelled'], run['failed'], run['errors']), (0, 10, 0, {}))
        self.assertGreaterEqual(run['tokens'], 50)
        self.assertLess(run['tokens'], 400)
        half = self.load('--calls', '40', '--concurrency', '4', '--output-tokens', '12', '--cancel-at', '4',
                         '--cancel-share', '0.5')[0]
        self.assertEqual(half['ok'] + half['cancelled'], 40)
        self.assertGreater(half['cancelled'], 5)
        self.assertGreater(half['ok'], 5)

    def test_slow_readers_are_slow_and_do_not_count_in_the_times(self):
        run = self.load('--calls', '4', '--output-tokens', '10', '--read-delay', '30ms')[0]
        self.assertEqual((run['ok'], run['slow'], run['ttft_ms']['count']), (4, 4, 0))
        self.assertGreater(run['seconds'], 4 * 0.03 * 2)  # at least two messages each: started, and one with tokens

    def test_sessions_take_their_turns_and_are_gone_afterwards(self):
        run = self.load('--calls', '12', '--concurrency', '2', '--turns', '3', '--output-tokens', '5')[0]
        self.assertEqual((run['ok'], run['failed'], run['errors'], run['tokens']), (12, 0, {}, 60))
        opened = self.load('--calls', '6', '--rate', '100', '--turns', '2', '--output-tokens', '2')[0]
        self.assertEqual((opened['ok'], opened['errors']), (6, {}))
        self.assertEqual(self.server.run('session', 'list', '--json').stdout, '')

    def test_connections_and_a_fixed_prompt_and_a_duration(self):
        run = self.load('--connections', '3', '--prompt', 'once', '--duration', '0.5', '--output-tokens', '4')[0]
        self.assertGreater(run['ok'], 3)
        self.assertGreaterEqual(run['seconds'], 0.4)
        self.assertLess(run['seconds'], 5)
        self.assertEqual(run['failed'], 0)

    def test_a_deadline_that_passes_is_a_failure(self):
        run = self.load('--calls', '2', '--output-tokens', '1000', '--timeout', '0.1', expect=1)[0]
        self.assertEqual(run['errors'], {'DEADLINE_EXCEEDED': 2})

    def test_table_and_bar(self):
        done = self.server.run('load', '--calls', '3', '--output-tokens', '4', '--slo', 'e2e=10s')
        self.assertRegex(done.stdout, r'callers +ok +cancel +failed +tokens/s')
        self.assertRegex(done.stdout, r'\n1 +3 +0 +0 ')
        self.assertIn('3 of 3 calls within the SLO', done.stdout)
        self.assertEqual(done.stderr, '', 'no bar without a terminal')
        terminal = serving.Terminal('load', '--server', self.server.address, '--calls', '10', '--output-tokens', '20')
        terminal.expect(r'1 callers \[#*\.*\] +\d+ %')
        terminal.expect(r'1 +10 +0 +0 ')
        self.assertEqual(terminal.wait(), 0)

    def test_ctrl_c_ends_it_with_what_there_is(self):
        client = self.server.start('load', '--duration', '60', '--output-tokens', '100')
        time.sleep(0.5)
        client.send_signal(signal.SIGINT)
        out, _ = client.communicate(timeout=serving.CALL_LIMIT_S)
        self.assertEqual(client.returncode, 130)
        self.assertIn('callers', out)

    def test_mistakes(self):
        cases = [(['--concurrency', '2', '--rate', '3'], 'choose one'), (['--rate', '0'], '--rate: expected calls a second'),
                 (['--slo', 'ttfx=3ms'], '--slo: expected ttft=TIME'), (['--slo', 'ttft=3'], 'such as 80ms'),
                 (['--cancel-at', '65'], 'never comes'), (['--cancel-share', '0.5'], 'needs --cancel-at'),
                 (['--slow-share', '2'], 'a share from 0 to 1'), (['--calls', '0'], 'expected 1 to'),
                 (['--shared-prefix', '33'], 'longer than --prompt-tokens')]
        for flags, message in cases:
            with self.subTest(flags=flags):
                done = self.server.run('load', *flags, expect=2)
                self.assertIn(message, done.stderr)

    def test_plots(self):
        with tempfile.TemporaryDirectory() as folder:
            lines = os.path.join(folder, 'runs.jsonl')
            with open(lines, 'w', encoding='utf-8') as file:
                for run in self.load('--concurrency', '1,2,4', '--calls', '8', '--output-tokens', '6'):
                    file.write(json.dumps(run) + '\n')
            subprocess.run([sys.executable, PLOT, lines, folder], check=True, timeout=60)
            for plot, curves in (('ttft', 3), ('itl', 3), ('e2e', 3), ('throughput', 2)):
                tree = xml.etree.ElementTree.parse(os.path.join(folder, plot + '.svg'))
                lines_drawn = tree.findall('{http://www.w3.org/2000/svg}polyline')
                self.assertEqual(len(lines_drawn), curves, plot)
                for line in lines_drawn:
                    points = re.findall(r'([\d.]+),([\d.]+)', line.get('points'))
                    self.assertGreaterEqual(len(points), 3)


if __name__ == '__main__':
    serving.main()
