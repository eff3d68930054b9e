"""The `megakernel` program against real servers: the fake device, and the default model on the CPU."""

import json
import signal
import subprocess
import unittest

import serving


def objects(text):
    """One JSON object per line."""
    return [json.loads(line) for line in text.splitlines()]


def deltas(events, field):
    return [event['delta'][field] for event in events if 'delta' in event]


class CommandLine(unittest.TestCase):
    """Mistakes that are found before anything is sent: status 2, and a message that names the culprit."""

    MISTAKES = [
        (['genrate'], "unknown command 'genrate'; did you mean generate?"),
        (['generate', 'hi', '--max-token', '3'], 'unknown flag --max-token; did you mean --max-tokens?'),
        (['generate', 'hi', '-n', '3'], 'unknown flag -n'),
        (['generate', 'hi', 'there'], "unexpected argument 'there'; quote text that has spaces"),
        (['generate', 'hi', '--max-tokens'], '--max-tokens needs a value'),
        (['generate', 'hi', '--max-tokens', 'many'], "--max-tokens: expected a whole number, got 'many'"),
        (['generate', 'hi', '--temperature', 'hot'], "--temperature: expected a number, got 'hot'"),
        (['generate', 'hi', '--logit-bias', '5'], "--logit-bias: expected TOKEN_ID=NUMBER, got '5'"),
        (['generate', 'hi', '--stop-token-ids', 'a,b'], '--stop-token-ids: expected whole numbers'),
        (['generate', 'hi', '--message', 'hello'], '--message: expected ROLE=TEXT'),
        (['generate', '--messages', '/nowhere/talk.json'], "--messages: cannot read '/nowhere/talk.json'"),
        (['generate', '--messages', '/dev/null'], '--messages: expected a JSON list'),
        (['generate', 'hi', '--tools', '/nowhere/tools.json'], "--tools: cannot read '/nowhere/tools.json'"),
        (['generate', 'hi', '--tools', '/'], "--tools: cannot read '/'"),
        (['generate', 'hi', '--template-args', '[1]'], '--template-args: expected a JSON object'),
        (['chat', '--template-args', 'enable_thinking'], '--template-args: expected a JSON object'),
        (['generate', 'hi', '--ignore-eos=yes'], '--ignore-eos takes no value'),
        (['generate', 'hi', '--timeout', '-1'], '--timeout: expected seconds above 0'),
        (['generate', 'hi', '--tokens', '1,2'], '--tokens stands for the whole prompt'),
        (['generate', '--chat', ''], '--chat needs a PROMPT'),
        (['session'], 'say what to do: create, get, list, fork, rollback, delete'),
        (['session', 'destroy', 'x'], "unknown action 'destroy'"),
        (['session', 'get'], 'write: megakernel session get ID'),
        (['session', 'rollback', 'x', 'three'], 'LENGTH: expected a whole number'),
        (['session', 'fork', 'x', '--length', 'all'], '--length: expected a whole number'),
        (['detokenize', 'five'], 'expected whole numbers separated by commas'),
        (['model', 'now'], "unexpected argument 'now'"),
        (['health', '--wacth'], 'unknown flag --wacth; did you mean --watch?'),
        (['chat', '--sytem', 'x'], 'unknown flag --sytem; did you mean --system?'),
    ]

    def run_alone(self, *arguments, stdin=''):
        return subprocess.run([serving.program('megakernel'), *arguments], input=stdin, capture_output=True, text=True,
                              timeout=serving.CALL_LIMIT_S)

    def test_mistakes(self):
        with serving.Server('--device', 'fake') as server:
            for arguments, message in self.MISTAKES:
                with self.subTest(arguments=arguments):
                    if arguments[0] in ('session', 'detokenize'):  # these look at their arguments last
                        arguments = [*arguments, '--server', server.address]
                    done = self.run_alone(*arguments)
                    self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
                    self.assertIn(message, done.stderr)
                    self.assertEqual(done.stdout, '')

    def test_not_utf8(self):
        done = subprocess.run([serving.program('megakernel'), 'generate', '-'], input=b'\xff\xfe', capture_output=True,
                              timeout=serving.CALL_LIMIT_S)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b'the text is not UTF-8', done.stderr)

    def test_help(self):
        overview = self.run_alone('--help')
        self.assertEqual(overview.returncode, 0)
        for command in ['generate', 'chat', 'session', 'tokenize', 'detokenize', 'model', 'health']:
            self.assertIn(f'\n  {command} ', overview.stdout)
            page = self.run_alone(command, '--help')
            self.assertEqual((page.returncode, page.stderr), (0, ''))
            self.assertTrue(page.stdout.startswith(f'Usage: megakernel {command} '))
            for part in ['Examples:', '--server HOST:PORT', '--json', f'megakernel {command}']:
                self.assertIn(part, page.stdout)
            self.assertEqual(page.stdout, self.run_alone(command, '-h').stdout)
        self.assertEqual(self.run_alone().returncode, 2)

    def test_nobody_listens(self):
        held, address = serving.refused_address()
        with held:
            for arguments in (['generate', 'hi'], ['model'], ['health'], ['session', 'list'], ['chat', 'hi']):
                with self.subTest(arguments=arguments):
                    done = serving.run('--server', address, *arguments, expect=1)
                    self.assertIn(f'cannot connect to {address}', done.stderr)
                    self.assertIn('megakernel-server --model PATH', done.stderr)
            error = objects(serving.run('--server', address, 'model', '--json', expect=1).stdout)[0]['error']
            self.assertEqual(error['code'], 'UNAVAILABLE')
            self.assertIn('--server HOST:PORT', error['hint'])


class Behaviour:
    """What holds on every device. Subclasses say which."""

    FLAGS = []

    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server(*cls.FLAGS)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f'the server ended with {status}:\n{cls.server.text().decode()}')

    def generate(self, *arguments, **options):
        return self.server.run('generate', *arguments, **options)

    def events(self, *arguments, **options):
        return objects(self.generate('--json', *arguments, **options).stdout)

    def test_model(self):
        model = objects(self.server.run('model', '--json').stdout)[0]
        self.assertGreater(model['vocab_size'], 0)
        self.assertGreater(model['max_context'], 0)
        self.assertIn('stopping.max_tokens', model['capabilities']['parameters'])
        page = self.server.run('model').stdout
        self.assertIn(model['name'], page)
        self.assertIn(f"{model['max_context']} tokens", page)

    def test_health(self):
        self.assertEqual(self.server.run('health').stdout, 'SERVING\n')
        self.assertEqual(objects(self.server.run('health', '--json', '--wait').stdout), [{'status': 'SERVING'}])
        self.server.run('health', '--service', 'megakernel.v1.InferenceService')
        self.assertEqual(self.server.run('health', '--service', 'nobody', expect=1).stdout, 'SERVICE_UNKNOWN\n')
        watch = self.server.start('health', '--watch')
        self.assertEqual(watch.stdout.readline(), 'SERVING\n')
        watch.send_signal(signal.SIGINT)
        watch.communicate(timeout=serving.CALL_LIMIT_S)

    def test_tokens_and_back(self):
        for text in ['Hello, world', 'Grüße, 世界 \U0001f600', '  two  spaces\nand a line ']:
            ids = self.server.run('tokenize', text).stdout
            self.assertEqual(self.server.run('detokenize', stdin=ids).stdout, text + '\n')
            self.assertEqual(self.server.run('tokenize', stdin=text).stdout, ids)
            self.assertEqual(self.server.run('detokenize', *ids.split()).stdout, text + '\n')

    def test_text_is_what_the_ids_say(self):
        flags = ['Once upon a time', '--max-tokens', '12', '--temperature', '0', '--ignore-eos']
        ids = self.generate(*flags, '--no-text').stdout.split()
        self.assertEqual(len(ids), 12)
        text = self.generate(*flags, '--no-skip-special-tokens').stdout
        self.assertEqual(text.rstrip('\n'), self.server.run('detokenize', *ids).stdout.rstrip('\n'))
        self.assertEqual(self.generate('-', *flags[1:], stdin=flags[0], ).stdout, self.generate(*flags).stdout)
        prompt = self.server.run('tokenize', flags[0]).stdout.replace(' ', ',').strip()
        self.assertEqual(self.generate('--tokens', prompt, *flags[1:], '--no-text').stdout.split(), ids)

    def test_events(self):
        events = self.events('Once', '--max-tokens', '5', '--ignore-eos', '--stats', '--seed', '3')
        self.assertEqual([next(iter(event)) for event in events[:1] + events[-2:]], ['started', 'finished', 'stats'])
        ids = sum(deltas(events, 'token_ids'), [])
        self.assertEqual(len(ids), 5)
        finished = events[-2]['finished']
        self.assertEqual(finished['reason'], 'FINISH_REASON_LENGTH')
        self.assertEqual(finished['usage']['completion_tokens'], 5)
        self.assertEqual(events[0]['started']['seed'], '3')
        self.assertEqual(events[-1]['stats']['tokens'], 5)
        self.assertGreater(events[-1]['stats']['first_token_ms'], 0)

    def test_a_seed_repeats_and_sequences_count_from_it(self):
        flags = ['Once', '--max-tokens', '8', '--ignore-eos', '--temperature', '1']
        alone = [sum(deltas(self.events(*flags, '--seed', str(seed)), 'token_ids'), []) for seed in (5, 6)]
        self.assertEqual(sum(deltas(self.events(*flags, '--seed', '5'), 'token_ids'), []), alone[0])
        together = self.events(*flags, '--seed', '5', '--num-sequences', '2')
        for index in (0, 1):
            ids = [event['delta']['token_ids'] for event in together
                   if 'delta' in event and event['delta']['index'] == index]
            self.assertEqual(sum(ids, []), alone[index])
        page = self.generate(*flags, '--seed', '5', '--num-sequences', '2').stdout
        self.assertIn('[0] ', page)
        self.assertIn('[1] ', page)

    def test_stats_go_to_stderr(self):
        done = self.generate('Once', '--max-tokens', '6', '--ignore-eos', '--stats')
        self.assertRegex(done.stderr, r'^\[first token \d+\.\d ms, 6 tokens, \d+\.\d tokens/s\]\n$')
        self.assertEqual(self.generate('Once', '--max-tokens', '2').stderr, '')

    def test_sessions(self):
        session = self.server.run('session', 'create').stdout.strip()
        self.generate('Once upon a time', '--session', session, '--max-tokens', '4', '--ignore-eos')
        state = objects(self.server.run('session', 'get', session, '--tokens', '--json').stdout)[0]
        length = state['session']['length']
        self.assertEqual(length, len(state['token_ids']))
        fork = self.server.run('session', 'fork', session, '--length', str(length - 2)).stdout.strip()
        listed = {entry['session_id']: entry for entry in objects(self.server.run('session', 'list', '--json').stdout)}
        self.assertEqual(listed[fork]['length'], length - 2)
        self.assertEqual(listed[fork]['parent_session_id'], session)
        self.assertIn(session, self.server.run('session', 'list').stdout)
        rolled = self.server.run('session', 'rollback', session, '2').stdout
        self.assertRegex(rolled, rf'{session} +2 ')
        # Without a prompt the session's own tokens are continued.
        continued = self.events('--session', fork, '--max-tokens', '2', '--ignore-eos', '--temperature', '0')
        self.assertEqual(continued[0]['started']['prompt_tokens'], length - 2)
        wrong = self.generate('x', '--session', fork, '--expected-length', '1', expect=1)
        self.assertIn('ABORTED (LENGTH_MISMATCH)', wrong.stderr)
        self.server.run('session', 'delete', session, fork)
        gone = self.server.run('session', 'get', session, expect=1)
        self.assertIn('NOT_FOUND (SESSION_NOT_FOUND)', gone.stderr)
        self.assertIn('Check the session id', gone.stderr)
        error = self.events('x', '--session', session, expect=1)[-1]['error']
        self.assertEqual((error['code'], error['reason']), ('NOT_FOUND', 'SESSION_NOT_FOUND'))

    def test_refusals_name_the_field(self):
        for flags, field in [(['--top-p', '2'], 'sampling.top_p'), (['--max-tokens', '0'], 'stopping.max_tokens'),
                             (['--num-sequences', '99'], 'num_sequences'), (['--stop', ''], 'stopping.stop')]:
            with self.subTest(flags=flags):
                error = self.events('Once', *flags, expect=1)[-1]['error']
                self.assertEqual(error['code'], 'INVALID_ARGUMENT', error)
                self.assertIn(field, error['field'])
                self.assertIn(error['field'], error['hint'])

    def test_too_long(self):
        model = objects(self.server.run('model', '--json').stdout)[0]
        error = self.events('Once', '--max-tokens', str(model['max_context'] + 1), expect=1)[-1]['error']
        self.assertEqual((error['code'], error['reason']), ('INVALID_ARGUMENT', 'CONTEXT_EXCEEDED'))
        self.assertIn('--max-context', error['hint'])

    def test_deadline(self):
        done = self.generate('Once', '--max-tokens', '1000', '--ignore-eos', '--timeout', '0.2', '--json', expect=1)
        self.assertEqual(objects(done.stdout)[-1]['error']['code'], 'DEADLINE_EXCEEDED')

    def test_ctrl_c(self):
        client = self.server.start('generate', 'Once', '--max-tokens', '1000', '--ignore-eos', '--json')
        while 'delta' not in json.loads(client.stdout.readline()):
            pass
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=serving.CALL_LIMIT_S)
        self.assertEqual(client.returncode, 130)
        self.generate('Once', '--max-tokens', '2')


class FakeDevice(Behaviour, unittest.TestCase):
    # A step takes long enough that a thousand of them do not end by themselves before a deadline or a signal.
    FLAGS = ['--device', 'fake', '--fake-step-time', '2ms']

    def test_what_the_device_cannot_do_is_refused(self):
        error = self.events('Once', '--repetition-penalty', '1.1', expect=1)[-1]['error']
        self.assertEqual((error['code'], error['field']), ('UNIMPLEMENTED', 'sampling.repetition_penalty'))
        self.assertIn('Leave sampling.repetition_penalty out', error['hint'])

    def test_the_server_goes_away(self):
        with serving.Server(*self.FLAGS) as server:
            client = server.start('generate', 'Once', '--max-tokens', '2000', '--ignore-eos', '--json')
            while 'delta' not in json.loads(client.stdout.readline()):
                pass
            server.kill()
            out, _ = client.communicate(timeout=serving.CALL_LIMIT_S)
            self.assertEqual(client.returncode, 1)
            error = objects(out)[-1]['error']
            self.assertEqual(error['code'], 'UNAVAILABLE')
            self.assertIn('Check that megakernel-server runs', error['hint'])


class RealModel(Behaviour, unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.FLAGS = serving.model_flags()
        super().setUpClass()

    def test_it_knows_something(self):
        text = self.generate('The capital of France is', '--temperature', '0', '--max-tokens', '8').stdout
        self.assertIn('Paris', text)

    def test_conversation(self):
        text = self.generate('--chat', 'What is the capital of France? Answer in one sentence.', '--temperature', '0',
                             '--max-tokens', '40').stdout
        self.assertIn('Paris', text)
        rendered = self.server.run('tokenize', '--system', 'Be brief.', '--show-text', 'Hi').stdout
        self.assertIn('<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>', rendered)

    def test_stop_text(self):
        text = self.generate('1, 2, 3, 4, 5,', '--temperature', '0', '--stop', '8', '--max-tokens', '40').stdout
        self.assertNotIn('8', text)
        self.assertIn('7', text)


if __name__ == '__main__':
    serving.main()
