"""The torture table: every row of megakernel-torture, every row that needs processes, the fuzzers' record.

    python3 tests/torture/torture.py [--brief] [--prove] [--json FILE] [--row NAME]...

--prove runs each row once for each of its faults and expects it to fail. Exit status 1 when a row fails, or proves
nothing. From the environment: MEGAKERNEL_BIN, the folder with the programs. Standard library only.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import process_rows
import saving_rows
import security_rows

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
FUZZERS = ['request', 'decode', 'session_file', 'text', 'config', 'server_config']
FUZZ_INPUTS = 1_000_000


def fuzz_record(_, fault):
    with open(os.path.join(ROOT, 'tests', 'fuzz', 'evidence.json'), encoding='utf-8') as file:
        targets = json.load(file)['targets']
    if fault == 'one-crash':
        targets[FUZZERS[0]] = {'inputs': FUZZ_INPUTS, 'crashes': 1}
    counts = {name: targets.get(name, {'inputs': 0, 'crashes': 0}) for name in FUZZERS}
    crashes = sum(count['crashes'] for count in counts.values())
    figures = ', '.join(f"{name} {count['inputs']:,}" for name, count in counts.items())
    return (f'recorded inputs: {figures}; {crashes} crashes', f'>= {FUZZ_INPUTS:,} each, 0 crashes',
            crashes == 0 and all(count['inputs'] >= FUZZ_INPUTS for count in counts.values()))


ROWS = {**process_rows.ROWS, **saving_rows.ROWS, **security_rows.ROWS, 'fuzzers': (fuzz_record, ['one-crash'])}

# Not in the short forms: a record stays as it is until someone fuzzes, and `make test` fuzzes by itself.
LONG_ONLY = {'fuzzers'}


def engine_rows(arguments):
    """The rows of the program, as it prints them; each line as soon as it is there."""
    command = [os.path.join(os.environ['MEGAKERNEL_BIN'], 'megakernel-torture'), '--json']
    if arguments.prove:
        command.append('--prove')
    elif arguments.brief:
        command.append('--brief')
    for name in arguments.row:
        command += ['--row', name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            yield json.loads(line)


def python_rows(arguments):
    for name, (run, faults) in ROWS.items():
        if name not in (arguments.row or ROWS):
            continue
        if name in LONG_ONLY and (arguments.brief or arguments.prove) and not arguments.row:
            continue
        for fault in faults if arguments.prove else [None]:
            began = time.monotonic()
            try:
                figure, threshold, passed = run(arguments.brief or arguments.prove, fault)
            except Exception as error:  # a row that breaks has failed
                figure, threshold, passed = f'{type(error).__name__}: {error}', '', False
            row = {'row': name, 'figure': figure, 'threshold': threshold, 'seconds': round(time.monotonic() - began, 2),
                   'passed': passed != arguments.prove}
            yield {**row, 'fault': fault} if fault else row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--brief', action='store_true')
    parser.add_argument('--prove', action='store_true')
    parser.add_argument('--json')
    parser.add_argument('--row', action='append', default=[])
    arguments = parser.parse_args()
    rows = []
    for source in (engine_rows, python_rows):
        for row in source(arguments):
            rows.append(row)
            verdict = 'ok' if row['passed'] else 'FAIL'
            name = row['row'] + (f" with {row['fault']}" if 'fault' in row else '')
            print(f"{verdict:4} {name:48} {row['seconds']:6.1f} s  {row['figure']}")
            print(f"{'':64}[{row['threshold']}]", flush=True)
    if arguments.json:
        with open(arguments.json, 'w', encoding='utf-8') as file:
            json.dump(rows, file, indent=1)
            file.write('\n')
    failed = sum(not row['passed'] for row in rows)
    print(f'{len(rows)} rows, {failed} failed, {sum(row["seconds"] for row in rows):.0f} s')
    sys.exit(0 if rows and failed == 0 else 1)


if __name__ == '__main__':
    main()
