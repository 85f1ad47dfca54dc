# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Look for known vulnerabilities of the versions in a file of constraints.

    python tools/audit.py [--required] constraints.txt

asks the vulnerabilities of PyPI by pip-audit, which must be installed. Where they cannot be asked,
as behind a mirror of PyPI that has packages alone, it says so and ends well; with ``--required``
it fails.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ['audit', 'report']


def audit(lines):
    """
    Return what pip-audit says of versions, or why it cannot.

    Parameters
    ----------
    lines : list of str
        Requirements as ``name==version``.

    Returns
    -------
    dependencies : list of dict or None
        What it found; `None` if it could not ask.
    reason : str
        Why not.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'requirements.txt'
        path.write_text('\n'.join(lines) + '\n')
        options = ['--no-deps', '--disable-pip', '--format', 'json', '--progress-spinner', 'off']
        command = [sys.executable, '-m', 'pip_audit', *options, '-r', str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        dependencies = json.loads(done.stdout)['dependencies']
    except (ValueError, KeyError):
        return None, done.stderr.strip().splitlines()[-1:] or ['no answer']
    if all('skip_reason' in each for each in dependencies):
        return None, [each['skip_reason'] for each in dependencies[:1]]
    return dependencies, []


def report(dependencies):
    """Return the known vulnerabilities in words, one a line."""
    return [
        f'{each["name"]} {each["version"]}: {fault["id"]}, mended in '
        f'{", ".join(fault["fix_versions"]) or "no version"}'
        for each in dependencies
        for fault in each.get('vulns', ())
    ]


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split('\n')[0])
    parser.add_argument('constraints', type=Path)
    parser.add_argument('--required', action='store_true', help='fail where nothing can be asked')
    arguments = parser.parse_args()
    lines = [line for line in arguments.constraints.read_text().splitlines() if '==' in line]
    # one first: it tells whether there is anybody to ask
    dependencies, reason = audit(lines[:1])
    if dependencies is not None:
        dependencies, reason = audit(lines)
    if dependencies is None:
        print(f'SKIPPED: no database of vulnerabilities can be asked from here ({reason[0]})')
        sys.exit(arguments.required)
    faults = report(dependencies)
    n_skipped = sum('skip_reason' in each for each in dependencies)
    print(*faults, sep='\n')
    n = len(dependencies)
    print(f'{len(faults)} known vulnerabilities in {n} packages, {n_skipped} of them unknown')
    sys.exit(bool(faults))


if __name__ == '__main__':
    main()
