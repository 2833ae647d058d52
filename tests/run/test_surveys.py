"""Public surveys from file to masses by the command line: a named layout, a published relation, nothing else.

The files of ACT DR3 and SPT are the public ones. Those of MCXC, PSZ2 and redMaPPer are look-alikes: the columns, units
and gaps of the published tables, with objects simulated from a mass function and the published relation, so that the
true masses are known. Each selected catalogue lies above the relation, so masses that are read off the inverted relation
are too heavy (the Eddington shift); the posterior means must not be.
"""

from typing import NamedTuple

import numpy as np
import pytest
import warm_start
from astropy.table import Column, MaskedColumn, Table

from massmap_jax.prior.mass_prior import MassPrior

pytestmark = pytest.mark.slow

COSMOLOGY = "H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95"
LN10 = np.log(10)


def big_e(z):
    return np.sqrt(0.3 * (1 + z) ** 3 + 0.7)


class Survey(NamedTuple):
    """A file, the options beside its layout, and what is known of its objects (one value for each row)."""

    table: Table
    options: tuple[str, ...]
    ln_mass: np.ndarray
    naive: np.ndarray
    """ln of the mass by the inverse of the relation, without scatter or mass function."""


def tinker08(definition):
    nodes = {"redshift": np.arange(0.0, 1.85, 0.1), "log10_mass_range": (12.0, 16.0)}
    return MassPrior.from_hmf(hmf_model="Tinker08", mass_definition=definition, cosmology=COSMOLOGY, **nodes)


def halos(rng, number, redshift, definition, lowest):
    """ln M of halos above a mass, drawn from Tinker et al. 2008 at each redshift."""
    prior = tinker08(definition)
    z = rng.uniform(*redshift, number)
    ln_mass = np.linspace(np.log(lowest), np.log(5e15), 1500)
    found = np.empty(number)
    for low in np.arange(*redshift, 0.02):
        rows = (z >= low) & (z < low + 0.02)
        # With the width of the cells, which are equal.
        density = np.exp(np.asarray(prior.log_prob(ln_mass, np.full(ln_mass.size, low + 0.01)), dtype=float))
        cdf = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        found[rows] = np.interp(rng.uniform(0, cdf[-1], rows.sum()), cdf, ln_mass)
    return z, found


def sky(rng, number):
    return rng.uniform(0, 360, number), np.degrees(np.arcsin(rng.uniform(-1, 1, number)))


def mcxc(rng):
    z, ln_mass = halos(rng, 30_000, (0.06, 0.18), "500c", 5e13)
    ln_lum = (7 / 3) * np.log(big_e(z)) + 0.274 * LN10 + 1.64 * (ln_mass - np.log(3e14))
    observed = ln_lum + np.hypot(0.39, 0.1) * rng.standard_normal(z.size)
    keep = observed > np.log(0.6) + 2 * np.log(z / 0.1)
    z, ln_mass, observed = z[keep], ln_mass[keep], observed[keep]
    ra, dec = sky(rng, z.size)
    table = Table(
        {
            "MCXC": [f"J{i:04d}.0+0000 " for i in range(z.size)],
            "RAdeg": Column(ra, unit="deg"),
            "DEdeg": Column(dec, unit="deg"),
            "z": z,
            "L500": Column(np.exp(observed), unit="10+37W"),
            "M500": Column(np.exp(ln_mass) / 1e14, unit="10+14Msun"),
        }
    )
    naive = np.log(3e14) + (observed - (7 / 3) * np.log(big_e(z)) - 0.274 * LN10) / 1.64
    options = ("--sigma", "0.1", "--relation", "lx_mcxc11", "--relation-scatter", "0.39", "--mass-definition", "500c")
    return Survey(table, options, ln_mass, naive)


def psz2(rng):
    z, ln_mass = halos(rng, 100_000, (0.02, 0.5), "500c", 1e14)
    observed = np.log(0.8) + ln_mass + np.hypot(0.12, 0.15) * rng.standard_normal(z.size)
    keep = observed > np.log(2e14) + 1.2 * z
    z, ln_mass, mass = z[keep], ln_mass[keep], np.exp(observed[keep]) / 1e14
    ra, dec = sky(rng, z.size)
    # The catalogue's way to say that a redshift and a mass are not known.
    unknown = rng.uniform(size=z.size) < 0.1
    table = Table(
        {
            "NAME": [f"PSZ2 G{i:05d}" for i in range(z.size)],
            "RA": ra,
            "DEC": dec,
            "REDSHIFT": np.where(unknown, -1.0, z),
            "MSZ": np.where(unknown, 0.0, mass),
            "MSZ_ERR_UP": np.where(unknown, 0.0, mass * np.expm1(0.15)),
            "MSZ_ERR_LOW": np.where(unknown, 0.0, -mass * np.expm1(-0.15)),
        }
    )
    options = (
        "--relation",
        "identity",
        "--relation-scatter",
        "0.12",
        "--mass-bias",
        "0.8",
        "--mass-definition",
        "500c",
    )
    naive = np.log(mass * 1e14 / 0.8)
    return Survey(table, options, np.where(unknown, np.nan, ln_mass), np.where(unknown, np.nan, naive))


def redmapper(rng):
    z, ln_mass = halos(rng, 1_500_000, (0.10, 0.33), "200m", 4e12)
    x = ln_mass + np.log(0.7) - np.log(3e14)
    scatter = np.maximum(0.456 - 0.169 * np.maximum(x, np.log(1e13 / 3e14)), 0.05)
    observed = 3.207 + 0.993 * x + np.hypot(scatter, 0.05) * rng.standard_normal(z.size)
    keep = np.flatnonzero(observed > np.log(20))[:1000]
    z, ln_mass, richness = z[keep], ln_mass[keep], np.exp(observed[keep])
    table = Table(
        {
            "ID": np.arange(z.size, dtype=np.int32) + 1,
            "RA": rng.uniform(120, 240, z.size),
            "DEC": rng.uniform(0, 60, z.size),
            "Z_LAMBDA": MaskedColumn(z.astype(np.float32), mask=z < 0.101),
            "Z_LAMBDA_ERR": np.full(z.size, 0.006, dtype=np.float32),
            "LAMBDA": richness.astype(np.float32),
            "LAMBDA_ERR": (0.05 * richness).astype(np.float32),
        }
    )
    naive = np.log(3e14 / 0.7) + (np.log(richness) - 3.207) / 0.993
    options = ("--relation", "lambda_murata18", "--mass-definition", "200m", "--num-relation-draws", "50")
    return Survey(table, options, np.where(z < 0.101, np.nan, ln_mass), naive)


def masses(folder, source, layout, *options):
    """Mean and sd of ln M of each row, and what the program said."""
    prior = ("--prior", "hmf", "--hmf-model", "Tinker08", "--cosmology", COSMOLOGY)
    args = ["run", source, "--columns", layout, "--out", "out", "--no-figures", "--no-report", *prior, *options]
    args += ["--num-map-draws", "20"]
    ran = warm_start.run(args, folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    table = Table.read(folder / "out" / "masses.parquet")
    return LN10 * np.asarray(table["log10_mass_mean"]), LN10 * np.asarray(table["log10_mass_sd"]), table, ran.stdout


# The published errors of the relation of redMaPPer, which all objects share, are in the masses: coverage is above 68 %,
# and the mean over draws is not that of the central relation.
@pytest.mark.parametrize(
    ("make", "shared", "coverage"),
    [(mcxc, 0.03, (0.64, 0.72)), (psz2, 0.03, (0.64, 0.72)), (redmapper, 0.1, (0.64, 0.85))],
)
def test_true_masses_are_within_their_errors(make, shared, coverage, tmp_path):
    survey = make(np.random.default_rng(17))
    survey.table.write(tmp_path / "survey.fits")
    mean, sd, table, said = masses(tmp_path, "survey.fits", make.__name__, *survey.options)
    known = np.isfinite(survey.ln_mass)
    assert len(table) == known.size > 800
    np.testing.assert_array_equal(np.isfinite(mean), known)
    pull = ((survey.ln_mass - mean) / sd)[known]
    eddington = (survey.naive - survey.ln_mass)[known].mean()
    covered = (np.abs(pull) < 1).mean()
    print(f"{make.__name__}: {known.sum()} objects; inverted relation {eddington:+.3f} in ln M from the truth; posterior "
          f"{(mean - survey.ln_mass)[known].mean():+.3f}, sd {sd[known].mean():.3f}; 68 % covers {covered:.3f}")  # fmt: skip
    # The look-alikes lie above their relation: an inverted relation would fail the second line.
    assert eddington > 0.08
    assert abs((mean - survey.ln_mass)[known].mean()) < shared
    assert coverage[0] < covered < coverage[1]
    assert "HEALPix" in said  # an all-sky or wide field gets pixels on the sphere by itself


def test_spt_masses_move_by_the_eddington_shift_that_their_errors_and_the_mass_function_give(public_data, tmp_path):
    source = public_data / "spt" / "SPT2500d.fits"
    if not source.is_file():
        pytest.skip(f"public catalogues not found at {source}")
    mean, _, _, said = masses(tmp_path, source, "spt", "--relation", "identity", "--mass-definition", "500c")
    entered = Table.read(source)
    known = np.asarray(entered["M500"]) > 0
    np.testing.assert_array_equal(np.isfinite(mean), known)
    published = np.log(1e14 * np.asarray(entered["M500"], dtype=float)[known])
    z = np.asarray(entered["redshift"], dtype=float)[known]
    bars = np.array([np.asarray(entered[f"M500_{side}err"], dtype=float)[known] for side in "ul"])
    sigma = 0.5 * (np.log1p(bars[0] / np.exp(published) * 1e14) - np.log1p(-bars[1] / np.exp(published) * 1e14))
    # For a density that falls as exp(slope ln M), the mean of the posterior is moved by slope sigma^2.
    prior = tinker08("500c")
    ends = [np.asarray(prior.log_prob(mean[known] + step, z), dtype=float) for step in (0.05, -0.05)]
    expected = (ends[0] - ends[1]) / 0.1 * sigma**2
    shift = mean[known] - published
    print(f"SPT: {known.sum()} clusters; shift {shift.mean():+.4f} in ln M, expected {expected.mean():+.4f}")
    assert -0.4 < expected.mean() < -0.05
    np.testing.assert_allclose(shift, expected, atol=0.02)
    assert "posteriors" in said
