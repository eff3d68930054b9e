"""Rows that need a process of its own: signals in each phase, a process that is stopped, the system's clock."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'clients'))
import serving  # noqa: E402

FAKE = ['--device', 'fake', '--max-context', '32768']
PROMPT = ['--prompt-tokens', '8']


def shim():
    return os.path.join(os.environ['MEGAKERNEL_BIN'], '..', 'tests', 'libtorture_shim.so')


def free_address():
    with socket.socket() as held:
        held.bind(('127.0.0.1', 0))
        return '127.0.0.1:%d' % held.getsockname()[1]


class Server(serving.Server):
    """A server at an address that is chosen here, so that the next one can have it too."""

    def __init__(self, address, *flags, environment=None):
        self.environment = environment or {}
        self.wanted = address
        super().__init__('--listen', address, *flags)


def start(address, *flags, environment=None):
    saved = dict(os.environ)
    os.environ.update(environment or {})
    try:
        return Server(address, *FAKE, *flags)
    finally:
        os.environ.clear()
        os.environ.update(saved)


def load(server, *flags):
    """One run of `megakernel load`; its JSON."""
    done = server.run('load', '--json', *flags, expect=None)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if not lines or 'sent' not in lines[0]:
        return {'sent': 0, 'ok': 0, 'failed': 1, 'errors': {done.stdout + done.stderr: 1}}
    return lines[0]


def probe(server):
    run = load(server, '--calls', '4', '--output-tokens', '5', *PROMPT)
    return run['ok'] == 4 and run['failed'] == 0


# What the server is doing when the signal comes: flags of the server, flags of the load, and how long after its start.
PHASES = {
    'idle': ([], None),
    'prefill': (['--fake-step-time', '20ms', '--max-rows', '16'], ['--prompt-tokens', '4000', '--output-tokens', '4']),
    'decode': (['--fake-step-time', '5ms'], ['--output-tokens', '16000', *PROMPT]),
    'many streams': (['--fake-step-time', '5ms'],
                     ['--concurrency', '48', '--connections', '4', '--output-tokens', '16000', *PROMPT]),
    'churn': ([], ['--concurrency', '16', '--output-tokens', '2', '--duration', '30', *PROMPT]),
    'draining': (['--fake-step-time', '5ms', '--drain-timeout', '30s'], ['--output-tokens', '16000', *PROMPT]),
}


def signalled(phase, number, fault):
    """One phase and one signal. Returns (problem or None, seconds until the process was gone)."""
    server_flags, load_flags = PHASES[phase]
    address = free_address()
    server = start(address, '--drain-timeout', '500ms', *server_flags)
    client = None
    try:
        if load_flags:
            client = server.start('load', '--calls', '1000000', *load_flags)
            time.sleep(0.6)
        if phase == 'draining':
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        began = time.monotonic()
        if fault != 'no-signal':
            server.process.send_signal(number)
        try:
            status = server.process.wait(5)
        except subprocess.TimeoutExpired:
            return 'it goes on', 5.0
        seconds = time.monotonic() - began
        if status != (0 if number == signal.SIGTERM else -signal.SIGKILL):
            return f'status {status}', seconds
        if client:  # it fails call after call now, and goes on until it is told to end
            client.send_signal(signal.SIGINT)
            client.communicate(timeout=serving.CALL_LIMIT_S)
            if client.returncode != 128 + signal.SIGINT:
                return f'the client ended with {client.returncode}', seconds
            client = None
        with start(address) as again:  # the same port, at once
            if not probe(again):
                return 'the next one does not answer', seconds
        return None, seconds
    finally:
        if client:
            client.kill()
            client.communicate()
        if server.process.poll() is None:
            server.kill()
        server.log.close()


def signals(brief, fault):
    phases = ['idle', 'prefill', 'churn', 'draining'] if brief else list(PHASES)
    problems, longest = [], 0.0
    for phase in phases if fault is None else ['decode']:
        for number in (signal.SIGTERM, signal.SIGKILL):
            problem, seconds = signalled(phase, number, fault)
            longest = max(longest, seconds)
            if problem:
                problems.append(f'{signal.Signals(number).name} in {phase}: {problem}')
    return (f'{len(phases)} phases, each with TERM and KILL; gone after at most {longest:.2f} s; '
            + ('; '.join(problems) or 'restarted on the same port each time, and answered'),
            'status 0 after TERM within 0.5 s + 4 s; next one on the same port answers',
            not problems and longest <= 4.5)


def starting(brief, fault):
    """Signals at random moments of the start, before anything listens and just after."""
    rounds, problems = (2 if fault else 6 if brief else 30), 0
    for i in range(rounds):
        process = subprocess.Popen([serving.program('megakernel-server'), *FAKE, '--listen', '127.0.0.1:0'],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(i * 0.06 / rounds)
        if fault != 'no-signal':
            process.send_signal(signal.SIGTERM)
        try:
            # Before the program has its own way to end, the signal's default ends it.
            problems += process.wait(2) not in (0, -signal.SIGTERM)
        except subprocess.TimeoutExpired:
            problems += 1
            process.kill()
            process.wait()
    return (f'{rounds} starts, TERM after 0 to 60 ms: {problems} did not end', '0', problems == 0)


def stopped(brief, fault):
    """SIGSTOP for longer than any watchdog, then SIGCONT: nobody may take it for a stall."""
    with start(free_address(), '--fake-step-time', '2ms') as server:
        results = []
        thread = threading.Thread(target=lambda: results.append(
            load(server, '--concurrency', '4', '--calls', '4', '--output-tokens', '500', *PROMPT)))
        thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(4)
        if fault == 'kill-instead':
            server.process.kill()
        server.process.send_signal(signal.SIGCONT)
        thread.join()
        serves = fault is None and server.run('health', expect=None).returncode == 0
        run = results[0]
        good = run['ok'] == 4 and run['failed'] == 0 and serves
        return (f"stopped for 4 s under 4 streams of 500 tokens: {run['ok']} of 4 complete, "
                f"{'serves' if serves else 'does not serve'}", 'all complete, serves', good)


def system_clock(brief, fault):
    """The wall clock of the server jumps by an hour and back, ten times a second."""
    jump = {'LD_PRELOAD': shim(), 'JUMP_MONOTONIC' if fault == 'jump-monotonic' else 'JUMP_REALTIME': '3600'}
    calls = 300 if brief else 5000
    with start(free_address(), '--session-ttl', '60s', '--fake-step-time', '1ms', environment=jump) as server:
        time.sleep(0.6)  # the server started with a clock that is an hour ahead; now it goes back and forth
        kept = server.run('session', 'create', expect=None).stdout.strip()
        run = load(server, '--concurrency', '8', '--calls', str(calls), '--turns', '5', '--output-tokens', '8',
                   '--timeout', '20', *PROMPT)
        found = bool(kept) and server.run('session', 'get', kept, expect=None).returncode == 0
        return (f"{calls} calls with deadlines of 20 s on sessions: {run['ok']} right, {json.dumps(run['errors'])}; "
                f"the idle session {'is there' if found else 'is gone'}",
                'all right, session there', run['ok'] == calls and run['failed'] == 0 and not run['errors'] and found)


ROWS = {
    'TERM and KILL in each phase': (signals, ['no-signal']),
    'TERM while starting': (starting, ['no-signal']),
    'stopped and continued': (stopped, ['kill-instead']),
    'system clock jumps': (system_clock, ['jump-monotonic']),
}
