# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Right ascension and declination of what was measured, from the WCS of the cutouts."""

import numpy as np
from astropy import units as u
from astropy.coordinates import ICRS, ConvertError, SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

__all__ = ['SkyPositions']

# what a WCS raises that is no good
_FAULTS = (ValueError, ArithmeticError, LookupError, AttributeError)


class SkyPositions:
    """
    Positions of cutouts on the sky, grown batch by batch.

    Each WCS is asked once in a batch, and each frame is transformed once at the end.
    """

    def __init__(self):
        self._parts = []
        self._frames = {}
        self._n_rows = 0

    def add(self, cutouts):
        """Take the positions of a batch."""
        groups = {}
        for row, cutout in enumerate(cutouts, start=self._n_rows):
            if cutout.wcs is not None:
                groups.setdefault(id(cutout.wcs), (cutout.wcs, [], []))
                _, rows, positions = groups[id(cutout.wcs)]
                rows.append(row)
                positions.append(np.add(cutout.position, cutout.wcs_origin))
        for wcs, rows, positions in groups.values():
            x, y = np.array(positions, dtype=float).T
            try:
                found = self._on_sky(wcs, x, y)
            except _FAULTS:
                found = None
            if found is not None:
                self._parts.append((rows, *found))
        self._n_rows += len(cutouts)

    def _on_sky(self, wcs, x, y):
        """Return longitude and latitude in degrees and their frame; `None` if there is no sky."""
        low = getattr(wcs, 'low_level_wcs', wcs)
        if not isinstance(low, WCS):
            return _by_any_wcs(low, x, y)
        if not low.has_celestial:
            return None
        celestial = low if low.naxis == 2 else low.celestial
        lng, lat = celestial.wcs.lng, celestial.wcs.lat
        # with its distortion
        world = celestial.all_pix2world(x, y, 0)
        # making a frame takes as long as the rest
        told = celestial.wcs
        key = (told.ctype[lng][:4], told.radesys, told.equinox, told.dateobs)
        if key not in self._frames:
            self._frames[key] = wcs_to_celestial_frame(celestial)
        return world[lng], world[lat], self._frames[key]

    def extend(self, other):
        """Take the positions of another, whose rows come after those that are here."""
        for rows, lon, lat, frame in other._parts:
            self._parts.append(([self._n_rows + row for row in rows], lon, lat, frame))
        self._n_rows += other._n_rows

    def columns(self):
        """Return ``ra`` and ``dec`` in degrees (ICRS), NaN where unknown; empty if all are."""
        ra, dec = np.full((2, self._n_rows), np.nan)
        by_frame = {}
        for rows, lon, lat, frame in self._parts:
            _, *parts = by_frame.setdefault(id(frame), (frame, [], [], []))
            for part, values in zip(parts, (rows, lon, lat), strict=True):
                part.append(values)
        for frame, *parts in by_frame.values():
            rows, lon, lat = (np.concatenate(part) for part in parts)
            if not isinstance(frame, ICRS):
                try:
                    icrs = SkyCoord(lon, lat, unit='deg', frame=frame).icrs
                except (ConvertError, ValueError):
                    continue
                lon, lat = icrs.ra.deg, icrs.dec.deg
            ra[rows], dec[rows] = lon % 360, lat
        return {'ra': ra, 'dec': dec} if np.isfinite(ra).any() else {}


def _by_any_wcs(wcs, x, y):
    """Return what a WCS of the common interface says, such as a slice of one."""
    classes = wcs.world_axis_object_classes
    names = [name for name, (kind, *_) in classes.items() if kind is SkyCoord]
    if wcs.pixel_n_dim != 2 or len(names) != 1:
        return None
    (name,) = names
    components = enumerate(wcs.world_axis_object_components)
    axes = {part: axis for axis, (key, part, _) in components if key == name}
    world = wcs.pixel_to_world_values(x, y)
    lon, lat = (
        u.Quantity(world[axes[part]], wcs.world_axis_units[axes[part]]).to_value(u.deg)
        for part in (0, 1)
    )
    return lon, lat, classes[name][2]['frame']
