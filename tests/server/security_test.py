"""megakernel-server with certificates and tokens: what it refuses to start with, files that change while it serves, and
logs that hold no secret. Real programs, standard library only."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'clients'))
import certificates  # noqa: E402
import serving  # noqa: E402

LIMIT_S = 30
TOKEN = 'first-token-0123456789'
OTHER = 'other-token-0123456789'
SECRET = 'the ferret hides under the walnut desk'


def tokens(*values, limits=None):
    entries = [{'tenant': 'acme', 'scopes': ['infer', 'session'], 'token': value} for value in values]
    return json.dumps({'tokens': entries, **({'tenants': {'acme': limits}} if limits else {})})


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, text, mode=0o600):
        return certificates.write(os.path.join(self.folder, name), text, mode)


def refused(*flags):
    """Starts a server that must not start; returns its exit status and its last words."""
    done = subprocess.run([serving.program('megakernel-server'), '--device', 'fake', '--listen', '127.0.0.1:0', *flags],
                          capture_output=True, text=True, timeout=LIMIT_S)
    return done.returncode, done.stderr.strip().splitlines()[-1]


def read(path):
    with open(path, encoding='ascii') as file:
        return file.read()


def until(condition, what):
    limit = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > limit:
            raise AssertionError('never came: ' + what)
        time.sleep(0.05)


class Start(Folder):
    def test_addresses_that_others_reach_need_encryption_or_the_flag(self):
        for address in ('0.0.0.0:0', '[::]:0', '[::ffff:0.0.0.0]:0'):
            status, words = refused('--listen', address)
            self.assertEqual(status, 2, words)
            self.assertIn(address, words)
            self.assertIn('--insecure-listen', words)
        with serving.Server('--device', 'fake', '--insecure-listen', '--listen', '127.0.0.1:0'):
            pass
        process = subprocess.Popen([serving.program('megakernel-server'), '--device', 'fake', '--listen', '0.0.0.0:0',
                                    '--insecure-listen'], stderr=subprocess.PIPE, text=True)
        lines = []
        try:
            for line in process.stderr:
                lines.append(line)
                if 'serving address=' in line:
                    break
        finally:
            process.terminate()
            process.communicate(timeout=LIMIT_S)
        log = ''.join(lines)
        self.assertIn('listening address=0.0.0.0:', log)
        self.assertIn('travel unencrypted', log)
        self.assertIn('may use it', log)

    def test_unix_socket(self):
        path = os.path.join(self.folder, 'm.sock')
        process = subprocess.Popen([serving.program('megakernel-server'), '--device', 'fake', '--listen', 'unix:' + path],
                                   stderr=subprocess.DEVNULL)
        try:
            until(lambda: os.path.exists(path), 'the socket')
            out = serving.run('--server', 'unix:' + path, 'generate', 'hi', '--max-tokens', '2', '--wait').stdout
            self.assertTrue(out.strip())
        finally:
            process.terminate()
            self.assertEqual(process.wait(LIMIT_S), 0)

    def test_errors_name_flag_and_file(self):
        authority = certificates.Authority(self.folder)
        certificate, key = authority.issue('server')
        _, wrong_key = authority.issue('wrong')
        broken = self.write('broken.json', '{"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "%s"' % SECRET)
        cases = [
            (['--tls-cert', certificate], ['--tls-key']),
            (['--tls-key', key], ['--tls-cert']),
            (['--tls-client-ca', certificate], ['--tls-client-ca', '--tls-cert']),
            (['--tls-cert', '/nonexistent', '--tls-key', key], ['--tls-cert', '/nonexistent', 'No such file']),
            (['--tls-cert', certificate, '--tls-key', wrong_key], ['wrong.key', 'is not the key']),
            (['--tls-cert', key, '--tls-key', key], ['server.key', 'holds no PEM certificate']),
            (['--auth-tokens', '/nonexistent.json'], ['--auth-tokens', '/nonexistent.json', 'No such file']),
            (['--auth-tokens', broken], ['--auth-tokens', 'broken.json', 'line 1']),
            (['--auth-tokens', self.write('none.json', '{"tokens": []}')], ['none.json', 'tokens']),
        ]
        if os.geteuid() != 0:
            closed = self.write('closed.json', tokens(TOKEN), mode=0)
            cases.append((['--auth-tokens', closed], ['closed.json', 'Permission denied']))
        for flags, named in cases:
            with self.subTest(flags=flags):
                status, words = refused(*flags)
                self.assertEqual(status, 2, words)
                for name in named:
                    self.assertIn(name, words)
                self.assertNotIn(SECRET, words)

    def test_what_an_operator_should_not_leave_so_is_a_warning(self):
        authority = certificates.Authority(self.folder)
        certificate, key = authority.issue('server', days=-1)
        os.chmod(key, 0o644)
        path = self.write('tokens.json', tokens(TOKEN), mode=0o644)
        with serving.Server('--device', 'fake', '--tls-cert', certificate, '--tls-key', key, '--auth-tokens', path,
                            '--listen', '127.0.0.1:0') as server:
            log = server.text().decode()
        self.assertIn('expired on', log)
        self.assertIn('everybody on this machine may read the key', log)
        self.assertIn('everybody on this machine may read the file', log)


class Reload(Folder):
    def client(self, server, token, *flags, expect=0):
        path = self.write('token', token + '\n')
        return server.run('model', '--json', '--token-file', path, *flags, expect=expect).stdout

    def test_tokens(self):
        path = self.write('tokens.json', tokens(TOKEN))
        with serving.Server('--device', 'fake', '--auth-tokens', path) as server:
            self.assertIn('TOKEN_MISSING', server.run('model', '--json', expect=1).stdout)
            self.client(server, TOKEN)
            self.assertIn('TOKEN_INVALID', self.client(server, OTHER, expect=1))

            self.write('tokens.json', '{"tokens": [{"token": "' + SECRET)  # half of a file
            until(lambda: b'tokens not taken' in server.text(), 'a word about the broken file')
            self.client(server, TOKEN)

            hashed = {'tenant': 'acme', 'scopes': ['infer'], 'sha256': hashlib.sha256(OTHER.encode()).hexdigest()}
            self.write('tokens.json', json.dumps({'tokens': [hashed]}))
            until(lambda: 'TOKEN_INVALID' in self.client(server, TOKEN, expect=None), 'the end of the first token')
            self.client(server, OTHER)
            self.assertNotIn(SECRET.encode(), server.text())

    def test_limits(self):
        path = self.write('tokens.json', tokens(TOKEN, limits={'sessions': 1}))
        with serving.Server('--device', 'fake', '--auth-tokens', path) as server:
            flags = ['--token-file', self.write('token', TOKEN)]
            server.run('session', 'create', *flags)
            refusal = server.run('session', 'create', '--json', *flags, expect=1).stdout
            self.assertIn('QUOTA_EXCEEDED', refusal)
            self.assertIn('"retry_after_ms":5000', refusal)
            self.write('tokens.json', tokens(TOKEN, limits={'sessions': 2}))
            until(lambda: server.run('session', 'create', *flags, expect=None).returncode == 0, 'the new limit')

    def test_certificate(self):
        authority = certificates.Authority(self.folder)
        certificate, key = authority.issue('server')
        served = [self.write('served.pem', read(certificate)),
                  self.write('served.key', read(key))]

        def subject(address):
            host, port = address.rsplit(':', 1)
            out = subprocess.run(['openssl', 's_client', '-connect', f'{host}:{port}', '-alpn', 'h2'], input=b'',
                                 capture_output=True, timeout=LIMIT_S).stdout
            return [line.decode() for line in out.splitlines() if line.startswith(b'subject=')]

        with serving.Server('--device', 'fake', '--tls-cert', served[0], '--tls-key', served[1],
                            '--fake-step-time', '20ms') as server:
            self.assertEqual(subject(server.address), ['subject=CN = server'])
            running = server.start('generate', 'hi', '--tls-ca', authority.certificate, '--max-tokens', '200',
                                   '--ignore-eos')
            second, second_key = authority.issue('second')
            self.write('served.key', read(second_key))
            until(lambda: b'tls not taken' in server.text(), 'a word about the key that does not fit yet')
            self.assertEqual(subject(server.address), ['subject=CN = server'])
            self.write('served.pem', read(second))
            until(lambda: subject(server.address) == ['subject=CN = second'], 'the new certificate')
            server.run('model', '--tls-ca', authority.certificate)
            out, error = running.communicate(timeout=LIMIT_S)
            self.assertEqual(running.returncode, 0, error)
            self.assertTrue(out)
            # A client of another authority, and one that does not encrypt.
            elsewhere = certificates.Authority(self.folder, 'elsewhere')
            server.run('model', '--tls-ca', elsewhere.certificate, expect=1)
            server.run('model', expect=1)


class Tenants(Folder):
    def test_saved_sessions_of_another_tenant_are_not_there(self):
        entries = [{'tenant': tenant, 'scopes': ['infer', 'session'], 'token': token}
                   for tenant, token in (('anna', TOKEN), ('bert', OTHER))]
        path = self.write('tokens.json', json.dumps({'tokens': entries}))
        anna = ['--token-file', self.write('anna', TOKEN)]
        bert = ['--token-file', self.write('bert', OTHER)]
        saved = os.path.join(self.folder, 'saved')
        os.mkdir(saved)
        with serving.Server('--device', 'fake', '--auth-tokens', path, '--session-dir', saved) as server:
            session = server.run('session', 'create', *anna).stdout.strip()
            server.run('generate', SECRET, '--session', session, '--max-tokens', '5', *anna)
            refusal = server.run('session', 'save', session, 'mine', '--json', *bert, expect=1).stdout
            self.assertIn('SESSION_NOT_FOUND', refusal)
            server.run('session', 'save', session, 'mine', *anna)
            self.assertIn('mine', server.run('session', 'saved', *anna).stdout)
            self.assertNotIn('mine', server.run('session', 'saved', *bert).stdout)
            for verb in ('restore', 'forget'):
                refusal = server.run('session', verb, 'mine', '--json', *bert, expect=1).stdout
                self.assertIn('SESSION_NOT_FOUND', refusal)
            server.run('session', 'restore', 'mine', *anna)


class Secrets(Folder):
    def test_a_token_does_not_travel_unencrypted_to_another_machine(self):
        flags = ['--token-file', self.write('token', TOKEN), '--connect-timeout', '1']
        for address in ('192.0.2.1:1', '127.0.0.1.example:1', '127.example:1', 'localhost.example:1'):
            refusal = serving.run('--server', address, 'model', '--json', *flags, expect=1).stdout
            self.assertIn('FAILED_PRECONDITION', refusal)
            self.assertIn('unencrypted', refusal)
            self.assertNotIn(TOKEN, refusal)
        for more in (['--tls'], ['--allow-unencrypted-token']):  # then it is tried
            tried = serving.run('--server', '192.0.2.1:1', 'model', '--json', *flags, *more, expect=1).stdout
            self.assertNotIn('FAILED_PRECONDITION', tried)

    def test_no_prompt_output_or_token_in_the_most_talkative_log(self):
        path = self.write('tokens.json', tokens(TOKEN))
        flags = ['--token-file', self.write('token', TOKEN)]
        with serving.Server('--device', 'fake', '--auth-tokens', path, '--log-level', 'trace') as server:
            session = json.loads(server.run('session', 'create', '--json', *flags).stdout)['session_id']
            out = server.run('generate', SECRET, '--session', session, '--max-tokens', '40', *flags).stdout
            server.run('generate', '--chat', SECRET, '--max-tokens', '5', *flags)
            server.run('tokenize', SECRET, *flags)
            server.run('generate', SECRET, '--top-p', '7', *flags, expect=1)
            server.run('session', 'delete', session, *flags)
            server.run('generate', SECRET, '--token-file', self.write('wrong', OTHER), expect=1)
            log = server.text().decode()
        self.assertIn('request method=Generate tenant=acme', log)
        self.assertIn('reason=TOKEN_INVALID', log)
        for secret in (SECRET, *SECRET.split()[1::2], TOKEN, OTHER, hashlib.sha256(TOKEN.encode()).hexdigest()):
            self.assertNotIn(secret, log)
        words = [word for word in out.split() if len(word) > 6]
        for word in words[:5]:
            self.assertNotIn(word, log)


if __name__ == '__main__':
    serving.main()
