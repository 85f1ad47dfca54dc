# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The folder that a survey writes: its files, and which of them are there and whole."""

import csv
import json
import re
from pathlib import Path

import pyarrow.parquet as pq

from astroflux._table_files import write_table
from astroflux._work import PART_SUFFIX, refuse_other_settings, write_whole
from astroflux.survey.residuals import STAMPS, write_residuals

__all__ = ['SurveyFolder']

SETTINGS, STATUS = 'settings.json', 'status.json'
IMAGES, FAILURES, OFF = 'images.csv', 'failures.csv', 'off.parquet'
DATA, SUMMARY = 'data', 'summary.html'

# What tells the settings of a survey from those of other work.
MADE_BY = {'made_by': 'astroflux.survey'}

# What of the schema's metadata holds the record of an image, as JSON.
_KEY = b'astroflux.survey'

IMAGE_FIELDS = ('image', 'path', 'n_sources', 'n_measured', 'seconds', 'peak_memory_mb')
FAILURE_FIELDS = ('image', 'path', 'n_sources', 'reason')

_LEFT = re.compile(rf'.+\.(parquet|csv|json|fits|html)\.[0-9a-f]{{8}}\{PART_SUFFIX}')


class SurveyFolder:
    """
    A folder with the tables of the images of a survey, and what is told of them.

    Parameters
    ----------
    path : path-like
        The folder.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.data = self.path / DATA
        self.stamps = self.path / STAMPS

    def table_path(self, name):
        """Return where the table of an image is, or will be."""
        return self.data / f'{name}.parquet'

    def stamps_path(self, name):
        """Return where the stamps of the worst residuals of an image are, or will be."""
        return self.stamps / f'{name}.fits'

    # -- to begin, or to go on --------------------------------------------------------------------

    def check(self, *, resume, overwrite):
        """Raise `FileExistsError` for a folder that is not to be written to."""
        if resume and overwrite:
            msg = 'resume and overwrite exclude each other'
            raise ValueError(msg)
        begun = self.settings
        if begun is None:
            names = (SETTINGS, STATUS, IMAGES, FAILURES, OFF, DATA, STAMPS)
            if there := [name for name in names if (self.path / name).exists()]:
                msg = f'{self.path} holds {", ".join(there)}, and no survey: name another folder'
                raise FileExistsError(msg)
        elif not (resume or overwrite):
            msg = f'{self.path} holds a survey'
            raise FileExistsError(msg)

    def begin(self, settings, *, resume=False, overwrite=False):
        """
        Begin a survey, or go on with the one that is there.

        Raises
        ------
        FileExistsError, ValueError
            If there are files of other work; or of a survey with other settings, which are not to
            be replaced.
        """
        self.check(resume=resume, overwrite=overwrite)
        begun = self.settings
        if begun is not None and resume:
            refuse_other_settings(f'the survey in {self.path}', begun, MADE_BY | settings)
        elif begun is not None:
            self._remove()
        self._write_json(SETTINGS, MADE_BY | settings)
        for folder in (self.data, self.stamps):
            folder.mkdir(exist_ok=True)
        for path in (*self.path.iterdir(), *self.data.iterdir(), *self.stamps.iterdir()):
            if _LEFT.fullmatch(path.name):
                # of a process that was killed
                path.unlink(missing_ok=True)

    @property
    def settings(self):
        """The settings of the survey that was begun here; `None` if none was."""
        try:
            settings = json.loads((self.path / SETTINGS).read_text(encoding='utf-8'))
        except (FileNotFoundError, ValueError):
            return None
        is_ours = isinstance(settings, dict) and settings.items() >= MADE_BY.items()
        return settings if is_ours else None

    def _remove(self):
        """Remove the files of the survey, the settings last; `FileExistsError` for others."""
        tables = self.tables()
        for path in tables:
            if read_record(path) is None:
                msg = f'{path} is no table of a survey: remove it, or name another folder'
                raise FileExistsError(msg)
        names = (STATUS, IMAGES, FAILURES, OFF, SUMMARY)
        stamps = [self.stamps_path(path.stem) for path in tables]
        for path in (*stamps, *tables, *(self.path / name for name in names)):
            path.unlink(missing_ok=True)

    # -- tables of images -------------------------------------------------------------------------

    def tables(self):
        """Return the files with the tables of images, by their names."""
        return sorted(self.data.glob('*.parquet'))

    def refuse_others(self, names):
        """Raise `ValueError` if there are tables of images other than these."""
        if others := sorted({path.stem for path in self.tables()} - {*names}):
            msg = (
                f'{self.data} has tables of {len(others)} images that are not named, such as '
                f'{others[0]}: name all images, or another folder'
            )
            raise ValueError(msg)

    def record(self, name, digest):
        """
        Return the record that the table of an image has; `None` if it has none, or of other work.

        Parameters
        ----------
        name : str
            Of the image.
        digest : str
            That of its sources and settings.
        """
        record = read_record(self.table_path(name))
        return record if record is not None and record['digest'] == digest else None

    def write_table(self, table, record):
        """Write the table of an image, with its record."""
        with write_whole(self.table_path(record['image'])) as part:
            table.write(part, format='parquet')
            whole = pq.read_table(part)
            told = {**whole.schema.metadata, _KEY: json.dumps(record).encode()}
            pq.write_table(whole.replace_schema_metadata(told), part)

    def write_stamps(self, name, stamps):
        """Write the worst residuals of an image, of a list for its parts; none if it is empty."""
        if stamps:
            write_residuals(stamps, self.stamps_path(name))

    # -- what is told of all ----------------------------------------------------------------------

    def write_off(self, table):
        """Write the sources that are on no image."""
        write_table(table, self.path / OFF, overwrite=True)

    def write_images(self, records):
        """Write what is told of each image that was measured."""
        self._write_csv(IMAGES, IMAGE_FIELDS, records)

    def write_failures(self, failures):
        """Write which images could not be measured, and why."""
        self._write_csv(FAILURES, FAILURE_FIELDS, failures)

    @property
    def status(self):
        """What `write_status` wrote; empty if there is none."""
        try:
            return json.loads((self.path / STATUS).read_text(encoding='utf-8'))
        except (FileNotFoundError, ValueError):
            return {}

    def write_status(self, status):
        """Write how far the survey is."""
        self._write_json(STATUS, status)

    def _write_json(self, name, content):
        with write_whole(self.path / name) as part:
            part.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')

    def _write_csv(self, name, fields, rows):
        rows = sorted(rows, key=lambda row: row['image'])
        with write_whole(self.path / name) as part, part.open('w', newline='') as file:
            writer = csv.DictWriter(file, fields, extrasaction='ignore', lineterminator='\n')
            writer.writeheader()
            writer.writerows(rows)


def read_record(path):
    """Return the record of a table of an image; `None` if it is missing, damaged or another's."""
    try:
        footer = pq.read_metadata(path)
        record = json.loads(footer.metadata[_KEY])
    except (OSError, ValueError, KeyError, TypeError):
        # pyarrow's own errors are among the first two
        return None
    return record if footer.num_rows == record['n_sources'] else None
