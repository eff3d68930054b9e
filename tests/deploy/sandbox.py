"""A program in a root file system of its own, as a container or a hardened service runs it: the root read-only, no
privileges, its own process tree in which it is process 1. Needs root; standard library only."""

import ctypes
import os
import re
import signal
import subprocess
import tempfile
import time

START_LIMIT_S = 60
CALL_LIMIT_S = 60
STOP_LIMIT_S = 30
PR_SET_MDWE = 65  # Linux 6.3: memory that was writable never becomes executable
LISTENING = re.compile(r'listening address=(\S+?):(\d+)')

MOUNTS = '''
set -e
mount --bind "$1" "$2"
mount -o remount,ro,bind "$2"
mount --rbind /dev "$2/dev"
mount -t proc proc "$2/proc"
mount --rbind /sys "$2/sys"
if [ -n "$3" ]; then mount --bind "$3" "$2$4"; mount -o remount,ro,bind "$2$4"; fi
if [ -n "$5" ]; then mount -t tmpfs -o "mode=700,uid=${6%:*},gid=${6#*:}" state "$2$5"; fi
root=$2
identity=$6
shift 6
cd /
exec setpriv --no-new-privs chroot --userspec="$identity" "$root" "$@"
'''


def check_privileges():
    """Raises when what all of this needs is not there: a machine of the pipeline has it."""
    if os.geteuid() != 0:
        raise AssertionError('images and packages are tried in file systems of their own, which needs root: use sudo')
    done = subprocess.run(['unshare', '--mount', '--pid', '--fork', 'true'], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f'this machine lets even root make no namespaces: {done.stderr}')


def deny_write_execute():
    """For a child, before exec: as systemd's MemoryDenyWriteExecute. Raises OSError where the kernel cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_MDWE, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), 'prctl(PR_SET_MDWE)')


class Sandbox:
    """A server, started with `command` inside `root`. `models` (a folder) is seen, read-only, at `models_at`; at
    `state_at` there is an empty folder of its own, the only place where it can write."""

    def __init__(self, root, command, models=None, models_at='', state_at='', user='10001:10001', before_exec=None):
        self.user = user
        self.place = tempfile.TemporaryDirectory()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            ['unshare', '--mount', '--pid', '--fork', '--kill-child=KILL', 'sh', '-c', MOUNTS, 'sh', root,
             self.place.name, models or '', models_at, state_at, user, *command],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=before_exec)
        try:
            self.port = self._await_port()
            self.pid = self._child()
        except BaseException:
            self.__exit__()
            raise

    def _await_port(self):
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            found = LISTENING.search(self.text())
            if found:
                return int(found.group(2))
            time.sleep(0.05)
        raise AssertionError(f'no server (status {self.process.poll()}):\n{self.text()}')

    def _child(self):
        with open(f'/proc/{self.process.pid}/task/{self.process.pid}/children') as children:
            pids = children.read().split()
        if not pids:
            raise AssertionError(f'it has ended (status {self.process.wait(STOP_LIMIT_S)}):\n{self.text()}')
        return int(pids[0])

    def text(self):
        return os.pread(self.log.fileno(), 1 << 20, 0).decode()

    def run(self, *command, user=None):
        """A command beside the server, as `docker exec` would run it."""
        uid, gid = (user or self.user).split(':')
        return subprocess.run(['nsenter', f'--target={self.pid}', '--mount', '--pid', '--root', '--wd=/',
                               f'--setuid={uid}', f'--setgid={gid}', '--', *command],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CALL_LIMIT_S)

    def await_health(self, *command):
        """Waits until the command, a health check, ends with 0."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            done = self.run(*command)
            if done.returncode == 0:
                return done.stdout
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise AssertionError(f'not healthy (status {self.process.poll()}): {done.stdout}{done.stderr}\n{self.text()}')

    def status(self, name):
        """A line of /proc/PID/status."""
        with open(f'/proc/{self.pid}/status') as lines:
            return next(line.split(':')[1].strip() for line in lines if line.startswith(name + ':'))

    def stop(self, number=signal.SIGTERM):
        """Ends it as its keeper would; returns its exit status."""
        os.kill(self.pid, number)
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f'it did not stop:\n{self.text()}')

    def kill(self):
        self.process.kill()
        self.process.wait(STOP_LIMIT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        self.log.close()
        self.place.cleanup()
