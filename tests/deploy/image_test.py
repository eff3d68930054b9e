"""The image of deploy/Dockerfile: built, with buildah's chroot isolation on a base made by debootstrap, and run.

What is run, as whom and with which health check is read from the image. No container engine is needed; the base takes
the place of debian:bookworm-slim, and the compiler's cache of this machine that of an empty one.

In the environment: MEGAKERNEL_BASE, the archive of the base (deploy/debian_base.sh); MEGAKERNEL_TEST_MODEL.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'clients'))
import sandbox  # noqa: E402
import serving  # noqa: E402

BUILD_LIMIT_S = 1500  # compiling with an empty cache
STEP_LIMIT_S = 300
IMAGE = 'localhost/megakernel:test'


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        sandbox.check_privileges()
        # In the checkout, not in /tmp, which may be memory: a build takes gigabytes for a moment.
        os.makedirs(os.path.join(ROOT, 'build', 'deploy'), exist_ok=True)
        cls.work = tempfile.mkdtemp(prefix='image.', dir=os.path.join(ROOT, 'build', 'deploy'))
        cls.addClassCleanup(shutil.rmtree, cls.work, ignore_errors=True)
        started = time.monotonic()
        base = cls.buildah('from', 'scratch').strip()
        cls.buildah('add', '--quiet', base, os.environ['MEGAKERNEL_BASE'], '/')
        cls.buildah('config', '--env', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', base)
        cls.buildah('commit', '--quiet', '--rm', base, 'localhost/base')
        cache = subprocess.run(['ccache', '-k', 'cache_dir'], check=True, capture_output=True, text=True).stdout.strip()
        os.makedirs(cache, exist_ok=True)
        cls.buildah('bud', '--isolation', 'chroot', '--pull-never', '--format', 'docker', '--layers=false',
                    '--build-arg', 'BASE=localhost/base', '--volume', f'{cache}:/root/.cache/ccache',
                    '--tag', IMAGE, '--file', os.path.join(ROOT, 'deploy', 'Dockerfile'), ROOT, limit_s=BUILD_LIMIT_S)
        print(f'built in {time.monotonic() - started:.0f} s', flush=True)
        cls.config = json.loads(cls.buildah('inspect', '--type', 'image', IMAGE))['Docker']['config']
        cls.container = cls.buildah('from', '--pull-never', IMAGE).strip()
        cls.root = cls.buildah('mount', cls.container).strip()

    @classmethod
    def buildah(cls, command, *arguments, limit_s=STEP_LIMIT_S):
        """Runs buildah on a store of this test's own; returns what it printed."""
        done = subprocess.run(['buildah', '--root', cls.work + '/store', '--runroot', cls.work + '/run',
                               '--storage-driver', 'vfs', command, *arguments], cwd=cls.work, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=limit_s)
        if done.returncode != 0:
            raise AssertionError(f'buildah {command}: status {done.returncode}\n{done.stdout[-6000:]}{done.stderr[-6000:]}')
        return done.stdout

    def start(self, *flags):
        """The image as `docker run --read-only -v MODELS:/models:ro IMAGE FLAGS` starts it, on ports that are free."""
        free_ports = ('--listen', '0.0.0.0:0', '--metrics-listen', '0.0.0.0:0')
        return sandbox.Sandbox(self.root, [*self.config['Entrypoint'], *flags, *free_ports], user=self.config['User'],
                               models=os.path.dirname(os.environ['MEGAKERNEL_TEST_MODEL']), models_at='/models')

    def model_flags(self):
        return ['--device', 'cpu', '--model', '/models/' + os.path.basename(os.environ['MEGAKERNEL_TEST_MODEL'])]

    def test_size_and_contents(self):
        size = next(image['size'] for image in json.loads(self.buildah('images', '--json'))
                    if IMAGE in (image['names'] or []))
        base = next(image['size'] for image in json.loads(self.buildah('images', '--json'))
                    if 'localhost/base:latest' in (image['names'] or []))
        print(f'image {size}, of which base {base}', flush=True)
        ours = sum(os.path.getsize(os.path.join(self.root, 'usr/bin', name)) for name in
                   ('megakernel', 'megakernel-server'))
        self.assertLess(ours, 48 << 20, 'two programs, stripped')
        for absent in ('usr/bin/g++', 'usr/bin/cmake', 'src', 'usr/lib/x86_64-linux-gnu/libgrpc++.so.1.51'):
            self.assertFalse(os.path.lexists(os.path.join(self.root, absent)), absent)

    def test_serves_as_nobody_from_a_read_only_root(self):
        self.assertEqual(self.config['StopSignal'], 'SIGTERM')
        kind, *health = self.config['Healthcheck']['Test']
        self.assertEqual(kind, 'CMD')
        with self.start(*self.model_flags()) as server:
            self.assertEqual(server.status('Uid').split()[0], self.config['User'].split(':')[0])
            self.assertNotEqual(server.status('Uid').split()[0], '0')
            self.assertEqual(int(server.status('CapEff'), 16), 0)
            self.assertEqual(server.status('NSpid').split()[-1], '1')
            denied = server.run('touch', '/tmp/x', user='0:0')
            self.assertIn('Read-only file system', denied.stderr)
            # The check asks port 50051; here the server has a free one.
            there = ('env', f'MEGAKERNEL_SERVER=127.0.0.1:{server.port}')
            self.assertIn('SERVING', server.await_health(*there, *health))
            done = server.run(*there, 'megakernel', 'generate', '--json', '--temperature', '0', '--max-tokens', '24',
                              'The capital of France is')
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            events = [json.loads(line) for line in done.stdout.splitlines()]
            deltas = [event['delta'] for event in events if 'delta' in event]
            self.assertGreaterEqual(len(deltas), 5, 'streamed, not at once')
            self.assertIn('Paris', ''.join(delta.get('text', '') for delta in deltas))
            self.assertIn('finished', events[-1])
            # Published, as for Prometheus: reachable from outside the container's own addresses.
            port = re.search(r'metrics address=http://0\.0\.0\.0:(\d+)/metrics', server.text()).group(1)
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=sandbox.CALL_LIMIT_S) as page:
                self.assertIn('\nmegakernel_ready 1\n', page.read().decode())
            self.assertEqual(server.stop(signal.SIGTERM), 0, server.text())
            self.assertIn('shutdown done', server.text())

    def test_health_check_of_a_server_that_is_not_there(self):
        with self.start(*self.model_flags()) as server:
            held, address = serving.refused_address()
            with held:
                done = server.run('env', f'MEGAKERNEL_SERVER={address}', *self.config['Healthcheck']['Test'][1:])
            self.assertEqual(done.returncode, 1)

    def test_without_a_model_it_says_what_is_missing(self):
        with self.assertRaisesRegex(AssertionError, r'(?s)status 2.*/models/model\.gguf'):
            with self.start('--device', 'cpu') as server:
                server.await_health(*self.config['Healthcheck']['Test'][1:], '--server', f'127.0.0.1:{server.port}')


if __name__ == '__main__':
    serving.main()
