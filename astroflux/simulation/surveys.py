# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Survey constants that a simulation needs: pixels, noise, zero point, seeing."""

import math
from dataclasses import dataclass

from astroflux._optional import import_optional

__all__ = ['SURVEYS', 'Survey', 'get_survey']


@dataclass(frozen=True)
class Survey:
    """
    What a survey's coadd looks like to a simulation.

    Attributes
    ----------
    name : str
        Name for tables and headers.
    pixel_scale : float
        Pixel scale in arcsec per pixel.
    zeropoint : float
        AB magnitude of a source of 1 ADU.
    noise : float
        Standard deviation of the sky noise in ADU per pixel.
    psf_fwhm : tuple of float
        Range of the seeing's full width at half maximum in arcsec.
    """

    name: str
    pixel_scale: float
    zeropoint: float
    noise: float
    psf_fwhm: tuple[float, float]


# Surveys by name, beside those of surveycodex.
SURVEYS = {
    survey.name: survey
    for survey in (
        # The noise is what the variance planes of public HSC Wide i and r coadds
        # hold (0.046 to 0.057 ADU per pixel at zero point 27).
        Survey('hsc-wide', pixel_scale=0.168, zeropoint=27.0, noise=0.05, psf_fwhm=(0.5, 1.0)),
    )
}


def _surveycodex(module=''):
    return import_optional(f'surveycodex{module}', extra='simulate')


def _from_surveycodex(survey_name, band):
    """
    Translate an entry of ``surveycodex`` into ADU at zero point 27.

    The sky noise is the Poisson noise of the sky level in the full exposure,
    so it leaves out read noise and losses: a lower limit.
    """
    entry = _surveycodex().get_survey(survey_name)
    filt = entry.get_filter(band)
    zeropoint = 27.0
    sky = _surveycodex('.utilities').mean_sky_level(entry, filt).to_value('electron')
    electron_per_adu = filt.full_exposure_time.to_value('s') * 10 ** (
        0.4 * (filt.zeropoint.to_value('mag') - zeropoint)
    )
    fwhm = filt.psf_fwhm.to_value('arcsec')
    return Survey(
        name=f'{survey_name}-{band}',
        pixel_scale=entry.pixel_scale.to_value('arcsec'),
        zeropoint=zeropoint,
        noise=math.sqrt(sky) / electron_per_adu,
        psf_fwhm=(0.8 * fwhm, 1.3 * fwhm),
    )


def get_survey(name='hsc-wide'):
    """
    Return the constants of a survey.

    Parameters
    ----------
    name : str
        ``'hsc-wide'`` or another name in ``astroflux.simulation.surveys.SURVEYS``,
        or ``'SURVEY-BAND'`` for any survey that
        `surveycodex <https://github.com/LSSTDESC/surveycodex>`_ knows, such
        as ``'LSST-i'`` or ``'DES-r'``.

    Returns
    -------
    survey : `Survey`

    Raises
    ------
    ValueError
        If the survey is not known.
    """
    if name in SURVEYS:
        return SURVEYS[name]
    surveycodex = _surveycodex()
    survey_name, _, band = name.rpartition('-')
    if survey_name in surveycodex.available_surveys:
        filters = surveycodex.get_survey(survey_name).available_filters
        if band in filters:
            return _from_surveycodex(survey_name, band)
        msg = f'survey {survey_name!r} has the bands {filters}, got {band!r}'
        raise ValueError(msg)
    own, known = ', '.join(map(repr, SURVEYS)), ', '.join(sorted(surveycodex.available_surveys))
    msg = f"unknown survey {name!r}: want {own}, or 'SURVEY-BAND' where SURVEY is of {known}"
    raise ValueError(msg)
