# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The PSF of an image from its stars.

    python docs/examples/stars.py

draws the figure of ``docs/fields.rst``, as the build of the documentation does.
"""

from pathlib import Path

import galsim
import numpy as np

from astroflux.cutouts import psf_from_stars

FIGURE = Path(__file__).parents[1] / '_generated' / 'stars.png'

SIDE = 1500
N_STARS, N_GALAXIES = 60, 150
FWHM = 4.0
SATURATION = 8000.0
NOISE = 10.0


def simulate(seed=1):
    """Return an image of stars and galaxies, the brightest stars saturated."""
    rng = np.random.default_rng(seed)
    image = galsim.ImageF(SIDE, SIDE, scale=1.0)
    psf = galsim.Moffat(beta=3.0, fwhm=FWHM)
    for number in range(N_STARS + N_GALAXIES):
        x, y = rng.uniform(20, SIDE - 20, 2)
        flux = np.exp(rng.uniform(np.log(2e3), np.log(4e5)))
        source = psf.withFlux(flux)
        if number >= N_STARS:
            size = np.exp(rng.normal(np.log(3.5), 0.5))
            galaxy = galsim.Sersic(n=rng.choice([1.0, 1.5, 2.5]), half_light_radius=size)
            galaxy = galaxy.shear(g1=rng.normal(0, 0.15), g2=rng.normal(0, 0.15))
            source = galsim.Convolve(galaxy.withFlux(flux), psf)
        # GalSim counts pixels from 1
        center = galsim.PositionD(x + 1, y + 1)
        stamp = source.drawImage(nx=121, ny=121, scale=1.0, center=center)
        inside = stamp.bounds & image.bounds
        image[inside] += stamp[inside]
    return np.minimum(image.array, SATURATION) + rng.normal(0, NOISE, image.array.shape)


def main():
    """Draw the figure."""
    psf = psf_from_stars(simulate())
    FIGURE.parent.mkdir(exist_ok=True)
    psf.plot(FIGURE)


if __name__ == '__main__':
    main()
