"""What operators do to megakernel-server: saved sessions over a restart, kill, metrics, admin, reload, a frozen executor.

Needs the client, grpcurl and promtool.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'clients'))
import serving  # noqa: E402

MONITORING = os.path.join(HERE, '..', '..', 'deploy', 'monitoring')
LIMIT_S = 60


def fake(*flags):
    return serving.Server('--device', 'fake', *flags)


def grpcurl(address, method, *flags):
    done = subprocess.run([os.path.join(os.environ['MEGAKERNEL_TOOLS'], 'grpcurl'), '-plaintext', *flags, address,
                           *method.split()], capture_output=True, text=True, timeout=LIMIT_S)
    return done.returncode, done.stdout + done.stderr


def logged(server, pattern):
    """The first group of the first line of the log that matches, waited for."""
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        found = re.search(pattern, server.text().decode())
        if found:
            return found.group(1)
        time.sleep(0.02)
    raise AssertionError(f'no {pattern} in the log:\n{server.text().decode()}')


def scrape(server):
    with urllib.request.urlopen(logged(server, r'metrics address=(\S+)'), timeout=LIMIT_S) as page:
        return page.read().decode()


def value(page, series):
    found = re.search('^' + re.escape(series) + r' (\S+)$', page, re.MULTILINE)
    if not found:
        raise AssertionError(f'no {series} in the page')
    return float(found.group(1))


class SavedSessions(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.flags = ('--session-dir', os.path.join(self.folder, 'saved'))

    def tokens(self, server, session, count=30):
        out = server.run('generate', '--session', session, '--max-tokens', str(count), '--temperature', '0', '--json')
        return [token for line in out.stdout.splitlines() for token in json.loads(line).get('delta', {}).get('token_ids', [])]

    def filled(self, server):
        session = server.run('session', 'create').stdout.strip()
        server.run('generate', '--session', session, '--max-tokens', '40', '--temperature', '0', 'once upon a time')
        return session

    def test_a_session_goes_on_after_a_restart(self):
        with fake(*self.flags) as server:
            session = self.filled(server)
            self.assertRegex(server.run('session', 'save', session, 'story').stdout, r'^story: \d+ bytes\n$')
            expected = self.tokens(server, session)
            self.assertEqual(len(expected), 30)
            self.assertEqual(server.stop(), 0)
        with fake(*self.flags) as server:
            self.assertIn('story', server.run('session', 'saved').stdout)
            again = server.run('session', 'restore', 'story').stdout.strip()
            self.assertNotEqual(again, session)
            self.assertEqual(self.tokens(server, again), expected)
            server.run('session', 'forget', 'story')
            self.assertIn('SESSION_NOT_FOUND', server.run('session', 'restore', 'story', expect=1).stderr)

    def test_a_kill_while_saving_leaves_a_whole_file(self):
        chance = random.Random(7)
        with fake(*self.flags) as server:
            server.run('session', 'save', self.filled(server), 'story')
        for _ in range(6):
            server = fake(*self.flags)
            session = server.run('session', 'restore', 'story').stdout.strip()
            address = server.address

            def save():
                while serving.run('--server', address, 'session', 'save', session, 'story', expect=None).returncode == 0:
                    pass
            clients = [threading.Thread(target=save) for _ in range(2)]
            for client in clients:
                client.start()
            time.sleep(0.1 + 0.3 * chance.random())
            server.kill()
            for client in clients:
                client.join()
            server.log.close()
        with fake(*self.flags) as server:
            session = server.run('session', 'restore', 'story').stdout.strip()
            self.assertGreater(len(self.tokens(server, session)), 0)
        left = [name for _, _, names in os.walk(self.folder) for name in names]
        self.assertEqual(left, ['story.mksession'])

    def test_a_folder_that_is_none_ends_with_status_2(self):
        path = os.path.join(self.folder, 'file')
        open(path, 'w').close()
        done = subprocess.run([serving.program('megakernel-server'), '--device', 'fake', '--listen', '127.0.0.1:0',
                               '--session-dir', path], capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn('--session-dir', done.stderr)


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = fake('--metrics-listen', '127.0.0.1:0', '--fake-step-time', '1ms')
        cls.addClassCleanup(cls.server.log.close)
        cls.addClassCleanup(cls.server.kill)
        cls.server.run('generate', '--max-tokens', '50', 'once upon a time')
        cls.page = scrape(cls.server)

    def test_promtool_likes_the_page(self):
        done = subprocess.run(['promtool', 'check', 'metrics'], input=self.page, capture_output=True, text=True,
                              timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_numbers_are_those_of_the_requests(self):
        self.assertEqual(value(self.page, 'megakernel_ready'), 1)
        self.assertEqual(value(self.page, 'megakernel_requests_total'), 2)  # the warm-up, and that one
        self.assertEqual(value(self.page, 'megakernel_output_tokens_total'), 51)
        self.assertEqual(value(self.page, 'megakernel_inter_token_time_seconds_count'), 49)
        self.assertGreater(value(self.page, 'megakernel_inter_token_time_seconds_sum'), 0.049)
        self.assertEqual(value(self.page, 'megakernel_calls_total{method="Generate",code="OK"}'), 1)

    def exported(self):
        names = set()
        for kind in re.finditer(r'^# TYPE (\S+) (\S+)$', self.page, re.MULTILINE):
            names.add(kind.group(1))
            if kind.group(2) == 'histogram':
                names.update(kind.group(1) + suffix for suffix in ('_bucket', '_sum', '_count'))
        return names

    def expressions(self):
        """Every expression of dashboard and rules, with where it stands."""
        with open(os.path.join(MONITORING, 'grafana', 'megakernel.json')) as file:
            dashboard = json.load(file)
        for panel in dashboard['panels']:
            for target in panel['targets']:
                yield panel['title'], target['expr']
        with open(os.path.join(MONITORING, 'rules.yaml')) as file:
            for expression in re.findall(r'^\s*expr: (.*)$', file.read(), re.MULTILINE):
                yield 'rules', expression

    def test_dashboard_and_rules_name_only_what_is_exported(self):
        exported = self.exported()
        found = 0
        for place, expression in self.expressions():
            names = set(re.findall(r'\b(?:megakernel|process)_[a-z0-9_]+', expression))
            found += len(names)
            self.assertLessEqual(names, exported, place)
            if 'megakernel_' not in expression and 'process_' not in expression:
                self.assertIn('up{', expression)
        self.assertGreater(found, 40)
        # And labels' values that are enumerators.
        for place, expression in self.expressions():
            for reason in re.findall(r'reason=~?"([A-Z_|]+)"', expression):
                for each in reason.split('|'):
                    self.assertIn(f'megakernel_call_errors_total{{reason="{each}"}}', self.page, place)

    def test_promtool_likes_every_expression(self):
        rules = ['groups:', '- name: dashboard', '  rules:']
        for number, (_, expression) in enumerate(self.expressions()):
            plain = expression.replace('$__rate_interval', '1m').replace('$instance', '.*')
            rules += [f'  - record: panel_{number}', f'    expr: {json.dumps(plain)}']
        with tempfile.NamedTemporaryFile('w', suffix='.yaml') as file:
            file.write('\n'.join(rules) + '\n')
            file.flush()
            for arguments in (['check', 'rules', file.name],
                              ['check', 'rules', os.path.join(MONITORING, 'rules.yaml')],
                              ['test', 'rules', os.path.join(HERE, 'alert_rules_test.yaml')]):
                done = subprocess.run(['promtool', *arguments], capture_output=True, text=True, timeout=LIMIT_S)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_prometheus_itself_reads_it(self):
        target = re.sub(r'^http://|/metrics$', '', logged(self.server, r'metrics address=(\S+)'))
        with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            address = '127.0.0.1:%d' % free.getsockname()[1]
            free.close()
            config = os.path.join(folder, 'prometheus.yml')
            with open(config, 'w') as file:
                file.write('global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: megakernel\n'
                           f'  static_configs: [{{targets: ["{target}"]}}]\n')
            prometheus = subprocess.Popen(
                ['prometheus', '--config.file', config, '--storage.tsdb.path', os.path.join(folder, 'data'),
                 '--web.listen-address', address, '--log.level', 'error'],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                limit = time.monotonic() + LIMIT_S
                result = []
                while time.monotonic() < limit and not result:
                    time.sleep(0.3)
                    try:
                        with urllib.request.urlopen(f'http://{address}/api/v1/query?query=megakernel_output_tokens_total',
                                                    timeout=5) as answer:
                            result = json.load(answer)['data']['result']
                    except (urllib.error.URLError, ConnectionError):
                        pass
                self.assertEqual(result[0]['value'][1], '51')
                self.assertEqual(result[0]['metric']['job'], 'megakernel')
            finally:
                prometheus.kill()
                prometheus.wait()


class Admin(unittest.TestCase):
    def test_load_drain_channelz_and_reflection(self):
        with fake('--admin-listen', '127.0.0.1:0', '--fake-step-time', '5ms') as server:
            admin = logged(server, r'admin address=(\S+)')
            status, services = grpcurl(admin, 'list')
            self.assertEqual(status, 0, services)
            self.assertIn('megakernel.v1.AdminService', services)
            self.assertIn('grpc.channelz.v1.Channelz', services)
            status, text = grpcurl(admin, 'grpc.channelz.v1.Channelz/GetServers')
            self.assertEqual(status, 0, text)
            self.assertIn('calls_started', text)
            # Neither is on the listener of the API.
            services = grpcurl(server.address, 'list')[1]
            self.assertNotIn('Admin', services)
            self.assertNotIn('channelz', services)
            self.assertNotEqual(grpcurl(server.address, 'grpc.channelz.v1.Channelz/GetServers')[0], 0)

            client = server.start('generate', '--max-tokens', '400', 'once upon a time')
            load = {}
            limit = time.monotonic() + LIMIT_S
            while load.get('sequences_running') != '1' and time.monotonic() < limit:
                load = json.loads(grpcurl(admin, 'megakernel.v1.AdminService/GetLoad')[1])
            self.assertEqual(load['state'], 'SERVER_STATE_SERVING')
            self.assertEqual(load['open_calls'], '1')
            self.assertGreater(int(load['kv_pages_used']), 0)
            status, text = grpcurl(admin, 'megakernel.v1.AdminService/Drain')
            self.assertEqual(status, 0, text)
            self.assertEqual(server.run('health', expect=None).returncode, 1)
            self.assertIn('DRAINING', server.run('generate', 'x', expect=1).stderr)
            client.communicate(timeout=LIMIT_S)
            self.assertEqual(client.returncode, 0)  # what ran went on to its end
            load = json.loads(grpcurl(admin, 'megakernel.v1.AdminService/GetLoad')[1])
            self.assertEqual(load['state'], 'SERVER_STATE_DRAINING')
            self.assertNotIn('open_calls', load)

    def test_other_machines_do_not_reach_it(self):
        done = subprocess.run([serving.program('megakernel-server'), '--device', 'fake', '--listen', '127.0.0.1:0',
                               '--admin-listen', '0.0.0.0:0'], capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn('--admin-listen', done.stderr)

    def test_reload_by_call_and_by_signal(self):
        with tempfile.NamedTemporaryFile('w', suffix='.json') as config:
            def write(text):
                config.seek(0)
                config.truncate()
                config.write(text)
                config.flush()
            write('{"server": {"log_level": "info"}}')
            with fake('--admin-listen', '127.0.0.1:0', '--config', config.name) as server:
                admin = logged(server, r'admin address=(\S+)')
                write('{"server": {"log_level": "debug"}, "limits": {"max_queue": 7}}')
                status, text = grpcurl(admin, 'megakernel.v1.AdminService/Reload')
                self.assertEqual(status, 0, text)
                self.assertIn('log_level: debug', text)
                self.assertEqual(json.loads(text)['restart_needed'], ['--max-queue'])
                write('{"server": {"log_level": "loud"}}')
                status, text = grpcurl(admin, 'megakernel.v1.AdminService/Reload')
                self.assertNotEqual(status, 0)
                self.assertIn('RELOAD_FAILED', text)
                self.assertIn('loud', text)
                write('{"server": {"log_level": "info"}}')
                server.process.send_signal(signal.SIGHUP)
                self.assertEqual(logged(server, r'reload part=log_level now="(info)"'), 'info')
                server.run('generate', '--max-tokens', '3', 'x')  # it goes on


class Executor(unittest.TestCase):
    def test_one_that_stands_still_ends_the_server(self):
        server = fake('--fake-step-time', '2ms', '--fake-stall-after', '200')
        try:
            client = server.start('generate', '--max-tokens', '5000', 'once upon a time')
            _, errors = client.communicate(timeout=LIMIT_S)
            self.assertEqual(client.returncode, 1)
            self.assertIn('EXECUTOR_FAILED', errors)
            self.assertEqual(server.process.wait(LIMIT_S), 1)
            log = server.text().decode()
            self.assertIn('the executor has not moved for', log)
            self.assertRegex(log, r'state engine running=1 ')
            self.assertRegex(log, r'state choice .* state=running lane=\d')
            self.assertNotIn('once upon', log)
        finally:
            server.kill()
            server.log.close()

    def test_a_process_that_is_stopped_for_longer_than_the_limit_goes_on(self):
        with fake('--fake-step-time', '5ms') as server:
            client = server.start('generate', '--max-tokens', '300', 'once upon a time')
            for _ in range(3):
                time.sleep(0.2)
                server.process.send_signal(signal.SIGSTOP)
                time.sleep(2)
                server.process.send_signal(signal.SIGCONT)
            client.communicate(timeout=LIMIT_S)
            self.assertEqual(client.returncode, 0)
            self.assertNotIn('executor failed', server.text().decode())

    def test_steps_that_take_longer_than_the_limit_are_no_failure(self):
        with fake('--fake-step-time', '4s') as server:  # the warm-up was such a step
            server.run('generate', '--max-tokens', '1', 'x')


class Ends(unittest.TestCase):
    def test_a_signal_while_loading_ends_at_once(self):
        process = subprocess.Popen([serving.program('megakernel-server'), '--device', 'fake', '--listen', '127.0.0.1:0',
                                    '--fake-step-time', '30s'], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for line in process.stderr:
            if b'listening address=' in line:
                address = re.search(rb'address=(\S+)', line).group(1).decode()
                break
        status, text = grpcurl(address, 'megakernel.v1.InferenceService/GetModel')
        self.assertNotEqual(status, 0)
        self.assertIn('STARTING', text)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, 0)
        self.assertLess(time.monotonic() - start, 5)

    def test_calls_come_in_during_the_drain_delay(self):
        with fake('--drain-delay', '2s') as server:
            server.process.send_signal(signal.SIGTERM)
            limit = time.monotonic() + LIMIT_S
            while server.run('health', expect=None).returncode == 0 and time.monotonic() < limit:
                time.sleep(0.02)
            server.run('generate', '--max-tokens', '3', 'x')
            self.assertEqual(server.process.wait(LIMIT_S), 0)

    # A disk that never answers holds the thread that saves, and with it the orderly end: the alarm ends the process.
    def test_what_hangs_for_ever_is_ended_by_the_alarm(self):
        with tempfile.TemporaryDirectory() as folder:
            server = fake('--session-dir', folder, '--drain-timeout', '0s')
            try:
                session = server.run('session', 'create').stdout.strip()
                server.run('session', 'save', session, 'a')
                tenant = os.listdir(folder)[0]
                os.mkfifo(os.path.join(folder, tenant, 'b.mksession.partial'))  # opening it waits for a reader
                client = server.start('session', 'save', session, 'b')
                time.sleep(2)  # until it waits
                start = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                self.assertEqual(server.process.wait(LIMIT_S), 1)
                self.assertLess(time.monotonic() - start, 20)
                self.assertIn('shutting down took too long', server.text().decode())
                client.communicate(timeout=LIMIT_S)
            finally:
                server.kill()
                server.log.close()


class Traces(unittest.TestCase):
    def test_a_trace_is_logged_with_the_request(self):
        with fake('--fake-step-time', '1ms') as server:
            trace, parent = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
            request = '{"text": "x", "requestId": "mine", "stopping": {"maxTokens": 2}}'
            for value_, expected in ((f'00-{trace}-{parent}-01', f'trace={trace} parent={parent}'),
                                     (f'00-{trace}-{parent}-01-extra', 'trace=- parent=-')):
                status, text = grpcurl(server.address, 'megakernel.v1.InferenceService/Generate', '-d', request, '-H',
                                       f'traceparent: {value_}')
                self.assertEqual(status, 0, text)
                for part in ('queue_ns', 'decode_ns'):  # the fake device reports the start of a step at its end
                    self.assertIn(part, text)
                logged(server, f'(id=mine {expected})')


if __name__ == '__main__':
    result = unittest.main(module='__main__', exit=False, verbosity=2).result
    if result.testsRun == 0:
        print('no test found', file=sys.stderr)
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)
