"""Time from the start of the server's process to the first token over gRPC, and the memory that loading takes; JSON.

  MEGAKERNEL_BIN=build/cpu/bin python3 tests/clients/start_to_token.py [--config qwen3-0.6b] [--tokenizer tokenizer.json]
      [--checkpoint DIR] [--runs 3] [--limit-ms 2000] [--limit-ratio 1.1]

Without --checkpoint `megakernel-bench make-checkpoint` writes one of random bf16 weights. Its files are read once before
each run, so that they come from the page cache. The clock starts before the server's process and stops when
`megakernel generate` has printed a token of a short prompt: the client's own start counts. Memory is the most that was
resident, with 16 MiB at most of keys and values, over the bytes of the safetensors files.
With limits the exit status is 1 when the median is above one. Standard library only.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import serving


def files_of(folder):
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]


def warm(folder):
    for path in files_of(folder):
        with open(path, 'rb', buffering=0) as file:
            while file.read(1 << 22):
                pass


def peak_bytes(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith('VmHWM'))


def cpu_ms(pid):
    """Processor time of the process so far: what other load does not change much."""
    with open(f'/proc/{pid}/stat', encoding='ascii') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def milestones(log):
    """What the server's log says of where the time went."""
    return {key: int(value) for key, value in re.findall(r'\b(open_ms|pack_ms|warm_up_ms)=(\d+)', log)}


def run_once(folder, prompt):
    warm(folder)
    size = sum(os.path.getsize(path) for path in files_of(folder) if path.endswith('.safetensors'))
    start = time.monotonic()
    with serving.Server('--device', 'cpu', '--model', folder, '--max-context', '128', '--max-sequences', '1',
                        '--kv-memory', '16MiB') as server:
        serves = time.monotonic()
        client = server.start('generate', *prompt, '--max-tokens', '1', '--temperature', '0', '--ignore-eos', '--json')
        for line in client.stdout:
            if 'delta' in json.loads(line):
                break
        else:
            raise AssertionError(f'no token: {client.communicate()[1]}\n{server.text().decode()}')
        token = time.monotonic()
        cpu = cpu_ms(server.process.pid)
        client.communicate(timeout=serving.CALL_LIMIT_S)
        peak = peak_bytes(server.process.pid)
        return {'first_token_ms': (token - start) * 1e3, 'serving_ms': (serves - start) * 1e3,
                'call_ms': (token - serves) * 1e3, 'server_cpu_ms': cpu, 'peak_bytes': peak, 'file_bytes': size, 'peak_ratio': peak / size,
                **milestones(server.text().decode())}


def summary(runs):
    """Medians."""
    return {key: round(statistics.median(run[key] for run in runs), 3 if key == 'peak_ratio' else 0) for key in runs[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default='qwen3-0.6b', help='of configs/models')
    parser.add_argument('--tokenizer', default=os.environ.get('MEGAKERNEL_TEST_TOKENIZER'), help='put beside the weights')
    parser.add_argument('--checkpoint', help='a directory that exists')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--limit-ms', type=float)
    parser.add_argument('--limit-ratio', type=float)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.checkpoint
        if folder is None:
            folder = os.path.join(scratch, 'model')
            subprocess.run([serving.program('megakernel-bench'), 'make-checkpoint', '--config', arguments.config, '--out',
                            folder], check=True, stdout=subprocess.DEVNULL)
            if arguments.tokenizer:
                shutil.copy(arguments.tokenizer, os.path.join(folder, 'tokenizer.json'))
        has_text = os.path.exists(os.path.join(folder, 'tokenizer.json'))
        prompt = ['The capital of France is'] if has_text else ['--tokens', '785,6722,315,9625,374']
        runs = [run_once(folder, prompt) for _ in range(arguments.runs)]
    result = summary(runs)
    print(json.dumps({'what': 'start of the process to first token', 'model': arguments.checkpoint or arguments.config,
                      'tokenizer': has_text, 'cores': len(os.sched_getaffinity(0)), 'runs': arguments.runs,
                      'load_1min': round(os.getloadavg()[0], 1), **result}))
    missed = [name for name, limit in (('first_token_ms', arguments.limit_ms), ('peak_ratio', arguments.limit_ratio))
              if limit is not None and result[name] > limit]
    if missed:
        print(f'above the limit: {", ".join(missed)}', file=sys.stderr)
        sys.exit(1)


if __name__ == '__main__':
    main()
