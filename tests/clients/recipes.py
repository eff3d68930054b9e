"""Reads and runs the recipes in a README: each `### name` section has one bash block. Standard library only."""

import os
import re
import subprocess
import unittest

import serving

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')


def read(path):
    """The blocks of the file, relative to the root of the tree, by the name of their section."""
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        text = file.read()
    blocks = {}
    for section in re.split(r'^### ', text, flags=re.MULTILINE)[1:]:
        name, body = section.split('\n', 1)
        found = re.findall(r'^```bash\n(.*?)^```', body, flags=re.MULTILINE | re.DOTALL)
        if len(found) != 1 or name in blocks:
            raise AssertionError(f'{path}: section {name} must have a name of its own and one bash block')
        blocks[name] = found[0]
    return blocks


def run(block, address, variables=None):
    """Runs a block as a person would paste it; returns what it printed. It must succeed."""
    environment = dict(os.environ, SERVER=address, PATH=os.environ['MEGAKERNEL_TOOLS'] + ':' + os.environ['PATH'])
    environment.update(variables or {})
    done = subprocess.run(['bash', '-euo', 'pipefail', '-c', block], env=environment, capture_output=True, text=True,
                          timeout=serving.CALL_LIMIT_S)
    if done.returncode != 0:
        raise AssertionError(f'status {done.returncode} of\n{block}\n{done.stdout}{done.stderr}')
    return done.stdout + done.stderr


class RecipeTest(unittest.TestCase):
    """Tests of the recipes on `page`, against one server for all of them that must end with status 0."""

    page = None

    @classmethod
    def setUpClass(cls):
        cls.blocks = read(cls.page)
        cls.server = serving.Server(*serving.model_flags())

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        cls.server.log.close()
        if status != 0:
            raise AssertionError(f'the server ended with {status}')
