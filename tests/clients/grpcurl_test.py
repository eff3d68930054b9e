"""Runs every recipe of clients/grpcurl/README.md with the real grpcurl against the default model on the CPU."""

import json

import recipes
import serving


def objects(text):
    """The JSON objects in the output, in order; what is not JSON is skipped."""
    decoder = json.JSONDecoder()
    found = []
    at = text.find('{')
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
            found.append(value)
        except json.JSONDecodeError:
            end = at + 1
        at = text.find('{', end)
    return found


def tokens(events):
    return sum((event['delta'].get('token_ids', []) for event in events if 'delta' in event), [])


class Grpcurl(recipes.RecipeTest):
    page = 'clients/grpcurl/README.md'

    def output(self, name):
        return recipes.run(self.blocks[name], self.server.address)

    def objects(self, name):
        return objects(self.output(name))

    def test_every_recipe_is_tested(self):
        tested = {name[len('test_recipe_'):].replace('_', '-') for name in dir(self) if name.startswith('test_recipe_')}
        self.assertEqual(tested, set(self.blocks))

    def test_recipe_list(self):
        out = self.output('list')
        for name in ['megakernel.v1.InferenceService', 'megakernel.v1.SessionService', 'grpc.health.v1.Health',
                     'megakernel.v1.InferenceService.Generate', 'megakernel.v1.InferenceService.Decode']:
            self.assertIn(name + '\n', out)

    def test_recipe_describe(self):
        out = self.output('describe')
        self.assertIn('rpc Generate ( .megakernel.v1.GenerateRequest ) returns ( stream .megakernel.v1.GenerateResponse )',
                      out)
        self.assertIn('optional float temperature = 1;', out)
        self.assertIn('"session_id"', out)

    def test_recipe_model(self):
        model = self.objects('model')[0]
        self.assertEqual(model['family'], 'llama')
        self.assertEqual(model['vocab_size'], 49152)
        self.assertIn('sampling.top_p', model['capabilities']['parameters'])

    def test_recipe_health_check(self):
        self.assertEqual(self.objects('health-check'), [{'status': 'SERVING'}] * 2)

    def test_recipe_health_watch(self):
        out = self.output('health-watch')
        self.assertEqual(objects(out), [{'status': 'SERVING'}])
        self.assertIn('DeadlineExceeded', out)

    def test_recipe_metadata(self):
        out = self.output('metadata')
        sent = out.split('Request metadata to send:')[1].split('Response headers received:')[0]
        self.assertIn('traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', sent)
        received = out.split('Response headers received:')[1]
        self.assertIn('content-type: application/grpc', received)
        self.assertIn('Response trailers received:', received)
        self.assertIn('Sent 1 request and received', received)
        self.assertEqual(objects(received)[-1]['finished']['usage']['completion_tokens'], 1)

    def test_recipe_tokenize(self):
        text, chat = self.objects('tokenize')
        self.assertEqual(text['text'], 'Hello, world')
        self.assertEqual(text['token_ids'], [19556, 28, 905])
        self.assertIn('<|im_start|>user\nHello<|im_end|>', chat['text'])

    def test_recipe_detokenize(self):
        self.assertEqual(self.objects('detokenize'), [{'text': 'Hello, world'}])

    def test_recipe_generate_text(self):
        events = self.objects('generate-text')
        self.assertEqual(events[0]['started']['prompt_tokens'], 5)
        self.assertIn('Paris', ''.join(event['delta'].get('text', '') for event in events if 'delta' in event))
        self.assertEqual(events[-1]['finished']['usage']['completion_tokens'], len(tokens(events)))

    def test_recipe_generate_chat(self):
        first = self.objects('generate-chat')
        self.assertEqual(first[0]['started']['seed'], '7')
        self.assertIn(first[-1]['finished']['reason'], ['FINISH_REASON_STOP', 'FINISH_REASON_LENGTH'])
        self.assertEqual(tokens(first), tokens(self.objects('generate-chat')))

    def test_recipe_generate_tools(self):
        rendered, *events = self.objects('generate-tools')
        self.assertIn('<|im_start|>tool\n{"temp": 21.5}<|im_end|>\n', rendered['text'])
        self.assertEqual(events[0]['started']['prompt_tokens'], len(rendered['token_ids']))
        self.assertIn('finished', events[-1])

    def test_recipe_generate_tokens(self):
        events = self.objects('generate-tokens')
        self.assertEqual(len(tokens(events)), 4)
        logprobs = sum((event['delta'].get('logprobs', []) for event in events if 'delta' in event), [])
        self.assertEqual(len(logprobs), 4)
        for position, token in zip(logprobs, tokens(events)):
            self.assertEqual(position['chosen']['token_id'], token)
            self.assertEqual(position['top'][0]['token_id'], token, 'greedy takes the likeliest')
            self.assertEqual(len(position['top']), 2)
        self.assertFalse(any('text' in event.get('delta', {}) for event in events))

    def test_recipe_generate_deadline(self):
        self.assertIn('DeadlineExceeded', self.output('generate-deadline'))

    def test_recipe_decode(self):
        events = self.objects('decode')
        self.assertEqual([int(event['operation_id']) for event in events],
                         sorted(int(event['operation_id']) for event in events))
        by_operation = {operation: [event for event in events if event['operation_id'] == str(operation)]
                        for operation in range(1, 7)}
        self.assertIn('opened', by_operation[1][0])
        self.assertEqual(by_operation[2][0]['appended']['length'], 5)
        self.assertEqual(len(tokens(by_operation[3])), 4)
        self.assertEqual(by_operation[3][-1]['finished']['session_length'], 9)
        self.assertEqual(by_operation[4][0]['rolled_back']['length'], 5)
        self.assertEqual(by_operation[5][0]['appended']['length'], 6)
        self.assertEqual(by_operation[6][-1]['finished']['session_length'], 8)

    def test_recipe_decode_cancel(self):
        events = self.objects('decode-cancel')
        finished = [event for event in events if 'finished' in event][0]
        self.assertEqual(finished['operation_id'], '3')
        self.assertEqual(finished['finished']['reason'], 'FINISH_REASON_CANCELLED')
        length = finished['finished']['session_length']
        cancelled = [event['cancelled'] for event in events if 'cancelled' in event][0]
        self.assertEqual(cancelled['length'], length)
        self.assertLess(length, 2000)
        self.assertEqual(events[-1]['rolled_back']['length'], 3)

    def test_recipe_decode_error(self):
        events = self.objects('decode-error')
        error = [event['error'] for event in events if 'error' in event]
        self.assertEqual(len(error), 1)
        self.assertEqual((error[0]['code'], error[0]['field']), (3, 'roll_back.length'))
        self.assertIn('rolled_back', events[-1])

    def test_recipe_sessions(self):
        events = self.objects('sessions')
        sessions = [event['session'] for event in events if 'session' in event]
        rolled, read = sessions
        self.assertEqual(rolled['length'], 2)
        self.assertEqual(rolled['parent_session_id'], read['session_id'])
        answer = [event for event in events if 'token_ids' in event][0]
        self.assertEqual(len(answer['token_ids']), read['length'])
        self.assertEqual({session['session_id'] for event in events for session in event.get('sessions', [])},
                         {rolled['session_id'], read['session_id']})

    def test_recipe_error_details(self):
        error = self.objects('error-details')[0]
        self.assertEqual(error['code'], 3)
        details = {detail['@type'].rsplit('.', 1)[1]: detail for detail in error['details']}
        self.assertEqual(details['ErrorInfo']['domain'], 'megakernel')
        self.assertEqual(details['ErrorInfo']['reason'], 'INVALID_FIELD')
        self.assertEqual(details['BadRequest']['field_violations'][0]['field'], 'sampling.top_p')

    def test_recipe_error_session(self):
        error = self.objects('error-session')[0]
        self.assertEqual(error['code'], 5)
        self.assertEqual(error['details'][0]['reason'], 'SESSION_NOT_FOUND')


if __name__ == '__main__':
    serving.main()
