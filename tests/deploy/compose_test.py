"""deploy/compose.yaml and what it mounts: valid, complete, and of one mind about names, ports and paths.

Needs docker-compose and PyYAML (`deploy/setup.sh deploy`); no engine runs, nothing is pulled.
"""

import json
import os
import re
import subprocess
import sys
import unittest

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'clients'))
import serving  # noqa: E402

DEPLOY = os.path.join(ROOT, 'deploy')
COMPOSE = os.path.join(DEPLOY, 'compose.yaml')
LIMIT_S = 60


def resolved(*files, text=None):
    """What docker-compose understands; with `text`, that in place of a file."""
    command = ['docker-compose', *(part for file in files for part in ('--file', file)), 'config']
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=LIMIT_S, cwd=DEPLOY)


def configuration(name):
    """A JSON file with comments, as the server reads it."""
    with open(os.path.join(DEPLOY, name)) as file:
        return json.loads(re.sub(r'(?m)^\s*//.*$', '', file.read()))


class Compose(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        done = resolved(COMPOSE)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        cls.services = yaml.safe_load(done.stdout)['services']

    def mounts(self, service):
        """{path inside: path here} of what is mounted from here."""
        pairs = (mount.split(':')[:2] for mount in self.services[service]['volumes'])
        return {inside: here for here, inside in pairs if here.startswith('/')}

    def mounted(self, service, path):
        """The file of this checkout that the service sees at the path."""
        for inside, here in self.mounts(service).items():
            if path == inside or path.startswith(inside + '/'):
                return here + path[len(inside):]
        raise AssertionError(f'{service} sees nothing of this checkout at {path}')

    def load(self, service, path):
        with open(self.mounted(service, path)) as file:
            return yaml.safe_load(file)

    def test_a_wrong_file_is_refused(self):
        with open(COMPOSE) as file:
            text = file.read()
        self.assertEqual(resolved('-', text=text).returncode, 0)
        wrong = resolved('-', text=text.replace('read_only: true', 'read_onyl: true'))
        self.assertNotEqual(wrong.returncode, 0)
        self.assertIn('read_onyl', wrong.stderr)

    def test_with_a_gpu(self):
        done = resolved(COMPOSE, os.path.join(DEPLOY, 'compose.gpu.yaml'))
        self.assertEqual(done.returncode, 0, done.stderr)
        server = yaml.safe_load(done.stdout)['services']['megakernel']
        self.assertEqual(server['build']['args'], {'CUDA': 'ON'})
        with open(os.path.join(DEPLOY, 'Dockerfile')) as file:
            self.assertIn('\nARG CUDA=', file.read())

    def test_every_file_is_there(self):
        for service in self.services:
            for inside, here in self.mounts(service).items():
                if inside == '/models':  # fetched by deploy/fetch_model.sh
                    continue
                self.assertTrue(os.path.isfile(here), f'{service} mounts {here}, which is no file')
        build = self.services['megakernel']['build']
        self.assertTrue(os.path.isfile(os.path.join(build['context'], build['dockerfile'])))

    def test_versions_are_pinned_and_ports_are_not_open_to_others(self):
        for name, service in self.services.items():
            if 'build' not in service:
                self.assertRegex(service['image'], r':v?\d+\.\d+\.\d+$', name)
            for port in service.get('ports', []):
                self.assertRegex(str(port), r'^127\.0\.0\.1:', name)

    def test_prometheus_finds_the_server(self):
        config = self.load('prometheus', '/etc/prometheus/prometheus.yml')
        targets = [target for job in config['scrape_configs'] for entry in job['static_configs']
                   for target in entry['targets']]
        listen = configuration('container/megakernel.json')['server']['metrics_listen']
        self.assertEqual(targets, ['megakernel:' + listen.rsplit(':', 1)[1]])
        self.assertIn('megakernel', self.services)
        for rules in config['rule_files']:
            self.assertTrue(self.load('prometheus', rules)['groups'])

    def test_grafana_shows_what_prometheus_has(self):
        sources = self.load('grafana', '/etc/grafana/provisioning/datasources/megakernel.yaml')['datasources']
        self.assertEqual([source['url'] for source in sources], ['http://prometheus:9090'])
        self.assertIn('prometheus', self.services)
        provider, = self.load('grafana', '/etc/grafana/provisioning/dashboards/megakernel.yaml')['providers']
        shown = [inside for inside in self.mounts('grafana') if inside.startswith(provider['options']['path'] + '/')]
        self.assertTrue(shown, 'no dashboard is mounted where Grafana looks')
        for path in shown:
            dashboard = self.load('grafana', path)
            used = set(re.findall(r'"datasource": \{[^}]*"uid": "([^"]*)"', json.dumps(dashboard)))
            self.assertTrue(used, f'{path} names no data source')
            self.assertLessEqual(used - {'-- Grafana --', '${datasource}'}, {sources[0]['uid']})
            self.assertTrue(dashboard['panels'])


if __name__ == '__main__':
    serving.main()
