# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Put a full run of the study into the documentation: its numbers, tables and figures.

    python tools/ship_study_page.py RUN_FOLDER

where the folder is that of ``astroflux study run --preset full -o RUN_FOLDER``. The page of the
documentation, ``docs/study.rst``, is made from them when it is built.
"""

import shutil
import sys
import textwrap
from pathlib import Path

from PIL import Image

from astroflux.study.run_files import STUDY_NAME, read_study
from astroflux.study.stages import STAGE_NAMES

TARGET = Path(__file__).parents[1] / 'docs' / 'study'

# Colours of a figure: it is drawn with few, and many are shades between them.
N_COLOURS = 256

# In bytes, of all files.
LARGEST = 2_000_000


def check(study, *, preset='full'):
    """Refuse a run that is not the whole study."""
    if study['settings']['preset'] != preset:
        msg = f'want a run of the preset {preset}, got {study["settings"]["preset"]}'
        raise ValueError(msg)
    if missing := [name for name in STAGE_NAMES if name not in study['stages']]:
        msg = f'want a run with all stages; this one lacks {", ".join(missing)}'
        raise ValueError(msg)


def compress(source, target):
    """Copy a PNG with a palette of few colours, if that is smaller."""
    with Image.open(source) as image:
        white = Image.new('RGBA', image.size, 'white')
        flat = Image.alpha_composite(white, image.convert('RGBA')).convert('RGB')
    flat.quantize(N_COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
    if target.stat().st_size > source.stat().st_size:
        shutil.copyfile(source, target)


def ship(source, target=TARGET, *, preset='full'):
    """
    Replace the run in the documentation; return the size of its files in bytes.

    Nothing is replaced if the run is not whole or too large.
    """
    study = read_study(source)
    check(study, preset=preset)
    new = target.with_name(f'{target.name}.new')
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    shutil.copyfile(source / STUDY_NAME, new / STUDY_NAME)
    for stage, found in study['stages'].items():
        (new / stage).mkdir()
        for name in found['tables']:
            shutil.copyfile(source / stage / name, new / stage / name)
        for name in found['figures']:
            compress(source / stage / name, new / stage / name)
    size = sum(path.stat().st_size for path in new.rglob('*') if path.is_file())
    if size > LARGEST:
        shutil.rmtree(new)
        msg = f'the files have {size:,} bytes; want at most {LARGEST:,}'
        raise ValueError(msg)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    return size


def main():
    """Run from the command line."""
    if len(sys.argv) != 2:
        sys.exit(textwrap.dedent(__doc__).strip())
    try:
        size = ship(Path(sys.argv[1]))
    except (OSError, ValueError) as exc:
        sys.exit(str(exc))
    print(f'{size:,} bytes in {TARGET}')


if __name__ == '__main__':
    main()
