"""A race in the code of the server's streams is reported although races inside gRPC are suppressed."""

import os
import subprocess
import unittest

PROGRAM = os.path.join(os.environ['MEGAKERNEL_BIN'], '..', 'tests', 'seeded_race')


@unittest.skipUnless(os.path.exists(PROGRAM), 'not built with the thread sanitizer')
class SeededRace(unittest.TestCase):
    def test_is_reported(self):
        options = os.environ['TSAN_OPTIONS']
        self.assertIn('suppressions=', options)
        done = subprocess.run([PROGRAM], capture_output=True, text=True, timeout=300, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for part in ('WARNING: ThreadSanitizer: data race', 'seeded_race.cc', 'megakernel::GenerateCall::OnDone',
                     'megakernel::ServedStream::Completed', 'megakernel::StreamLoop::Run'):
            self.assertIn(part, done.stderr)


if __name__ == '__main__':
    unittest.main(verbosity=2)
