# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A comparison that takes long: its parts, kept in a folder from which it goes on."""

import json
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, vstack

from astroflux._table_files import write_table
from astroflux._work import refuse_other_settings, write_whole
from astroflux.evaluation._comparison_data import ExtremeCase

__all__ = ['PartFolder']

SETTINGS_NAME = 'settings.json'
EXTREMES_NAME = 'extremes.npz'

ARRAYS = ('image', 'mask')
QUANTITIES = ('flux', 'flux_err', 'reference')


class PartFolder:
    """
    A folder with the measured parts of a comparison, and the worst cases so far.

    The settings are what the measurements depend on, as JSON can hold it; a folder of others is
    refused.
    """

    def __init__(self, directory, settings):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / SETTINGS_NAME
        # lists for tuples, as they will be read
        settings = json.loads(json.dumps(settings))
        if path.exists():
            begun = json.loads(path.read_text(encoding='utf-8'))
            refuse_other_settings(f'the comparison in {self.directory}', begun, settings)
        else:
            with write_whole(path) as part:
                part.write_text(json.dumps(settings, indent=1) + '\n', encoding='utf-8')

    def _paths(self, start):
        names = (f'part_{start:08d}.ecsv', f'truth_{start:08d}.ecsv')
        return [self.directory / name for name in names]

    def read(self, start):
        """Return the part that begins at a cutout, `None` if it has not been measured."""
        path, truth_path = self._paths(start)
        if not path.exists():
            return None
        rows = QTable.read(path)
        record, rows.meta = dict(rows.meta), {}
        tables = {name: rows[rows['method'] == name] for name in record['seconds']}
        truth = QTable.read(truth_path) if truth_path.exists() else None
        return {**record, 'tables': tables, 'truth': truth}

    def write(self, start, part):
        """Keep a part; that it is whole is told by the file of its measurements."""
        path, truth_path = self._paths(start)
        if part['truth'] is not None:
            write_table(part['truth'], truth_path, overwrite=True)
        rows = vstack(list(part['tables'].values()), metadata_conflicts='silent')
        rows.meta = {name: part[name] for name in ('seconds', 'packages')}
        write_table(rows, path, overwrite=True)

    def read_extremes(self):
        """Return the worst cases of each method so far."""
        path = self.directory / EXTREMES_NAME
        if not path.exists():
            return {}
        with np.load(path) as file:
            arrays = dict(file)
        records = json.loads(str(arrays.pop('records')))
        return {
            method: [_case(record, arrays) for record in cases] for method, cases in records.items()
        }

    def write_extremes(self, extremes):
        """Keep the worst cases of each method so far."""
        arrays, records = {}, {}
        for method, cases in extremes.items():
            records[method] = []
            for case in cases:
                record = {'key': str(len(arrays)), **_record(case)}
                records[method].append(record)
                arrays |= {f'{name}_{record["key"]}': getattr(case, name) for name in ARRAYS}
        with write_whole(self.directory / EXTREMES_NAME) as part, part.open('wb') as file:
            np.savez(file, records=np.array(json.dumps(records)), **arrays)


def _record(case):
    """What JSON can hold of a case."""
    record = {name: value for name, value in vars(case).items() if name not in ARRAYS}
    for name in QUANTITIES:
        value = u.Quantity(record[name])
        record[name] = [float(value.value), value.unit.to_string()]
    return record


def _case(record, arrays):
    """A case from what was kept of it."""
    record = dict(record)
    key = record.pop('key')
    for name in QUANTITIES:
        record[name] = u.Quantity(*record[name])
    record['flags'] = tuple(record['flags'])
    return ExtremeCase(**record, **{name: arrays[f'{name}_{key}'] for name in ARRAYS})
