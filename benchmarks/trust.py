# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The tallies of all that was tried against the package.

    python benchmarks/trust.py --write

counts what ``fuzz.py`` has tried so far (``python benchmarks/fuzz.py --inputs N --resume`` goes on
with it), what ``science_faults.py --write`` found, and the tests in ``tests/trust``, which it runs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from fuzz import RUNS, tally_of
from fuzz_outcomes import COMPANY, CRASH, FORBIDDEN, HANG, INTERNAL, MEMORY, SILENT, UNTOLD
from report import DOCS, command_line, put_out, rst_table

TESTS = Path(__file__).parents[1] / 'tests' / 'trust'

# A row is lost if another input takes it along, or if nothing says why it is empty.
LOST = (COMPANY, UNTOLD, CRASH)


def tests_of_faults():
    """Run the tests, and return how many there are of each module, and how many failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'tests.xml'
        command = [sys.executable, '-m', 'pytest', '-q', f'--junitxml={path}', str(TESTS)]
        subprocess.run(command, check=False)
        cases = list(ElementTree.parse(path).getroot().iter('testcase'))
    modules = [case.get('classname').rpartition('.')[2] for case in cases]
    n_faults = modules.count('test_faults')
    failed = [case for case in cases if case.find('failure') is not None]
    return len(cases), n_faults, len(failed)


def rows_of(outcomes, science, tests):
    """
    Return the rows of the table.

    Parameters
    ----------
    outcomes : dict
        How often each outcome was in each family of damaged inputs.
    science : dict
        What was found for each kind of fault of the sky, by the network.
    tests : tuple of int
        All tests, those of faults, and those that failed.
    """

    def count(*kinds):
        return sum(n for (_, outcome), n in outcomes.items() if outcome in kinds)

    n_tests, n_faults, n_failed = tests
    silent = sorted(name for name, found in science.items() if found['verdict'] == 'silent')
    galaxies = sum(found['n'] for found in science.values())
    numbers = [
        ('damaged inputs tried', sum(outcomes.values())),
        ('of these, rows lost or empty without a reason', count(*LOST)),
        ('errors of a library, or by surprise', count(INTERNAL)),
        ('over 20 s, or over 2 GB', count(HANG, MEMORY)),
        ('silent wrong numbers where the change can be seen', count(SILENT)),
        ('kinds of faults of the sky and of images', len(science)),
        ('galaxies measured with them', galaxies),
        ('kinds with silent wrong numbers', len(silent)),
        ('tests of promises, faults and attacks', n_tests),
        ('of these, of processes, files and memory that fail', n_faults),
        ('tests that failed', n_failed),
    ]
    return [[name, f'{number:,}'] for name, number in numbers], silent


def main():
    """Run from the command line."""
    arguments = command_line(__doc__, seed=(0, 'of the damaged inputs')).parse_args()
    outcomes, _, _ = tally_of(RUNS / str(arguments.seed) / 'tally.jsonl')
    science = json.loads((DOCS / 'science-faults.json').read_text())['cnn']
    tests = tests_of_faults()
    rows, silent = rows_of(outcomes, science, tests)
    put_out(rst_table(['tally', 'number'], rows), 'trust', write=arguments.write)
    print('silent kinds:', ', '.join(silent) or 'none')
    bad = any(n for (_, outcome), n in outcomes.items() if outcome in FORBIDDEN)
    sys.exit(bool(bad or tests[-1]))


if __name__ == '__main__':
    main()
