"""Time to first token over gRPC, as `megakernel generate` sees it: starts a server, asks it, prints JSON.

  MEGAKERNEL_BIN=build/cpu/bin python3 tests/clients/ttft.py [--prompt 64] [--runs 20] [--limit-ms 80] -- SERVER FLAG...

The clock of a run starts when the request is sent on a connection that stands, and stops at the first message with a
token. Every prompt is different, so that no prefix is found; the first run warms up and does not count. With
--limit-ms the exit status is 1 if the median is above the limit. Standard library only.
"""

import argparse
import json
import random
import statistics
import sys

import serving


def first_token_ms(server, prompt, vocab_size):
    ids = ','.join(str(prompt.randrange(100, vocab_size)) for _ in range(prompt.length))
    out = server.run('generate', '--tokens', ids, '--max-tokens', '2', '--temperature', '0', '--ignore-eos', '--json',
                     '--stats').stdout
    events = [json.loads(line) for line in out.splitlines()]
    started = next(event['started'] for event in events if 'started' in event)
    if started['prompt_tokens'] != prompt.length or started['cached_tokens'] != 0:
        raise AssertionError(f'not a whole prompt: {started}')
    timings = next(event['finished'] for event in events if 'finished' in event)['timings']
    in_server = (int(timings['queue_ns']) + int(timings['prefill_ns'])) / 1e6
    return next(event['stats'] for event in events if 'stats' in event)['first_token_ms'], in_server


class Prompt(random.Random):

    def __init__(self, length):
        super().__init__(1)
        self.length = length


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--prompt', type=int, default=64, help='tokens of a prompt')
    parser.add_argument('--runs', type=int, default=20)
    parser.add_argument('--limit-ms', type=float)
    parser.add_argument('flags', nargs='*', help='of the server')
    arguments = parser.parse_args()
    with serving.Server(*arguments.flags) as server:
        model = json.loads(server.run('model', '--json').stdout)
        prompt = Prompt(arguments.prompt)
        times = [first_token_ms(server, prompt, model['vocab_size']) for _ in range(arguments.runs + 1)][1:]
    seen = sorted(client for client, _ in times)
    median = statistics.median(seen)
    print(json.dumps({
        'what': 'time to first token over gRPC', 'model': model['name'], 'device': model['capabilities']['device'],
        'version': model['version'], 'prompt_tokens': arguments.prompt, 'runs': arguments.runs,
        'median_ms': round(median, 2), 'min_ms': round(seen[0], 2), 'max_ms': round(seen[-1], 2),
        'median_in_server_ms': round(statistics.median(server_ms for _, server_ms in times), 2)}))
    if arguments.limit_ms is not None and median > arguments.limit_ms:
        print(f'{median:.1f} ms is above the limit of {arguments.limit_ms:.1f} ms', file=sys.stderr)
        sys.exit(1)


if __name__ == '__main__':
    main()
