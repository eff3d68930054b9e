"""The program megakernel-server: exit statuses, messages, two servers on a port, signals under load."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

LIMIT_S = 60
SERVER = os.path.join(os.environ['MEGAKERNEL_BIN'], 'megakernel-server')
CLIENT = os.path.join(os.environ['MEGAKERNEL_BIN'], 'megakernel')


def run(*arguments):
    return subprocess.run([SERVER, *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False)


class Running:
    """A server on the fake device and a free port."""

    def __init__(self, *flags):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([SERVER, '--device', 'fake', '--listen', '127.0.0.1:0', *flags],
                                        stdout=self.log, stderr=self.log)
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            found = re.search(r'serving address=(\S+)', self.text())
            if found:
                self.address = found.group(1)
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.kill()
        raise AssertionError('the server did not start: ' + self.text())

    def text(self):
        return os.pread(self.log.fileno(), 1 << 20, 0).decode()

    def wait(self):
        return self.process.wait(timeout=LIMIT_S)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Usage(unittest.TestCase):
    def test_help_and_version(self):
        page = run('--help')
        self.assertEqual(page.returncode, 0)
        for word in ('--model', '--device', '--listen', '--config', '--kv-memory', 'SIGTERM', 'Exit status'):
            self.assertIn(word, page.stdout)
        self.assertTrue(all(len(line) <= 120 for line in page.stdout.splitlines()))
        self.assertRegex(run('--version').stdout, r'^megakernel-server \d+\.\d+\.\d+\n$')

    def test_mistakes_end_with_status_2_and_name_the_culprit(self):
        with tempfile.TemporaryDirectory() as folder:
            def file(name, content):
                path = os.path.join(folder, name)
                with open(path, 'wb') as out:
                    out.write(content)
                return path
            bad_config = file('bad.json', b'{"limits": {"max_queu": 3}}')
            empty = file('empty.gguf', b'')
            cut = file('cut.gguf', b'GGUF\x03\x00\x00\x00\x01\x00')
            text = file('text.gguf', b'this is no model at all, it only says so' * 10)
            cases = [
                ([], '--model'),
                (['--modl', 'x'], '--model'),
                (['--device', 'abacus'], 'abacus'),
                (['--device', 'fake', '--max-queue', 'many'], '--max-queue'),
                (['--config', bad_config], 'limits.max_queue'),
                (['--config', os.path.join(folder, 'none.json')], 'none.json'),
                (['--model', os.path.join(folder, 'none.gguf')], 'none.gguf'),
                (['--model', empty], 'empty.gguf'),
                (['--model', cut], 'cut.gguf'),
                (['--model', text], 'text.gguf'),
                (['--model', text, '--device', 'cuda'], 'cuda'),
            ]
            for arguments, culprit in cases:
                with self.subTest(arguments=arguments):
                    result = run('--listen', '127.0.0.1:0', *arguments)
                    self.assertEqual(result.returncode, 2, result.stderr)
                    last = result.stderr.strip().splitlines()[-1]
                    self.assertTrue(last.startswith('megakernel-server: '), last)
                    self.assertIn(culprit, last)

    def test_too_little_memory_names_need_and_have(self):
        model = os.environ['MEGAKERNEL_TEST_MODEL']
        if not os.path.isfile(model):
            raise AssertionError(f'{model} is missing: run deploy/fetch_model.sh')
        result = run('--model', model, '--device', 'cpu', '--kv-memory', '32TiB')
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertRegex(result.stderr, r'need [\d.]+ GB, available are [\d.]+ GB')

    def test_port_in_use_ends_with_status_1(self):
        first = Running()
        try:
            second = run('--device', 'fake', '--listen', first.address)
            self.assertEqual(second.returncode, 1, second.stderr)
            self.assertIn(f'cannot listen on {first.address}: Address already in use', second.stderr)
        finally:
            first.kill()

    def test_port_of_another_program(self):
        with socket.socket() as taken:
            taken.bind(('127.0.0.1', 0))
            taken.listen()
            result = run('--device', 'fake', '--listen', '127.0.0.1:%d' % taken.getsockname()[1])
            self.assertEqual(result.returncode, 1, result.stderr)


class Signals(unittest.TestCase):
    def generate(self, server, tokens, results):
        results.append(subprocess.run(
            [CLIENT, 'generate', '--server', server.address, '--max-tokens', str(tokens), 'once upon a time'],
            capture_output=True, text=True, timeout=LIMIT_S, check=False))

    def under_load(self, server, tokens, clients=4):
        results = []
        threads = [threading.Thread(target=self.generate, args=(server, tokens, results)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        return results, threads

    def test_idle_server_ends_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = Running()
            try:
                start = time.monotonic()
                server.process.send_signal(number)
                self.assertEqual(server.wait(), 0, server.text())
                self.assertLess(time.monotonic() - start, 5)
            finally:
                server.kill()

    def test_running_calls_finish_within_the_drain_timeout(self):
        server = Running('--fake-step-time', '1ms', '--drain-timeout', '30s')
        try:
            results, threads = self.under_load(server, 2000)
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0, server.text())
            for thread in threads:
                thread.join()
            for result in results:
                self.assertEqual(result.returncode, 0, result.stderr)
        finally:
            server.kill()

    def test_the_drain_timeout_ends_what_runs(self):
        server = Running('--fake-step-time', '20ms', '--drain-timeout', '300ms')
        try:
            results, threads = self.under_load(server, 20000)
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0, server.text())
            self.assertLess(time.monotonic() - start, 8)
            for thread in threads:
                thread.join()
            for result in results:
                self.assertNotEqual(result.returncode, 0)
        finally:
            server.kill()

    def test_a_second_signal_ends_it_at_once(self):
        server = Running('--fake-step-time', '20ms', '--drain-timeout', '10m')
        try:
            _, threads = self.under_load(server, 20000)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            self.assertIsNone(server.process.poll())
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0, server.text())
            self.assertLess(time.monotonic() - start, 8)
            for thread in threads:
                thread.join()
            # One line for each call that has ended, and nothing of what was said.
            self.assertRegex(server.text(), r'request method=Generate tenant=default id=\S+ trace=- parent=- session=\S+ code=[A-Z_]+ reason=\S+ '
                                            r'operations=\d+ prompt_tokens=\d+ cached_tokens=\d+ output_tokens=\d+ '
                                            r'queue_ms=[\d.]+ prefill_ms=[\d.]+ decode_ms=[\d.]+ total_ms=[\d.]+')
        finally:
            server.kill()


if __name__ == '__main__':
    unittest.main()
