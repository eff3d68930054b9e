"""Rows about saved sessions, with the real server program: killed while it saves, and a disk that is full."""

import json
import os
import random
import signal
import tempfile
import threading
import time

import process_rows

PROMPT_TOKENS = 6000  # a save of some size


def tokens_of(server, session):
    done = server.run('session', 'get', session, '--tokens', '--json', expect=None)
    return json.loads(done.stdout)['token_ids'] if done.returncode == 0 else None


def new_session(server, seed, count=PROMPT_TOKENS):
    session = server.run('session', 'create').stdout.strip()
    ids = ','.join(str(random.Random(seed * 7919 + i).randint(3, 200)) for i in range(count))
    server.run('generate', '--session', session, '--tokens', ids, '--max-tokens', '2', '--temperature', '0',
               '--no-text')
    return session


def killed(brief, fault):
    """KILL at random moments while sessions are saved under the same names; what was saved before is there, whole."""
    rounds, lost, restored, interrupted = (4 if brief else 25), [], 0, 0
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        flags = ['--session-dir', folder]
        saved = {}  # by name: every token list that may stand there
        for i in range(rounds):
            server = process_rows.start(process_rows.free_address(), *flags)
            for name, candidates in saved.items():  # what the rounds before left
                done = server.run('session', 'restore', name, expect=None)
                tokens = tokens_of(server, done.stdout.strip()) if done.returncode == 0 else None
                restored += tokens is not None
                if tokens not in candidates:
                    lost.append(f'round {i}: {name}: {done.stderr.strip() or "other tokens"}')
                else:
                    saved[name] = [tokens]
            name = f's{i % 2}'
            session = new_session(server, i)
            tokens = tokens_of(server, session)
            done = []
            save = ['session', 'save', session, name]
            thread = threading.Thread(target=lambda: done.append(server.run(*save, expect=None)))
            thread.start()
            if i == 0:
                thread.join()  # something must be there to be lost
            time.sleep(chance.uniform(0, 0.15))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            thread.join()
            server.log.close()
            if done[0].returncode == 0:
                saved[name] = [tokens]
            else:
                interrupted += 1
                saved[name] = [*saved.get(name, [None]), tokens]
            if fault == 'damage':
                for place, _, files in os.walk(folder):
                    for file in files:
                        with open(os.path.join(place, file), 'r+b') as out:
                            out.seek(os.path.getsize(out.name) // 2)
                            out.write(b'\xff' * 8)
    return (f'{rounds} times killed while saving, {interrupted} saves cut; {restored} restored whole; '
            + ('; '.join(lost[:3]) or 'none lost'), 'every earlier save restored, whole', not lost)


def full_disk(brief, fault):
    """Writes of the save fail as on a full disk: refused with a reason, the one before stays, the server goes on."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as outside:
        full = os.path.join(outside, 'full')
        environment = {'LD_PRELOAD': process_rows.shim(), 'FULL_DISK': full}
        with process_rows.start(process_rows.free_address(), '--session-dir', folder,
                                environment=environment) as server:
            first = new_session(server, 1)
            before = tokens_of(server, first)
            server.run('session', 'save', first, 'kept')
            files = sorted(os.walk(folder))
            second = new_session(server, 2)
            if fault != 'disk-has-room':
                open(full, 'w', encoding='utf-8').close()
            done = server.run('session', 'save', second, 'kept', '--json', expect=None)
            refused = done.returncode != 0
            reason = json.loads(done.stdout)['error'] if refused and done.stdout.startswith('{"error"') else {}
            left = sorted(os.walk(folder))
            back = server.run('session', 'restore', 'kept', expect=None)
            intact = back.returncode == 0 and tokens_of(server, back.stdout.strip()) == before
            alive = process_rows.probe(server)
    return (f"save: {reason.get('code', 'OK')} {reason.get('reason', '')} {reason.get('message', '')}; the save before "
            f"it is {'intact' if intact else 'lost'}; {'nothing' if left == files else 'something'} "
            f"more in the folder; the server {'answers' if alive else 'does not answer'}",
            'refused; the save before intact; no file more; server answers',
            refused and intact and alive and left == files)


ROWS = {
    'KILL while saving': (killed, ['damage']),
    'disk full, through the server': (full_disk, ['disk-has-room']),
}
