# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The network: pictures and apertures propose a profile, its fit and they give the flux."""

import math

import torch
from torch import nn
from torch.nn import functional

from astroflux.networks.artefacts import Artefacts
from astroflux.networks.familiarity import Familiarity
from astroflux.networks.layers import DenseResidual, picture_stack, silent
from astroflux.networks.neighbors import LEVEL, NEIGHBOR_OUTPUTS
from astroflux.networks.oddity import Oddity
from astroflux.networks.outputs import FIRST_OUTPUTS, QUANTILES, SHAPE
from astroflux.networks.photometry import Photometry, compress
from astroflux.networks.profile_fit import N_PARAMETERS, N_SOLVED, ProfileFit, ProfileGuess
from astroflux.networks.psf_gaussians import PSFGaussians
from astroflux.networks.psf_mixture import N_PSF_GAUSSIANS
from astroflux.networks.pyramid import Pyramid, symmetric_pictures
from astroflux.networks.sersic_model import PROFILE_PARAMETERS

__all__ = ['ProfileNet', 'achievable_scatter']

MEDIAN = QUANTILES.index(0.5)

# The scatter of ln flux that remains for the brightest galaxies.
SCATTER_FLOOR = 0.0005

# No mixture of fluxes is taken to be below this fraction of the reference.
SMALLEST_MIX = 0.05

# Fluxes of fits join the mixture within this range of ln(flux / reference).
FIT_RANGE = 4.0

# The correction to the mixture is of this order, beside 1.5 / (S/N).
CORRECTION = 0.02

TYPICAL_LN_INDEX = math.log(1.5)

# Fluxes of the fit, as it names them, that join the mixture.
FIT_FLUXES = ('ln_sersic', 'ln_free')

# Parameters of the profile that was fitted that an answer tells, with ``fit_`` before their names.
FIT_OUTPUTS = ('x', 'y', 'ln_radius', 'ln_index')

# Each convolutional stack ends in maps of 4 x 4.
MAP_PIXELS = 16

# Features of the best matched filter, and of how the fit ended.
N_REFERENCE = 3
N_SUMMARY = 8


def achievable_scatter(snr, floor=SCATTER_FLOOR):
    """
    Return roughly the scatter of ln flux that is achievable at a given S/N, above a floor.

    The information limit of a galaxy of unknown shape is about 1.5 / (S/N).
    """
    return ((1.5 / snr) ** 2 + floor**2).sqrt()


def _picture(image, symmetric, weight):
    """Return what a convolutional stack sees of one resolution."""
    usable = weight.clamp(max=2.0).expand(len(image), -1, -1)
    picture = torch.stack([compress(image), compress(symmetric), usable], dim=1)
    # channels last in memory, which convolutions on a CPU prefer
    return picture.contiguous(memory_format=torch.channels_last)


class ProfileNet(nn.Module):
    """
    Total flux of the central galaxy of a stamp, and its shape.

    Two convolutional stacks and photometry in apertures and filters propose a Sersic
    profile; a few Gauss-Newton steps fit it to the pixels (`ProfileFit`); the flux is a
    learned mixture of apertures, filters and fits with a small learned correction, all
    relative to the best matched filter, and so exactly equivariant.

    Parameters
    ----------
    channels, coarse_channels : sequence of int
        Channels of the four stages of the convolutional stacks that see pixels and blocks.
    maps : int
        Channels kept from each stack, as 4 x 4 maps.
    width : int
        Units of the dense layers.
    n_steps : int
        Steps of the fit; 0 for none.
    n_neighbors : int
        Most neighbors that the fit models beside the galaxy.
    sees_binning : bool
        Whether the network is told how large the blocks are that its pixels stand for.
    outputs : sequence of str
        What it says beside the flux: names of ``SHAPE`` in ``astroflux.networks.outputs``.

    Attributes
    ----------
    settings : dict
        The parameters, to build the network again.
    """

    def __init__(
        self,
        channels=(16, 24, 32, 48),
        coarse_channels=(8, 16, 24, 32),
        maps=32,
        width=256,
        n_steps=2,
        n_neighbors=0,
        sees_binning=False,
        outputs=FIRST_OUTPUTS,
    ):
        super().__init__()
        self.settings = {
            'channels': list(channels),
            'coarse_channels': list(coarse_channels),
            'maps': maps,
            'width': width,
            'n_steps': n_steps,
            'n_neighbors': n_neighbors,
            'sees_binning': sees_binning,
            'outputs': list(outputs),
        }
        named = {output.name: output for output in SHAPE}
        self.outputs = [named[name] for name in outputs]
        # In this order, in which seeded weights are drawn.
        n_features = self._make_eyes(channels, coarse_channels, maps)
        self.propose = DenseResidual(n_features + 2 * MAP_PIXELS * maps, width, 2)
        self.fit = ProfileFit(n_steps, n_neighbors=n_neighbors) if n_steps else None
        n_fit = self._make_fit_layers(n_features, width) if self.fit else 0
        self._make_heads(width + n_fit, width)
        self.binning = silent(nn.Linear(1, width)) if sees_binning else None

    def _make_eyes(self, channels, coarse_channels, maps):
        """Make what looks at the stamp; return how many features there are beside the maps."""
        self.pyramid = Pyramid()
        self.photometry = Photometry()
        self.fine = picture_stack(channels, maps)
        self.coarse = picture_stack(coarse_channels, maps)
        self.psf = PSFGaussians()
        n_fluxes = self.photometry.n_fluxes
        n_apertures = self.photometry.area.shape[1]
        n_signals, n_coverage = 2 * (n_fluxes + n_apertures), 2 * n_apertures
        n_features = n_signals + 2 * n_fluxes + n_coverage + N_REFERENCE + self.psf.n_features
        self.standardise = nn.BatchNorm1d(n_features, affine=False, momentum=0.01)
        return n_features

    def _make_fit_layers(self, n_features, width):
        """Make what starts the fit and judges it; return the number of its features."""
        n_steps = self.fit.n_steps
        # what the guess consists of, and how many numbers that is
        self.sizes = {
            'change': N_PARAMETERS,
            'width': n_steps * N_SOLVED,
            'misfit': n_steps,
            'cut': n_steps,
            'free': self.fit.n_gaussians,
            'bend': 2,
            'opinion': self.psf.n_opinions,
        }
        self.guess = silent(nn.Linear(width, sum(self.sizes.values())))
        n_fit = self.fit.n_features + N_SUMMARY + 2 * N_PSF_GAUSSIANS
        if self.fit.neighbors:
            n_fit += 2 * self.photometry.n_fluxes + self.photometry.area.shape[1]
        self.standardise_fit = nn.BatchNorm1d(n_fit, affine=False, momentum=0.01)
        self.oddity = Oddity()
        self.artefacts = Artefacts()
        self.familiarity = Familiarity([n_features, n_fit, self.oddity.n_features])
        for name, values in {
            'prior': [0.3] * N_PARAMETERS + [0.03],
            'start_lowest': [-60.0, -3.5, -3.5, -2.0, -2.0, -2.5, math.log(0.35)],
            'start_highest': [60.0, 3.5, 3.5, 2.0, 2.0, 3.5, math.log(6.0)],
        }.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)
        return n_fit

    def _make_heads(self, n_joined, width):
        """Make what concludes: flux, shape and their errors."""
        n_fit_fluxes = len(FIT_FLUXES) if self.fit else 0
        n_cleaned = self.photometry.n_fluxes if self.fit and self.fit.neighbors else 0
        self.join = DenseResidual(n_joined, width, 2)
        self.mix = silent(nn.Linear(width, 2 * self.photometry.n_fluxes + n_fit_fluxes + n_cleaned))
        if n_fit_fluxes:
            # begin with the fits
            with torch.no_grad():
                first = 2 * self.photometry.n_fluxes
                self.mix.bias[first : first + n_fit_fluxes] = 4.0
        self.correction = silent(nn.Linear(width, 1))
        self.shape = silent(nn.Linear(width, len(self.outputs)))
        self.distribution = nn.Sequential(
            nn.Linear(width, 96), nn.SiLU(), nn.Linear(96, len(QUANTILES) + len(self.outputs))
        )

    def forward(self, image, weight, psf, binning=1, known=None):
        """
        Measure a batch of stamps.

        Parameters
        ----------
        image : `torch.Tensor`
            ``(n, 147, 147)`` float32 in units of a noise, centred on the galaxy; 0 where
            the weight is.
        weight : `torch.Tensor`
            Same shape or ``(1, 147, 147)``, inverse variance in that unit, 0 where a pixel
            does not exist or cannot be used.
        psf : `torch.Tensor`
            ``(n, 9)``: full width at half maximum in pixels, noise-equivalent area
            ``sum(psf)**2 / sum(psf**2)`` in square pixels, and the mixture of
            `~astroflux.networks.psf_mixture.fit_psf_mixtures`; NaN where unknown.
        binning : int or `torch.Tensor`
            How many pixels of the survey, along an axis, a pixel of the image is the sum of; for
            each stamp ``(n,)``, or for all. In units of the noise, what the sky is wrong by grows
            with it, and so does its prior.
        known : ``Neighbors`` of ``networks/neighbors.py``, optional
            Neighbors whose light was subtracted from the image; a network without neighbors has
            no use for them.

        Returns
        -------
        answer : dict of `torch.Tensor`
            ``ln_flux`` ``(n,)``, in units of the noise; ``quantiles`` ``(n, 7)`` of its
            predictive distribution, relative to it; the ``outputs`` by their names and, as
            ``NAME_error``, their errors, each ``(n,)``; ``detection_snr`` of the best matched
            filter; with neighbors, what ``NEIGHBOR_OUTPUTS`` of ``networks/neighbors.py``
            names; and, but for training,
            ``novelty``, above one where `~astroflux.networks.familiarity.Familiarity` has
            hardly seen the like, and what it has ``judged``; what ``ARTEFACT_OUTPUTS`` of
            ``networks/artefacts.py`` names; ``fit_x``, ``fit_y``, ``fit_ln_radius`` and
            ``fit_ln_index`` of the profile; and ``ln_fwhm`` of the PSF, each ``(n,)``; and the
            ``model`` ``(n, 17)`` with ``model_psf`` ``(n, 8)``, which
            ``SourceModels`` of ``networks/source_models.py`` draws.
        """
        raw, filled = self.pyramid(image, weight)
        symmetric = symmetric_pictures(filled)
        view = self._look(raw, filled, symmetric, psf)
        features = self.standardise(view['features'])
        maps = self._see(raw, filled, symmetric)
        hidden = self.propose(torch.cat([features, *maps], dim=1))
        binning = torch.as_tensor(binning, dtype=hidden.dtype, device=hidden.device)
        binning = binning.expand(len(hidden))[:, None]
        if self.binning:
            hidden = hidden + self.binning(binning.log())
        answer, candidates, ln_radius = {}, view['candidates'], view['ln_width']
        if self.fit:
            fit, fit_features = self._fit(raw, view, hidden, binning, known)
            fit_features = self.standardise_fit(fit_features)
            hidden = torch.cat([hidden, fit_features], dim=1)
            candidates = torch.cat([candidates, self._fluxes_of_fit(fit, view)], dim=1)
            if self.fit.neighbors:
                candidates = torch.cat([candidates, fit['cleaned_fluxes']], dim=1)
            ln_radius = fit['parameters'][:, PROFILE_PARAMETERS.index('ln_radius')]
            answer = {name: fit[name] for name in ('ln_start', *FIT_FLUXES)}
            if self.fit.neighbors:
                answer |= {name: fit[name] for name in NEIGHBOR_OUTPUTS}
            if not self.training:
                answer |= self._judge(raw, view, fit, features, fit_features)
        hidden = self.join(hidden)
        # The errors learn from the answer but must not pull at it. The flux that is told is their
        # median, so that its derivative by the pixels goes through them.
        of_errors = hidden.detach() if self.training else hidden
        return {
            **answer,
            'ln_flux': self._ln_flux(hidden, candidates, view),
            **self._shape(hidden, ln_radius),
            'detection_snr': view['snr'],
            **self._errors(of_errors, view['snr']),
        }

    def _see(self, raw, filled, symmetric):
        """Return the maps of the convolutional stacks, of pixels and of blocks."""
        return [
            stack(_picture(filled.pictures[level], symmetric[level], raw.weights[level]))
            for level, stack in enumerate((self.fine, self.coarse))
        ]

    def _look(self, raw, filled, symmetric, psf):
        """Return features and flux candidates of apertures and filters."""
        weight = self.pyramid.tile(filled.weights)
        seen = [
            self.photometry(self.pyramid.tile(pictures), weight)
            for pictures in (filled.pictures, symmetric)
        ]
        reference, snr, ln_width = self.photometry.reference(seen[0])
        candidates = torch.cat([s.flux for s in seen], dim=1) / reference[:, None]
        coverage = [
            self.photometry.coverage(w).expand(len(reference), -1)
            for w in (weight, self.pyramid.tile(raw.weights))
        ]
        psf_features = self.psf.features(psf)
        features = torch.cat(
            [
                compress(torch.cat([v for s in seen for v in (s.snr, s.ring_snr)], dim=1)),
                # The ratios' useful range is 0 to 10; beyond, noise over noise.
                compress(candidates.clamp(-20, 20)),
                *coverage,
                torch.stack([snr.log(), reference.log(), ln_width], dim=1),
                psf_features,
            ],
            dim=1,
        )
        return {
            'features': features,
            'candidates': candidates,
            'ln_reference': reference.log(),
            'snr': snr,
            'ln_width': ln_width,
            'psf_features': psf_features,
        }

    def _guess(self, view, hidden, binning):
        """Return where the fit starts."""
        parts = self.guess(hidden).split(list(self.sizes.values()), dim=1)
        parts = dict(zip(self.sizes, parts, strict=True))
        zero = torch.zeros_like(view['ln_width'])
        start = torch.stack(
            [view['ln_reference'], *[zero] * 4, view['ln_width'], zero + TYPICAL_LN_INDEX], dim=1
        )
        n = len(start)
        ln_variance, psf_weight = self.psf(view['psf_features'], parts['opinion'])
        width = parts['width'].clamp(-5, 3).exp().view(n, -1, N_SOLVED).transpose(0, 1)
        # the sky comes last
        prior = torch.cat([self.prior[:-1].expand(n, -1), binning * self.prior[-1:]], dim=1)
        return ProfileGuess(
            start=(start + parts['change']).clamp(self.start_lowest, self.start_highest),
            ln_variance=ln_variance,
            weight=psf_weight,
            width=width * prior,
            misfit=0.03 * parts['misfit'].clamp(-6, 3).exp().T,
            cut=10.0 * parts['cut'].clamp(-3, 5).exp().T,
            free_width=parts['free'].clamp(-6, 3).exp(),
            bend_width=0.1 * parts['bend'].clamp(-5, 3).exp(),
            fwhm=self.psf.ln_fwhm(view['psf_features'], parts['opinion'])[:, 0].exp(),
        )

    def _fit(self, raw, view, hidden, binning, known):
        """Guess a profile, fit it, and return the fit and its features."""
        guess = self._guess(view, hidden, binning)
        weight = self.pyramid.tile(raw.weights).expand(len(hidden), -1)
        blocks = raw.pictures[LEVEL], raw.weights[LEVEL]
        fit = self.fit(self.pyramid.tile(raw.pictures), weight, guess, blocks, known)
        fit['ln_start'] = guess.start[:, 0]
        fit['ln_fwhm'] = guess.fwhm.log()
        fit['model_psf'] = torch.cat([guess.ln_variance, guess.weight], dim=1)
        x, y, e1, e2, ln_radius, ln_index = fit['parameters'][:, 1:].unbind(dim=1)
        summary = torch.stack(
            [
                fit['ln_sersic'] - fit['ln_free'],
                fit['ln_sersic'] - view['ln_reference'],
                ln_radius,
                ln_index,
                ln_radius - 0.5 * guess.ln_variance[:, 0],
                (e1 * e1 + e2 * e2 + 1e-8).sqrt(),
                (x * x + y * y + 1e-8).sqrt(),
                view['snr'].log(),
            ],
            dim=1,
        )
        features = [fit['features'], summary, guess.ln_variance, guess.weight]
        if self.fit.neighbors:
            cleaned = self._look_again(fit['cleaned'], weight)
            fit['cleaned_fluxes'] = cleaned.flux / view['ln_reference'].exp()[:, None]
            seen = torch.cat([cleaned.snr, cleaned.ring_snr], dim=1)
            relative = fit['cleaned_fluxes'].clamp(-20, 20)
            features.append(compress(torch.cat([seen, relative], dim=1)))
        return fit, torch.cat(features, dim=1)

    def _look_again(self, cleaned, weight):
        """Return what apertures and filters say of tiles without neighbors."""
        # what is missing is replaced by what lies across the centre
        turned, turned_weight = self.pyramid.turn(cleaned), self.pyramid.turn(weight)
        missing = weight <= 0
        return self.photometry(
            torch.where(missing, turned * (turned_weight > 0), cleaned),
            torch.where(missing, turned_weight, weight),
        )

    @staticmethod
    def _fluxes_of_fit(fit, view):
        """Return the fluxes of the fit over the reference."""
        relative = torch.stack([fit[name] for name in FIT_FLUXES], dim=1)
        relative = relative - view['ln_reference'][:, None]
        return relative.clamp(-FIT_RANGE, FIT_RANGE).exp()

    def _judge(self, raw, view, fit, features, fit_features):
        """Return how new a case is, and the numbers that were judged."""
        oddity = self.oddity(fit['pull'], raw.pictures[0], fit['ln_fwhm'])
        judged = torch.cat([features, fit_features, oddity], dim=1).detach()
        tiled = [self.pyramid.tile(parts) for parts in (raw.pictures, raw.weights)]
        found = self.artefacts(raw.pictures[0], raw.weights[0], *tiled, fit['ln_fwhm'])
        named = dict(zip(PROFILE_PARAMETERS, fit['parameters'].unbind(dim=1), strict=True))
        return {
            'judged': judged,
            'novelty': self.familiarity(judged, view['snr']),
            **found,
            **{f'fit_{name}': named[name] for name in FIT_OUTPUTS},
            'model': fit['model'],
            'model_psf': fit['model_psf'],
            'ln_fwhm': fit['ln_fwhm'],
        }

    def _ln_flux(self, hidden, candidates, view):
        """Return ln of the flux: a mixture of the candidates, and a small correction."""
        mix = (self.mix(hidden).softmax(dim=1) * candidates).sum(dim=1)
        correction = self.correction(hidden)[:, 0] * (CORRECTION + 1.5 / view['snr'])
        return view['ln_reference'] + mix.clamp(min=SMALLEST_MIX).log() + correction

    def _shape(self, hidden, ln_radius):
        """Return the numbers of the shape."""
        raw = self.shape(hidden).unbind(dim=1)
        return {
            output.name: output.value(column, ln_radius)
            for output, column in zip(self.outputs, raw, strict=True)
        }

    def _errors(self, hidden, snr):
        """Return the quantiles of the flux, and the errors of the shape."""
        raw = self.distribution(hidden)
        scale = achievable_scatter(snr)[:, None]
        median = raw[:, MEDIAN : MEDIAN + 1]
        below = functional.softplus(raw[:, :MEDIAN]).flip(1).cumsum(dim=1).flip(1)
        above = functional.softplus(raw[:, MEDIAN + 1 : len(QUANTILES)]).cumsum(dim=1)
        quantiles = scale * torch.cat([median - below, median, median + above], dim=1)
        errors = functional.softplus(raw[:, len(QUANTILES) :]) * (scale + 0.01)
        names = [output.error for output in self.outputs]
        return {'quantiles': quantiles, **dict(zip(names, errors.unbind(dim=1), strict=True))}

    @property
    def n_parameters(self):
        """Number of trained parameters."""
        return sum(math.prod(p.shape) for p in self.parameters())
