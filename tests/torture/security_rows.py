"""Rows about who may do what, with the real server program and grpcurl: tokens, scopes, tenants, certificates."""

import json
import os
import re
import subprocess
import tempfile
import time

import process_rows
import serving

INFERENCE, SESSIONS = 'megakernel.v1.InferenceService', 'megakernel.v1.SessionService'
GENERATE = f'{INFERENCE}/Generate', {'text': 'x', 'stopping': {'max_tokens': 1}}
CREATE = f'{SESSIONS}/CreateSession', {}
UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED, NOT_FOUND, OK = 14, 16, 7, 5, 0


def grpcurl(address, call, *flags):
    """(gRPC status code, output). Status 1 of grpcurl is a connection that was not made: UNAVAILABLE."""
    tools = os.environ.get('MEGAKERNEL_TOOLS', os.path.join(serving.__file__, '..', '..', '..', '.cache', 'bin'))
    done = subprocess.run([os.path.join(os.path.normpath(tools), 'grpcurl'), '-connect-timeout', '3', *flags, '-d',
                           json.dumps(call[1]), address, call[0]], capture_output=True, text=True, timeout=30)
    code = {0: OK, 1: UNAVAILABLE}.get(done.returncode, done.returncode - 64)
    return code, done.stdout + done.stderr


def tokens(brief, fault):
    names = ('alpha-infer-and-session', 'beta-infer-and-session', 'gamma-infer-only-token', 'ops-admin-only-token-')
    scopes = (['infer', 'session'], ['infer', 'session'], ['infer'], ['admin'])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'tokens.json')
        with open(path, 'w', encoding='utf-8') as file:
            json.dump({'tokens': [{'tenant': name.split('-', 1)[0], 'scopes': scope, 'token': name}
                                  for name, scope in zip(names, scopes)]}, file)
        os.chmod(path, 0o600)
        flags = [] if fault == 'open-door' else ['--auth-tokens', path]
        with process_rows.start(process_rows.free_address(), *flags) as server:
            def ask(call, token=None):
                header = ['-H', f'authorization: Bearer {token}'] if token else []
                return grpcurl(server.address, call, '-plaintext', *header)
            code, text = ask(CREATE, names[0])
            session = re.search(r'"sessionId": *"(\w+)"|"session_id": *"(\w+)"', text)
            session = next(filter(None, session.groups())) if session else ''
            get = f'{SESSIONS}/GetSession', {'session_id': session}
            cases = [('no token', GENERATE, None, UNAUTHENTICATED),
                     ('wrong token', GENERATE, names[0][:-1] + 'x', UNAUTHENTICATED),
                     ('a prefix of a token', GENERATE, names[0][:-1], UNAUTHENTICATED),
                     ('right token', GENERATE, names[0], OK),
                     ('scope session missing', CREATE, names[2], PERMISSION_DENIED),
                     ('scope infer missing', GENERATE, names[3], PERMISSION_DENIED), ('own session', get, names[0], OK),
                     ("another tenant's session", get, names[1], NOT_FOUND)]
            wrong = [] if code == OK else [f'a session could not be made: {text}']
            for what, call, token, expected in cases:
                code, _ = ask(call, token)
                if code != expected:
                    wrong.append(f'{what}: code {code}, not {expected}')
            log = server.text().decode()
            wrong += [f'the log has the token of {name.split("-", 1)[0]}' for name in names if name in log]
    return (f'{len(cases)} calls: ' + ('; '.join(wrong) or 'each answered as it must be; no token in the log'),
            'UNAUTHENTICATED, PERMISSION_DENIED, NOT_FOUND or OK as each must be', not wrong)


MAKE_CERTIFICATES = r'''
set -eu
new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"; }
sign() {
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days "$3" -extfile ext -out "$1.pem"
}
printf 'subjectAltName=IP:127.0.0.1\n' > ext
for ca in ca other; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key -out $ca.pem -days 2 \
    -subj /CN=$ca
done
for name in server expired-server client expired foreign; do new $name; done
sign server ca 1; sign expired-server ca 0; sign client ca 1; sign expired ca 0; sign foreign other 1
'''


def certificates(brief, fault):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(['bash', '-c', MAKE_CERTIFICATES], cwd=folder, check=True, capture_output=True, timeout=60)
        time.sleep(1.1)  # a certificate for 0 days is good until the second is over

        def at(name):
            return os.path.join(folder, name)
        for key in ('server.key', 'expired-server.key'):
            os.chmod(at(key), 0o600)
        mutual = [] if fault == 'any-client' else ['--tls-client-ca', at('ca.pem')]

        def ask(server, authority, client=None):
            identity = ['-cert', at(client + '.pem'), '-key', at(client + '.key')] if client else []
            return grpcurl(server.address, GENERATE, '-cacert', at(authority + '.pem'), *identity)[0]
        wrong = []
        with process_rows.start(process_rows.free_address(), '--tls-cert', at('server.pem'), '--tls-key',
                                at('server.key'), *mutual) as server:
            cases = [('good certificate', 'ca', 'client', OK), ('expired certificate', 'ca', 'expired', UNAVAILABLE),
                     ('certificate of another authority', 'ca', 'foreign', UNAVAILABLE),
                     ('no certificate', 'ca', None, UNAVAILABLE),
                     ('server of another authority', 'other', 'client', UNAVAILABLE),
                     ('good again', 'ca', 'client', OK)]
            for what, authority, client, expected in cases:
                code = ask(server, authority, client)
                if (code == OK) != (expected == OK):
                    wrong.append(f'{what}: code {code}')
            if grpcurl(server.address, GENERATE, '-plaintext')[0] == OK:
                wrong.append('unencrypted: OK')
        # An expired server: its own clients refuse it, whether or not it starts.
        try:
            with process_rows.start(process_rows.free_address(), '--tls-cert', at('expired-server.pem'), '--tls-key',
                                    at('expired-server.key')) as server:
                if ask(server, 'ca') == OK:
                    wrong.append('expired server: OK')
        except AssertionError:
            pass
    return (f'{len(cases) + 2} handshakes: ' + ('; '.join(wrong) or 'the good ones answered, the others not'),
            'only a good certificate of the right authority is answered', not wrong)


ROWS = {
    'wrong token, wrong scope': (tokens, ['open-door']),
    'expired certificate': (certificates, ['any-client']),
}
