"""The .deb and the archive that CPack makes: installed into a bare system, started, removed without a trace.

In the environment: MEGAKERNEL_BASE, the archive of a bare system (deploy/debian_base.sh); MEGAKERNEL_PACKAGES, the folder
with the packages; MEGAKERNEL_TEST_MODEL.
"""

import configparser
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'clients'))
import sandbox  # noqa: E402
import serving  # noqa: E402

STEP_LIMIT_S = 120
EXPOSURE_LIMIT = 2.0  # of 10, in systemd-analyze's measure; below 2 it says "OK"
UNIT = '/usr/lib/systemd/system/megakernel.service'
GLIBC = {'linux-vdso.so.1', 'libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', 'librt.so.1',
         'ld-linux-x86-64.so.2'}


def package(pattern):
    found = glob.glob(os.path.join(os.environ['MEGAKERNEL_PACKAGES'], pattern))
    if len(found) != 1:
        raise AssertionError(f'{pattern}: there should be one: {found}')
    return found[0]


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        sandbox.check_privileges()
        os.makedirs(os.path.join(ROOT, 'build', 'deploy'), exist_ok=True)
        cls.work = tempfile.mkdtemp(prefix='package.', dir=os.path.join(ROOT, 'build', 'deploy'))
        cls.addClassCleanup(shutil.rmtree, cls.work, ignore_errors=True)
        cls.root = cls.work + '/root'
        os.mkdir(cls.root)
        subprocess.run(['tar', '-C', cls.root, '--numeric-owner', '-xpf', os.environ['MEGAKERNEL_BASE']], check=True,
                       timeout=STEP_LIMIT_S)
        os.remove(cls.root + '/etc/dpkg/dpkg.cfg.d/slim')  # here documentation is installed, too
        # What a system that is not bare has: the targets that a service refers to.
        shutil.copytree('/usr/lib/systemd/system', cls.root + '/usr/lib/systemd/system', symlinks=True,
                        dirs_exist_ok=True)
        cls.models = os.path.dirname(os.environ['MEGAKERNEL_TEST_MODEL'])

    def inside(self, *command, expect=0):
        """A command as root in the bare system; returns what it printed."""
        done = subprocess.run(['chroot', self.root, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=STEP_LIMIT_S,
                              env={'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'DEBIAN_FRONTEND': 'noninteractive'})
        self.assertEqual(done.returncode, expect, f'{command}: {done.stdout}')
        return done.stdout

    def files(self):
        """Every file of the system but dpkg's own records."""
        found = set()
        for folder, folders, names in os.walk(self.root):
            found.update(os.path.join(folder, name)[len(self.root):] for name in folders + names)
        return {name for name in found if not name.startswith(('/var/lib/dpkg/', '/var/log/', '/var/cache/'))}

    def exec_start(self):
        """The unit's command line, word by word."""
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str
        unit.read(self.root + UNIT)
        return unit['Service']['ExecStart'].split()

    def assert_serves(self, server, client):
        """Healthy, streams a reply, ends well when told to."""
        there = ('--server', f'127.0.0.1:{server.port}')
        server.await_health(client, 'health', *there)
        done = server.run(client, 'generate', *there, '--json', '--temperature', '0', '--max-tokens', '16',
                          'The capital of France is')
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        deltas = [event['delta'] for event in map(json.loads, done.stdout.splitlines()) if 'delta' in event]
        self.assertGreaterEqual(len(deltas), 4, 'streamed, not at once')
        self.assertIn('Paris', ''.join(delta.get('text', '') for delta in deltas))
        self.assertEqual(server.stop(), 0, server.text())

    def assert_needs_only_glibc(self, *programs):
        for program in programs:
            needed = set(re.findall(r'^\s*(?:\S*/)?([^\s/]+\.so[.\d]*)', self.inside('ldd', program), re.MULTILINE))
            self.assertLessEqual(needed, GLIBC, program)

    def test_deb(self):
        before = self.files()
        shutil.copy(package('megakernel_*.deb'), self.root + '/package.deb')
        self.inside('dpkg', '--install', '/package.deb')
        os.remove(self.root + '/package.deb')
        self.assertRegex(self.inside('megakernel-server', '--version'), r'^megakernel-server \d+\.\d+\.\d+\n$')
        self.assertEqual(self.inside('dpkg', '--verify', 'megakernel'), '')
        self.assertIn('/etc/megakernel/megakernel.json', self.inside('dpkg-query', '-W', '-f=${Conffiles}', 'megakernel'))
        self.assert_needs_only_glibc('/usr/bin/megakernel-server', '/usr/bin/megakernel')
        self.check_unit()
        self.run_exec_start()
        self.inside('dpkg', '--remove', 'megakernel')
        self.assertEqual(self.files() - before,
                         {'/etc/megakernel', '/etc/megakernel/megakernel.json', '/var/lib/megakernel'})
        self.inside('dpkg', '--purge', 'megakernel')
        self.assertEqual(self.files() - before, set())
        self.assertEqual(before - self.files(), set())

    def check_unit(self):
        verified = subprocess.run(['systemd-analyze', 'verify', '--man=no', f'--root={self.root}', UNIT],
                                  capture_output=True, text=True, timeout=STEP_LIMIT_S)
        self.assertEqual((verified.returncode, verified.stdout + verified.stderr), (0, ''))
        judged = subprocess.run(['systemd-analyze', 'security', '--offline=true', f'--root={self.root}', '--no-pager',
                                 f'--threshold={EXPOSURE_LIMIT * 10:.0f}', UNIT], capture_output=True, text=True,
                                timeout=STEP_LIMIT_S)
        overall = judged.stdout.strip().splitlines()[-1] if judged.stdout.strip() else ''
        print(f'{overall.strip()} (threshold {EXPOSURE_LIMIT})', flush=True)
        self.assertEqual(judged.returncode, 0, judged.stdout + judged.stderr)
        self.assertRegex(overall, r'exposure level for megakernel\.service: \d')

    def run_exec_start(self):
        """The unit's command with the default configuration, on ports that are free."""
        os.makedirs(self.root + '/srv/megakernel')
        os.link(os.path.join(self.models, os.path.basename(os.environ['MEGAKERNEL_TEST_MODEL'])),
                self.root + '/srv/megakernel/model.gguf')
        # The service is promised no memory both writable and executable; where the kernel can, that is so here.
        try:
            subprocess.run(['true'], check=True, preexec_fn=sandbox.deny_write_execute)
            deny = sandbox.deny_write_execute
        except subprocess.SubprocessError:
            print('this kernel cannot deny writable and executable memory (Linux 6.3 can): not tried')
            deny = None
        os.makedirs(self.root + '/var/lib/megakernel')  # systemd makes it: StateDirectory
        free_ports = ('--listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0')
        with sandbox.Sandbox(self.root, [*self.exec_start(), *free_ports], state_at='/var/lib/megakernel',
                             before_exec=deny) as server:
            self.assertIn('/srv/megakernel/model.gguf', server.text() + server.await_health(
                'megakernel', 'health', '--server', f'127.0.0.1:{server.port}') + server.text())
            self.assert_serves(server, 'megakernel')
        shutil.rmtree(self.root + '/srv/megakernel')

    def test_archive(self):
        archive = package('megakernel-*.tar.gz')
        folder = '/opt/' + os.path.basename(archive)[:-len('.tar.gz')]
        subprocess.run(['tar', '-C', self.root + '/opt', '-xzf', archive], check=True, timeout=STEP_LIMIT_S)
        self.assertRegex(self.inside(folder + '/bin/megakernel-server', '--version'), r'^megakernel-server \d')
        self.assert_needs_only_glibc(folder + '/bin/megakernel-server', folder + '/bin/megakernel')
        for name in ('share/megakernel/systemd/megakernel.service', 'share/megakernel/systemd/megakernel.json',
                     'share/megakernel/configs/server/local.json', 'share/doc/megakernel/LICENSE'):
            self.assertTrue(os.path.isfile(self.root + folder + '/' + name), name)
        os.makedirs(self.root + '/models')
        command = [folder + '/bin/megakernel-server', '--config', folder + '/share/megakernel/configs/server/local.json',
                   '--device', 'cpu', '--model', '/models/' + os.path.basename(os.environ['MEGAKERNEL_TEST_MODEL']),
                   '--listen', '127.0.0.1:0']
        with sandbox.Sandbox(self.root, command, models=self.models, models_at='/models') as server:
            self.assert_serves(server, folder + '/bin/megakernel')
        shutil.rmtree(self.root + folder)
        os.rmdir(self.root + '/models')


if __name__ == '__main__':
    serving.main()
