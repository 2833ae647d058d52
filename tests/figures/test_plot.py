"""Figures: what is drawn for which data, where the ticks are, and that every text can be read."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import jax
import matplotlib
import matplotlib.figure
import matplotlib.text
import numpy as np
import pytest
from legible import check_legible
from scipy import stats

from massmap_jax import plot
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.figures import axes as sky_axes
from massmap_jax.figures import maps as map_plots
from massmap_jax.figures import relation as relation_plots
from massmap_jax.figures import style
from massmap_jax.figures import truth as truth_plots
from massmap_jax.figures.all_sky import MollweidePlane
from massmap_jax.figures.standard import figure_makers
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.maps.smoothing import smoothed
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.simulate import simulate_field

ALL = {"posterior_panel", "field_of_view", "mass_map", "map_panels", "predicted_vs_true", "pit_histograms"}


@pytest.fixture(scope="module")
def model():
    return MassPrior.default(), MassLuminosityRelation.preset("bigmali2017")


def results(catalogue, model):
    """Posterior and, with positions, map."""
    posterior = mass_posterior(catalogue, *model)
    if catalogue.ra is None:
        return posterior, None
    grid = PixelGrid.fit(catalogue.ra, catalogue.dec, frame=catalogue.frame)
    return posterior, mass_map(jax.random.key(0), catalogue, *model, grid, num_draws=4, posterior=posterior)


def random_catalogue(ra, dec, **options):
    generator = np.random.default_rng(3)
    n = len(ra) if ra is not None else 12
    columns = {"luminosity": np.exp(generator.normal(9.5, 0.5, n)), "redshift": generator.uniform(0.1, 1, n)}
    columns["sigma_ln_luminosity"] = 0.05
    return HaloCatalogue.from_arrays(**columns | {"ra": ra, "dec": dec} | options)


def box(ra, dec, n=300):
    generator = np.random.default_rng(4)
    return generator.uniform(*ra, n) % 360, generator.uniform(*dec, n)


@pytest.fixture(scope="module")
def field(model):
    catalogue = simulate_field(jax.random.key(1), 1500, prior=model[0], relation=model[1]).catalogue
    return catalogue, *results(catalogue, model)


def test_matplotlib_is_imported_when_called():
    code = "import sys, massmap_jax.figures.posteriors; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_standard_figures_of_a_field(field):
    catalogue, posterior, fieldmap = field
    before = dict(matplotlib.rcParams)
    figures = plot.standard_figures(posterior, fieldmap, catalogue)
    assert set(figures) == ALL
    assert dict(matplotlib.rcParams) == before
    for figure in figures.values():
        assert isinstance(figure, matplotlib.figure.Figure)
        check_legible(figure)
    text = " ".join(t.get_text() for f in figures.values() for t in f.findobj(matplotlib.text.Text))
    assert "200m" in text and r"\mathrm{M}_\odot" in text and "KS p" in text


def test_figures_only_where_there_are_data(model):
    posterior, _ = results(random_catalogue(None, None, ids=list("abcdefghijkl")), model)
    assert set(plot.standard_figures(posterior)) == {"posterior_panel"}
    posterior, fieldmap = results(random_catalogue(*box((10, 11), (5, 6))), model)
    assert set(plot.standard_figures(posterior, fieldmap)) == ALL - {"predicted_vs_true", "pit_histograms"}
    posterior, _ = results(random_catalogue(None, None, truth_mass=np.full(12, 1e12)), model)
    assert set(plot.standard_figures(posterior)) == {"posterior_panel", "predicted_vs_true", "pit_histograms"}


def all_but_one_nan():
    lum = np.full(300, np.nan)
    lum[77] = 2e4
    return random_catalogue(*box((10, 11), (5, 6)), luminosity=lum, truth_mass=np.full(300, 1e13))


ODD_FIELDS = {
    "one": lambda: random_catalogue([10.0], [20.0], ids=["a $ id, and a long one"], truth_mass=[1e12]),
    "all but one NaN": all_but_one_nan,
    "RA 0": lambda: random_catalogue(*box((359.6, 360.4), (-0.4, 0.4)), ids=[f"obj {i}" for i in range(300)]),
    "wide": lambda: random_catalogue(*box((-60, 60), (-9, 5))),
    "tall": lambda: random_catalogue(*box((180, 181), (58, 64))),
    "north pole": lambda: random_catalogue(*box((0, 360), (84, 90))),
    "south pole": lambda: random_catalogue(*box((0, 360), (-90, -80))),
    "flat": lambda: random_catalogue(*(np.array(v) - 200 for v in box((0, 50), (0, 15))), position_unit="arcmin"),
}
# The same luminosities and redshifts elsewhere on the sky: what shows no position is the figure of "wide" again.
ELSEWHERE = ("tall", "north pole", "south pole", "flat")


@pytest.mark.parametrize("name", ODD_FIELDS)
def test_odd_fields(name, model):
    catalogue = ODD_FIELDS[name]()
    posterior, fieldmap = results(catalogue, model)
    makers = figure_makers(posterior, fieldmap, catalogue)
    for make in (make for kind, make in makers.items() if not (name in ELSEWHERE and kind == "posterior_panel")):
        check_legible(make())


def test_whole_sky(model):
    catalogue = random_catalogue(*box((0, 360), (-90, 90)))
    ax = plot.field_of_view(catalogue, mass_posterior(catalogue, *model))
    check_legible(ax.figure)
    # Mollweide's ellipse is twice as wide as high, every point lies in it, and RA increases to the left.
    x, y = ax.collections[-1].get_offsets().T
    half_x, half_y = np.diff(ax.get_xlim())[0] / 2, np.diff(ax.get_ylim())[0] / 2
    assert half_x / half_y == pytest.approx(2, rel=0.01)
    assert np.all(((x - np.mean(ax.get_xlim())) / half_x) ** 2 + ((y - np.mean(ax.get_ylim())) / half_y) ** 2 < 1.001)
    west = MollweidePlane().project([30.0, -30.0], 0.0)[0]
    assert west[0] < west[1]


def test_an_axes_comes_back(field):
    catalogue, posterior, fieldmap = field
    for draw in (
        lambda ax: plot.field_of_view(catalogue, posterior, ax),
        lambda ax: plot.mass_map_image(fieldmap, ax, "sd"),
        lambda ax: plot.predicted_vs_true(posterior, ax),
    ):
        ax = matplotlib.figure.Figure().subplots()
        assert draw(ax) is ax


@pytest.mark.parametrize("centre", [(0.0, 0.0), (150.0, 2.2), (359.9, -60.0), (40.0, 80.0)])
@pytest.mark.parametrize("pixel", [0.5, 10.0])
def test_sky_ticks_are_where_they_say(centre, pixel):
    grid = PixelGrid("tangent", (64, 80), pixel, centre)
    ax = matplotlib.figure.Figure().subplots()
    sky_axes.grid_axes(ax, grid)
    if sky_axes.is_polar(grid):
        return
    ra = [float(label.get_text()) for label in ax.get_xticklabels()]
    dec = [float(label.get_text().replace("−", "-")) for label in ax.get_yticklabels()]
    assert len(ra) >= 2 and len(dec) >= 2
    assert all(0 <= value < 360 for value in ra)
    # The tick on the lower side has the RA it says: there the inverse projection knows the sky.
    sky_ra, _ = grid.sky_of(ax.get_xticks(), np.full(len(ra), -0.5))
    assert np.abs((sky_ra - ra + 180) % 360 - 180).max() < 0.02 * pixel
    _, sky_dec = grid.sky_of(np.full(len(dec), -0.5), ax.get_yticks())
    assert np.abs(sky_dec - dec).max() < 0.02 * pixel
    unwrapped = (np.array(ra) - centre[0] + 180) % 360 - 180
    assert np.all(np.diff(unwrapped[np.argsort(ax.get_xticks())]) < 0), "RA increases to the left"


@pytest.mark.parametrize("name", ["magma", "grey"])
def test_empty_pixels_are_set_apart(field, name):
    _, _, fieldmap = field
    ax = plot.mass_map_image(fieldmap, colours=name)
    image = ax.get_images()[0]
    colours = image.cmap(image.norm(image.get_array()))
    empty = np.asarray(fieldmap.nobj) == 0
    assert empty.any() and not empty.all()
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    assert np.all(blue[empty] > red[empty] + 0.1)
    grey = np.all(red[~empty] == green[~empty]) and np.all(red[~empty] == blue[~empty])
    assert grey == (name == "grey")
    # More mass is brighter, or darker: at every step, so that the eye sees the order.
    order = np.argsort(image.norm(image.get_array())[~empty], kind="stable")
    light = (0.2126 * red + 0.7152 * green + 0.0722 * blue)[~empty][order]
    assert np.all(np.diff(light) * (1 if name == "magma" else -1) >= -1e-3)
    assert ax.get_legend() is not None


def test_bad_arguments(field):
    _, posterior, fieldmap = field
    with pytest.raises(MassmapError, match="quantity is 'median'"):
        plot.mass_map_image(fieldmap, quantity="median")
    with pytest.raises(MassmapError, match="row numbers from 0 to 1499"):
        plot.posterior_panel(posterior, rows=[1500])
    with pytest.raises(MassmapError, match="scale is 'cubic'"):
        plot.posterior_panel(posterior, scale="cubic")
    with pytest.raises(MassmapError, match="panels are of median: give some of mean"):
        plot.map_panels(fieldmap, ["mean", "median"])
    for draw in (plot.mass_map_image, plot.map_panels, plot.slice_panels):
        with pytest.raises(MassmapError, match="map colours 'jet' are not known: give magma or grey"):
            draw(fieldmap, colours="jet")
    with pytest.raises(MassmapError, match="map both on one grid"):
        plot.truth_maps_figure(dataclasses.replace(fieldmap, mean=fieldmap.mean[1:]), fieldmap)


def test_posteriors_on_linear_and_on_logarithmic_axes(field):
    _, posterior, _ = field
    rows = [4, 2]
    linear, log = (plot.posterior_panel(posterior, rows, scale) for scale in ("linear", "log"))
    check_legible(log)
    assert r"\log_{10}" in linear.get_supxlabel() and r"\mathrm{M}_\odot" in linear.get_supxlabel()
    assert {ax.get_yscale() for ax in linear.axes[1:]} == {"linear"} == {ax.get_xscale() for ax in linear.axes}
    assert {ax.get_yscale() for ax in log.axes} == {"log"} == {ax.get_xscale() for ax in log.axes}
    for ax, other in zip(linear.axes[1:], log.axes[1:], strict=True):
        (x, y), (mass, density) = (one.lines[0].get_data() for one in (ax, other))
        assert np.trapezoid(y, x * np.log(10)) == pytest.approx(1, abs=2e-3)  # what 4 sd hold, and area is probability
        assert x[np.argmax(y)] == pytest.approx(np.log10(mass[np.argmax(density)]), abs=0.02)
        assert ax.get_ylim()[0] == 0
    assert {text.get_text() for text in linear.legends[0].get_texts()} >= {"posterior", "68 %", "prior's shape"}


def test_map_panels_that_are_asked_for(field):
    _, _, fieldmap = field
    figure = plot.map_panels(fieldmap, ("mean", "q16", "q84", "sd", "relative", "nobj"), remark="; a remark")
    check_legible(figure)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(titles) == 6 and titles[0].startswith("mean [") and titles[-1] == "objects in a pixel"
    assert figure.get_suptitle().replace("\n", " ").endswith("; a remark")
    images = [ax.get_images()[0] for ax in figure.axes if ax.get_title()]
    assert images[0].norm is images[1].norm is images[2].norm and images[3].norm is not images[0].norm
    filled = fieldmap.mean > 0
    found = np.asarray(images[4].get_array())[filled]
    np.testing.assert_allclose(found, (fieldmap.sd / np.where(filled, fieldmap.mean, 1))[filled], rtol=1e-6)


def test_tails_of_a_smoothed_map_are_empty(model):
    """Where a Gaussian has next to nothing, sd / mean means nothing; a pixel with an object is never empty."""
    catalogue = random_catalogue(np.append(np.full(60, 150.0), 150.6), np.append(np.full(60, 2.0), 2.3))
    grid = PixelGrid("tangent", (40, 60), 1.0, (150.3, 2.15))
    plain = mass_map(jax.random.key(0), catalogue, *model, grid, num_draws=4, keep_draws=True)
    soft = smoothed(plain, 4.0)
    figure = plot.map_panels(soft)
    check_legible(figure)
    _, relative, counts = (ax.get_images()[0] for ax in figure.axes if ax.get_title())
    filled = np.ma.filled(relative.get_array(), -1.0) >= 0
    assert filled[soft.nobj > 0].all() and (soft.nobj > 0).sum() == 2
    assert ((soft.mean > 0) & ~filled).sum() > 50 and (soft.mean[~filled] < 1e-3 * soft.mean.max()).all()
    # The counts beside it are smoothed as well, and none is lost.
    assert figure.axes[2].get_title() == "objects in a pixel, smoothed"
    shown = np.ma.filled(counts.get_array(), 0.0)
    assert 0.95 * soft.nobj.sum() < shown[filled].sum() < 1.001 * soft.nobj.sum() and counts.norm.vmax < soft.nobj.max()
    ticks = plot.map_panels(plain).axes[2].child_axes[0].get_yticks()
    assert np.array_equal(ticks, np.rint(ticks))
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["no objects near"]


@pytest.mark.parametrize("corner", ["upper right", "upper left", "lower right", "lower left"])
def test_a_legend_is_put_where_the_map_is_emptiest(corner):
    filled = np.ones((30, 60), dtype=bool)
    filled[slice(20, 30) if "upper" in corner else slice(0, 10), slice(40, 60) if "right" in corner else slice(20)] = 0
    assert map_plots._emptiest_corner(filled) == corner
    assert map_plots._emptiest_corner(np.ones((30, 60), dtype=bool)) == "upper right"


@pytest.mark.parametrize("name", ["magma", "grey"])
def test_truth_beside_the_map(field, name):
    _, _, fieldmap = field
    truth = dataclasses.replace(fieldmap, mean=2 * fieldmap.mean)
    figure = plot.truth_maps_figure(truth, fieldmap, name)
    check_legible(figure)
    shown = {ax.get_title(): ax.get_images()[0] for ax in figure.axes if ax.get_title()}
    assert list(shown) == ["truth", "posterior mean", "relative error", "significance"]
    assert shown["truth"].norm is shown["posterior mean"].norm
    excess = np.ma.filled(shown["significance"].get_array(), np.nan)
    known = fieldmap.sd > 0
    np.testing.assert_allclose(
        excess[known], ((fieldmap.mean - fieldmap.mean.mean()) / np.where(known, fieldmap.sd, 1))[known], rtol=1e-6
    )
    assert np.isnan(excess[~known]).all() and figure.get_suptitle().endswith("; pale blue: no mass")


def test_regions_of_a_relation_have_the_moments_and_levels_of_its_draws():
    generator = np.random.default_rng(0)
    x = generator.normal(2.0, 0.5, 1000)
    y = 0.8 * x + generator.normal(0.0, 0.3, 1000)
    at_x, at_y, density = relation_plots._smooth_density(x, y, None)
    density /= density.sum()
    mean_x, mean_y = (density.sum(axis=0) * at_x).sum(), (density.sum(axis=1) * at_y).sum()
    covariance = (density * (at_x - mean_x) * (at_y - mean_y)[:, None]).sum()
    assert mean_x == pytest.approx(x.mean(), abs=0.01) and mean_y == pytest.approx(y.mean(), abs=0.01)
    assert covariance == pytest.approx(np.cov(x, y)[0, 1], rel=0.03)
    assert relation_plots._smooth_density(x, 2 * x, None) is None
    assert relation_plots._smooth_density(x[:10], y[:10], None) is None


def test_given_rows(field):
    catalogue, posterior, _ = field
    figure = plot.posterior_panel(posterior, rows=[4, 2])
    titles = [ax.get_title() for ax in figure.axes]
    assert len(titles) == 3 and titles[1].startswith("4,") and titles[2].startswith("2,")
    assert f"z = {catalogue.redshift[2]:.2f}" in titles[2]


@pytest.mark.parametrize(
    "text", [r"$L_{\sun}$", "$a_$", r"$\textrm{erg}$", "US$ 5", "$$", r"a\$b$", "$x$ $y", "\\", "10^{44} erg/s", "_{"]
)
def test_units_and_ids_are_shown_as_they_are(text, model):
    """And not read as formulas, of which many that LaTeX knows would stop a figure."""
    posterior, _ = results(random_catalogue(None, None, truth_mass=np.full(12, 1e12)), model)
    names = np.array([text + str(i) for i in range(12)])
    catalogue = dataclasses.replace(posterior.catalogue, lum_unit=text, ids=names)
    posterior = dataclasses.replace(posterior, catalogue=catalogue, ids=names)
    figures = plot.standard_figures(posterior)
    for figure in figures.values():
        figure.canvas.draw()
    shown = text.replace("$", r"\$")
    titles = figures["posterior_panel"].findobj(matplotlib.text.Text)
    assert figures["pit_histograms"].get_suptitle().count(f"[{shown}]") == 1
    assert any(one.get_text().startswith(shown) for one in titles)


@pytest.mark.parametrize("definition", ["200m", "unknown", "M$x_", "500_c", "a{b", "\\frac", "50%", "v^2"])
def test_a_mass_definition_of_any_text_is_drawn(definition):
    figure = matplotlib.figure.Figure()
    figure.subplots().set_xlabel(style.mass_label(definition))
    figure.canvas.draw()


def test_save_all(field, tmp_path):
    _, posterior, _ = field
    paths = plot.save_all({"one": plot.predicted_vs_true(posterior).figure}, tmp_path / "figures")
    assert paths == [tmp_path / "figures" / "one.png"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("num", "probability"), [(1, 0.25), (100, 0.25), (3333, 0.05), (100_000, 0.05)])
def test_binomial_interval_against_scipy(num, probability):
    expected = stats.binom.ppf([0.025, 0.975], num, probability)
    assert truth_plots.binomial_interval(num, probability) == tuple(expected)


@pytest.mark.parametrize("num", [20, 1000])
@pytest.mark.parametrize("power", [1.0, 1.1, 1.5])
def test_ks_p_against_scipy(num, power):
    values = np.random.default_rng(5).uniform(size=num) ** power
    assert truth_plots.ks_p(values) == pytest.approx(stats.kstest(values, "uniform").pvalue, abs=0.01, rel=0.05)


def test_pit_panels_reject_a_wrong_scatter(field, model):
    catalogue, _, _ = field
    prior, relation = model
    wrong = MassLuminosityRelation.create(
        alpha1=relation.alpha1, alpha2=relation.alpha2, alpha3=relation.alpha3, alpha4=relation.alpha4, scatter=0.3
    )
    shown = []
    for used in (relation, wrong):
        figure = plot.pit_histograms(mass_posterior(catalogue, prior, used))
        shown.append([float(ax.get_title().split("KS p = ")[1]) for ax in figure.axes])
    assert len(shown[0]) == 6
    assert min(shown[0]) > 1e-4
    assert min(shown[1]) < 1e-4


@pytest.mark.parametrize("number", [1500, 40])
def test_pit_says_that_the_relation_is_shared(field, model, number):
    catalogue = field[0].subset(np.arange(number))
    draws = MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(2), 5)
    said = []
    for relation, origin in ((model[1], None), (draws, "fixed_draws")):
        figure = plot.pit_histograms(mass_posterior(catalogue, model[0], relation, relation_from=origin))
        check_legible(figure)
        assert "How to read this: flat" in figure.get_supxlabel()
        said.append("shared by all objects" in figure.get_suptitle().replace("\n", " "))
    assert said == [False, True]


@pytest.mark.parametrize(("number", "width"), [(2, 3.5), (4, 7.0), (8, 7.0)])
def test_a_corner_figure_fits_on_a_page(number, width):
    """Of eight parameters, symbols stand on the axes, and the legend says what they are."""
    names = ("alpha1", "alpha2", "alpha4", "scatter", "bias", "mass_scatter", "omega_m", "sigma8")[:number]
    rng = np.random.default_rng(0)
    columns = {p: rng.normal(1.0, 0.1 * (i + 1), 200) for i, p in enumerate(names)}
    fitted = SimpleNamespace(
        free=names, draws=SimpleNamespace(parameter=columns.get), weights=np.full(200, 1 / 200), num_halos=400,
        mean={p: v.mean() for p, v in columns.items()}, sd={p: v.std() for p, v in columns.items()}, prior_curve={},
        prior_sd=dict.fromkeys(names, 0.5678), prior_mean=dict.fromkeys(names, 0.6388), method="laplace",
        maximum=SimpleNamespace(alpha3=3e14),
    )  # fmt: skip
    figure = plot.relation_corner(fitted)
    check_legible(figure)
    assert figure.get_size_inches()[0] == pytest.approx(width)
    said = {text.get_text() for text in figure.legends[0].get_texts()}
    assert (r"$S_m$: scatter of $\ln M_\mathrm{obs}$" in said) == (number == 8)
