"""Calibration on a simulated survey that is not ours: cosmocnc's, with true masses and its own selection.

PITs of our posteriors and of cosmocnc's masses (its mean and sd, as a normal) in bins of the data, in one figure; and
what has been recorded of nemo.
"""

import json
from typing import NamedTuple

import jax
import numpy as np
from provenance import RESULTS
from scipy.stats import norm

import massmap_jax as mm
from massmap_jax.checks.bins import bins_of_data
from massmap_jax.checks.ecdf_bands import ecdf_at, ecdf_bands, uniformity_p_value
from massmap_jax.figures import style
from validate.record import Number, Row, Section, Twin, at_least, average, share, source_of

BINS = 3
LEVEL = 0.01
COMMAND = "pip install 'massmap_jax[peers]'"


class Survey(NamedTuple):
    """True ln M, what was observed, and the PITs of each code."""

    q: np.ndarray
    z: np.ndarray
    truth: np.ndarray
    pits: dict[str, np.ndarray]
    wrong: np.ndarray  # of the twin


def survey(quick: bool) -> Survey:
    """The simulated SZ survey of cosmocnc under its own relation; imports cosmocnc, which may be absent."""
    wide = jax.config.jax_enable_x64
    try:
        from peers import against_cosmocnc as peer
    finally:
        jax.config.update("jax_enable_x64", wide)  # cosmocnc turns it on for the whole process

    found = peer.simulated()
    rows = slice(0, 300 if quick else None)
    q, z, truth = (column[rows] for column in found)
    prior, reference = peer.tables()
    relation = peer.SZRelation.of_survey()
    catalogue = mm.HaloCatalogue.from_arrays(luminosity=q, redshift=z, sigma_ln_luminosity=1 / q, noise_kind="normal")
    pits = {"massmap_jax": mm.mass_posterior(catalogue, prior, relation).cdf(truth)}
    # The twin: SZ noise as if it were lognormal, which forgets the many halos too light for their signal.
    lognormal = mm.HaloCatalogue.from_arrays(luminosity=q, redshift=z, sigma_ln_luminosity=1 / q)
    wrong = mm.mass_posterior(lognormal, prior, relation, method="quadrature").cdf(truth)
    if not quick:
        with jax.enable_x64(True):
            mean, sd, _ = peer.peer(reference, q.size)
        pits["cosmocnc"] = norm.cdf((truth - mean) / sd)
    return Survey(q, z, truth, pits, wrong)


def p_of_bins(pit, which) -> tuple[np.ndarray, float]:
    """p value in each bin, and the smallest times their number."""
    p = np.array([uniformity_p_value(pit[which == b]) for b in np.unique(which)])
    return p, float(min(1.0, p.size * p.min()))


def rows_of(found: Survey, which) -> list[Row]:
    rows = []
    for name, pit in found.pits.items():
        off = np.abs(pit - 0.5)
        p, smallest = p_of_bins(pit, which)
        numbers = {
            "within 68 %": share(off < 0.34),
            "within 95 %": share(off < 0.475),
            "mean PIT": average(pit),
            "p of the bins": Number(smallest),
            "bins with p < 0.01": Number(int((p < LEVEL).sum())),
        }
        ours = name == "massmap_jax"
        p_wrong, _ = p_of_bins(found.wrong, which)
        rows.append(
            Row(
                f"cosmocnc's SZ survey, true parameters: PITs of {name} are uniform in {BINS} x {BINS} bins of z and q",
                numbers,
                f"{pit.size:,} clusters with q > 5 and true masses, simulated by cosmocnc",
                {"p of the bins": at_least(LEVEL)} if ours else {},
                Twin("noise taken as lognormal", int((p_wrong < LEVEL).sum()), p_wrong.size, 1) if ours else None,
                remark="" if ours else "its mean and sd, as a normal: it gives no quantiles",
            )
        )
    return rows


def nemo_rows() -> list[Row]:
    recorded = json.loads((RESULTS / "peers.json").read_text())
    found = recorded["rows"]["calibration, 20,000 simulated objects"]
    return [
        Row(
            f"nemo's model, our simulation: mean PIT with its prior {prior}",
            {"mean PIT": Number(values["mean PIT"], float(1 / np.sqrt(12 * 20_000))), "p": Number(values["KS p"])},
            "20,000 simulated objects (`benchmarks/peers/against_nemo.py`)",
            source=source_of(recorded),
        )
        for prior, values in found.items()
    ]


def run(quick: bool) -> Section:
    figures, rows = {}, []
    try:
        found = survey(quick)
    except ImportError as error:
        rows.append(
            Row("cosmocnc's SZ survey: calibrated in bins", {}, "", not_run=f"{error.name} is absent ({COMMAND})")
        )
    else:
        which = bins_of_data(found.z, found.q, BINS)
        rows += rows_of(found, which)
        figures["pit"] = (
            lambda: figure(found, which),
            "ECDF of the PIT minus the diagonal in bins of z (rows) and of the signal to noise q (columns), with the "
            "99 % "
            "simultaneous band of each bin (grey). cosmocnc's PITs are of a normal with its mean and sd.",
        )
    return Section(
        "public_mocks",
        "Calibration on simulations that are not ours",
        "The simulated survey comes with cosmocnc (a survey like the Simons Observatory's; Zubeldia & Bolliet 2024): "
        "its "
        "masses, signals, noise and selection are not made by our code. Both codes are given its true parameters and "
        "the "
        "same table of the mass function. Uniformity is judged by simultaneous bands (Säilynoja, Bürkner & Vehtari "
        "2022), "
        "in bins of the data. nemo ships no simulated catalogue with true masses.",
        rows + nemo_rows(),
        figures=figures,
    )


@style.styled
def figure(found: Survey, which):
    drawn = style.new_figure(style.PAGE, 5.0)
    axes = drawn.subplots(BINS, BINS, sharex=True, sharey=True)
    points = np.arange(1, 100) / 100
    for b, ax in enumerate(axes.flat):
        inside = which == b
        bands = ecdf_bands(int(inside.sum()), LEVEL)
        ax.fill_between(
            bands.points, bands.low - bands.points, bands.high - bands.points, color="0.88", lw=0, step=None
        )
        for (name, pit), colour in zip(found.pits.items(), (style.BLUE, style.VERMILLION), strict=False):
            ax.plot(points, ecdf_at(pit[inside], points) - points, color=colour, label=name)
        ax.plot(
            points, ecdf_at(found.wrong[inside], points) - points, ":", color=style.BLACK, label="twin: lognormal noise"
        )
        z, q = found.z[inside], found.q[inside]
        ax.set_title(f"z {z.min():.2f} to {z.max():.2f}, q {q.min():.1f} to {q.max():.1f}", fontsize=7)
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    for ax in axes[-1]:
        ax.set_xlabel("PIT")
    for ax in axes[:, 0]:
        ax.set_ylabel("ECDF - PIT")
    return drawn
