"""Runs every recipe of clients/ghz/README.md with the real ghz against the default model on the CPU."""

import json
import re

import recipes
import serving


class Ghz(recipes.RecipeTest):
    page = 'clients/ghz/README.md'

    def test_every_call_of_every_recipe_succeeds(self):
        self.assertGreater(len(self.blocks), 3)
        for name, block in self.blocks.items():
            with self.subTest(recipe=name):
                out = recipes.run(block, self.server.address)
                calls = int(re.search(r' -n (\d+) ', block).group(1))
                if '-O json' in block:
                    report = json.loads(out)
                    skipped = int(re.search(r'--skipFirst (\d+)', block).group(1))
                    self.assertEqual(report['statusCodeDistribution'], {'OK': calls - skipped})
                    self.assertGreater(report['rps'], 0)
                else:
                    self.assertRegex(out, rf'\[OK\] +{calls} responses')
                    self.assertNotIn('Error distribution', out)


if __name__ == '__main__':
    serving.main()
