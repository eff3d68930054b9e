"""Runs every recipe of clients/tls/README.md with the real programs against servers with TLS and tokens."""

import json
import os
import tempfile
import unittest

import certificates
import recipes
import serving

TOKEN = 'recipe-token-0123456789'


def json_objects(text):
    decoder, found, at = json.JSONDecoder(), [], text.find('{')
    while at >= 0:
        value, end = decoder.raw_decode(text, at)
        found.append(value)
        at = text.find('{', end)
    return found


class TlsRecipes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.blocks = recipes.read('clients/tls/README.md')
        cls.folder = tempfile.TemporaryDirectory()
        authority = certificates.Authority(cls.folder.name)
        certificate, key = authority.issue('server')
        client, client_key = authority.issue('client')
        path = os.path.join(cls.folder.name, 'tokens.json')
        certificates.write(path, json.dumps({'tokens': [{'tenant': 'recipes', 'scopes': ['infer'], 'token': TOKEN}]}))
        flags = ['--tls-cert', certificate, '--tls-key', key, '--auth-tokens', path]
        cls.servers = [serving.Server(*serving.model_flags(), *flags),
                       serving.Server('--device', 'fake', *flags, '--tls-client-ca', authority.certificate)]
        cls.environment = {
            'CA': authority.certificate, 'CERT': client, 'KEY': client_key, 'MUTUAL_SERVER': cls.servers[1].address,
            'TOKEN_FILE': certificates.write(os.path.join(cls.folder.name, 'token'), TOKEN + '\n'),
            'PATH': ':'.join([os.environ['MEGAKERNEL_BIN'], os.environ['MEGAKERNEL_TOOLS'], os.environ['PATH']])}

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            status = server.stop()
            server.log.close()
            if status != 0:
                raise AssertionError(f'the server ended with {status}')
        cls.folder.cleanup()

    def output(self, name):
        return recipes.run(self.blocks[name], self.servers[0].address, self.environment)

    def test_every_recipe_is_tested(self):
        tested = {name[len('test_recipe_'):].replace('_', '-') for name in dir(self) if name.startswith('test_recipe_')}
        self.assertEqual(tested, set(self.blocks))

    def test_recipe_megakernel(self):
        out = self.output('megakernel')
        self.assertEqual(json.loads(out.splitlines()[0])['family'], 'llama')
        self.assertGreater(len(out.splitlines()), 1)

    def test_recipe_grpcurl_unary(self):
        self.assertEqual(json_objects(self.output('grpcurl-unary'))[0]['token_ids'], [19556, 28, 905])

    def test_recipe_grpcurl_stream(self):
        out = self.output('grpcurl-stream')
        self.assertIn('"finished"', out)
        self.assertIn('Paris', out)

    def test_recipe_grpcurl_health(self):
        self.assertEqual(json_objects(self.output('grpcurl-health')), [{'status': 'SERVING'}])

    def test_recipe_grpcurl_refused(self):
        missing, invalid = json_objects(self.output('grpcurl-refused'))
        self.assertEqual((missing['code'], missing['details'][0]['reason']), (16, 'TOKEN_MISSING'))
        self.assertEqual((invalid['code'], invalid['details'][0]['reason']), (16, 'TOKEN_INVALID'))

    def test_recipe_ghz_unary(self):
        self.assertEqual(json.loads(self.output('ghz-unary'))['statusCodeDistribution'], {'OK': 500})

    def test_recipe_ghz_stream(self):
        self.assertEqual(json.loads(self.output('ghz-stream'))['statusCodeDistribution'], {'OK': 16})

    def test_recipe_mutual(self):
        out = self.output('mutual')
        self.assertIn('"instance_id"', out)
        self.assertIn('"token_ids"', out)
        self.assertNotIn('"SERVING"', out)


if __name__ == '__main__':
    serving.main()
