"""Certificates for tests, made by openssl: an authority, servers and clients of it. Standard library only."""

import os
import subprocess


class Authority:
    """An authority whose files are in `folder`."""

    def __init__(self, folder, name='ca'):
        self.folder = folder
        self.name = name
        self.certificate = self._path(name + '.pem')
        self._openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30',
                      '-subj', '/CN=' + name, '-keyout', self._path(name + '.key'), '-out', self.certificate)

    def issue(self, name, days=30):
        """(certificate, key) of `name`, for 127.0.0.1 and localhost; negative days: it has expired."""
        key, request, extensions = (self._path(name + suffix) for suffix in ('.key', '.csr', '.ext'))
        certificate = self._path(name + '.pem')
        with open(extensions, 'w', encoding='ascii') as file:
            file.write('subjectAltName=DNS:localhost,IP:127.0.0.1\n')
        self._openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=' + name,
                      '-keyout', key, '-out', request)
        self._openssl('x509', '-req', '-in', request, '-CA', self.certificate, '-CAkey', self._path(self.name + '.key'),
                      '-CAcreateserial', '-days', str(days), '-extfile', extensions, '-out', certificate)
        os.chmod(key, 0o600)
        return certificate, key

    def _path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def _openssl(*arguments):
        done = subprocess.run(['openssl', *arguments], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise AssertionError(f'openssl {arguments[0]}: {done.stderr}')


def write(path, text, mode=0o600):
    """Replaces the file in one moment, as operators' tools do."""
    with open(path + '.next', 'w', encoding='utf-8') as file:
        file.write(text)
    os.chmod(path + '.next', mode)
    os.replace(path + '.next', path)
    return path
