"""Conversations with tools, tool results, thinking and continuation, through the real programs: a server with a random
tiny Qwen3 that has Qwen3's tokenizer and chat template, against the text that transformers renders
(tests/reference/template_goldens.py). Also: defaults of generation_config.json, and conversations on a session."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

import serving

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
PRESET = os.path.join(ROOT, 'configs/models/qwen3-tiny.json')
GOLDENS = os.path.join(ROOT, 'tests/engine/text/goldens/chat_templates.json')
VOCABULARY = 151936  # Qwen3's
IM_END = 151645
SAMPLING = {'temperature': 0.6, 'top_k': 20, 'top_p': 0.95}  # published with Qwen3


def write_json(folder, name, value):
    path = os.path.join(folder, name)
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(value, file, ensure_ascii=False)
    return path


def make_model(folder, template):
    """A model directory as it would be downloaded; the weights are random and few."""
    with open(PRESET, encoding='utf-8') as file:
        config = json.load(file)
    config.update(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
                  bos_token_id=151643, eos_token_id=IM_END)
    path = write_json(folder, 'made.json', config)
    model = os.path.join(folder, 'model')
    subprocess.run([serving.program('megakernel-bench'), 'make-checkpoint', '--config', path, '--out', model], check=True,
                   stdout=subprocess.DEVNULL, timeout=serving.CALL_LIMIT_S)
    shutil.copy(os.environ['MEGAKERNEL_TEST_TOKENIZER'], os.path.join(model, 'tokenizer.json'))
    write_json(model, 'tokenizer_config.json', {'chat_template': template, 'eos_token': '<|im_end|>'})
    write_json(model, 'generation_config.json', {'do_sample': True, 'eos_token_id': [IM_END, 151643], **SAMPLING})
    return model


class Template(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        with open(GOLDENS, encoding='utf-8') as file:
            cls.goldens = json.load(file)
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = cls.scratch.name
        model = make_model(cls.folder, cls.goldens['sources']['qwen3'])
        cls.server = serving.Server('--device', 'cpu', '--model', model, '--max-context', '4096', '--max-sequences', '2')

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        cls.server.log.close()
        cls.scratch.cleanup()
        if status != 0:
            raise AssertionError(f'the server ended with {status}')

    def json_of(self, *arguments):
        return json.loads(self.server.run(*arguments, '--json').stdout)

    def session_tokens(self, session):
        return self.json_of('session', 'get', session, '--tokens')['token_ids']

    def encode(self, text):
        path = os.path.join(self.folder, 'text')
        with open(path, 'w', encoding='utf-8', newline='') as file:
            file.write(text)
        with open(path, encoding='utf-8', newline='') as file:
            answer = self.server.run('tokenize', '--parse-special', '--json', '-', stdin=file.read()).stdout
        return json.loads(answer).get('token_ids', [])

    def flags_of(self, golden):
        options = self.goldens['options'][golden['options']]
        messages = self.goldens['conversations'][golden['messages']]
        flags = ['--messages', write_json(self.folder, 'messages.json', messages)]
        if 'tools' in options:
            flags += ['--tools', write_json(self.folder, 'tools.json', options['tools'])]
        if 'arguments' in options:
            flags += ['--template-args', json.dumps(options['arguments'])]
        if options.get('continue_final_message'):
            flags.append('--continue-final')
        elif not options.get('add_generation_prompt'):
            flags.append('--no-generation-prompt')
        return flags

    def test_renderings_are_those_of_transformers(self):
        same = refused = 0
        for golden in self.goldens['cases']:
            if golden['template'] != 'qwen3':
                continue
            with self.subTest(golden=golden):
                flags = self.flags_of(golden)
                if 'text' not in golden:
                    done = self.server.run('tokenize', *flags, '--json', expect=1)
                    self.assertIn('INVALID_FIELD', done.stdout)
                    refused += 1
                    continue
                answer = self.json_of('tokenize', *flags)
                self.assertEqual(answer['text'], golden['text'])
                self.assertEqual(answer['token_ids'], self.encode(golden['text']))
                same += 1
        print(f'{same} renderings are those of transformers, {refused} are refused as there')
        self.assertGreaterEqual(same, 80)

    def test_prompt_tokens_are_those_of_the_rendering(self):
        checked = 0
        for golden in self.goldens['cases']:
            if golden['template'] != 'qwen3' or golden['messages'] not in (5, 6) or 'text' not in golden:
                continue
            with self.subTest(golden=golden):
                session = self.server.run('session', 'create').stdout.strip()
                self.server.run('generate', *self.flags_of(golden), '--session', session, '--max-tokens', '1',
                                '--temperature', '0', '--ignore-eos', '--json')
                expected = self.encode(golden['text'])
                self.assertEqual(self.session_tokens(session)[:len(expected)], expected)
                self.server.run('session', 'delete', session)
                checked += 1
        self.assertGreaterEqual(checked, 10)

    def test_a_tool_result_goes_on_a_session(self):
        session = self.server.run('session', 'create').stdout.strip()
        generate = ['generate', '--session', session, '--max-tokens', '3', '--temperature', '0', '--ignore-eos', '--json']
        self.server.run(*generate, '--chat', 'Weather?')
        before = self.session_tokens(session)
        messages = write_json(self.folder, 'result.json', [{'role': 'tool', 'content': '{"temp": 21.5}'}])
        self.server.run(*generate, '--messages', messages, '--template-args', '{"enable_thinking": false}')
        after = self.session_tokens(session)
        added = ('<|im_end|>\n<|im_start|>user\n<tool_response>\n{"temp": 21.5}\n</tool_response><|im_end|>\n'
                 '<|im_start|>assistant\n<think>\n\n</think>\n\n')
        self.assertEqual(after[:len(before)], before)
        self.assertEqual(after[len(before):-3], self.encode(added))

    def test_defaults_are_those_of_generation_config(self):
        model = self.json_of('model')
        for name, value in SAMPLING.items():
            self.assertAlmostEqual(model['default_sampling'][name], value, places=6)
        self.assertEqual(sorted(model['eos_token_ids']), [151643, IM_END])
        self.assertTrue(model['has_chat_template'])

    def test_the_log_says_what_was_loaded(self):
        log = self.server.text().decode()
        for part in ('family=qwen3', 'layers=1 hidden=64 q_heads=4 kv_heads=2 head_dim=128', 'types="BF16:13"',
                     'tensors="'):
            self.assertIn(part, log)


if __name__ == '__main__':
    serving.main()
