"""Redshifts that are not exact, from the columns of a table: an error, p(z) on a grid, or quantiles."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from massmap_jax.catalogue.column_checks import refuse_no_redshift, refuse_unit_of_redshift_error
from massmap_jax.catalogue.column_names import named_column, normal_name
from massmap_jax.catalogue.columns import ColumnTable, as_float64, as_matrix, is_positive_sentinel, rows_text
from massmap_jax.catalogue.error_levels import SEVENTY, check_levels, level_in
from massmap_jax.catalogue.luminosity import numbers
from massmap_jax.catalogue.luminosity_error import is_no_error
from massmap_jax.catalogue.photo_z import Contains, RedshiftDistributions
from massmap_jax.catalogue.redshift_grids import common_grid
from massmap_jax.catalogue.redshift_shapes import OnGrid, Variable
from massmap_jax.catalogue.tables import open_table
from massmap_jax.errors import MassmapError

SOURCES = ("z_err", "z_pdf", "z_quantiles")
"""Keywords of `read_catalogue` that say what is known of the redshifts; without one of them these are exact."""
# No halo is farther, and no mass function goes on to there.
_FARTHEST = 30.0
# Of so many redshifts or more: the median distance from their p(z) in standard deviations that is told, and the
# correlation of errors with their redshifts that is refused.
_SEVERAL, _ASIDE, _FOLLOWS = 10, 1.0, 0.98
# The same distance that no catalogue has with its own p(z).
_NOT_OF_IT = 2.0
# What columns of p(z) are not by these words in their names.
_NO_DENSITIES = ("chi^2", "logarithms", "cumulative distributions", "draws of the redshift")
_NO_DENSITY = (
    r"(chi_?2|chisq)|(?:^|_)(ln_?p|log_?p|lnl|logl|loglike|lnprob|logprob)|(?:^|_)(cdf|cum|cumulative)(?:_|z|$)"
    r"|(?:^|_)(samples?|draws?|realisations?|realizations?)(?:_|$)"
)
# The correlation of the medians of rows with their redshifts that only draws have.
_OF_DRAWS = 0.9
# So many rows tell what a column holds.
_ROWS = 10_000
# What programs write where there is no value is above the first; one that the others do not come near.
_FILL, _ABOVE = 1e19, 5.0
# A p(z) with less than this of its peak at the ends of its grid has been cut off.
_CUT_OFF = 0.01


def is_uncertain(mapping: Mapping) -> bool:
    """Tell whether keywords of `read_catalogue` give redshifts that are distributions.

    Parameters
    ----------
    mapping : Mapping
        The keywords.

    Returns
    -------
    bool
        False where redshifts are exact.
    """
    return any(mapping.get(name) is not None for name in SOURCES)


def one_redshift(table: ColumnTable, z: str | float | None, mapping: Mapping) -> float | None:
    """Give the redshift that all objects have, where `z` is a number and names no column: that of a snapshot.

    Parameters
    ----------
    table : ColumnTable
        The table.
    z : str or float or None
        The keyword of `read_catalogue`. A column whose name is such a number is that column.
    mapping : Mapping
        The keywords that say what is known of redshifts, `SOURCES`.

    Returns
    -------
    float or None
        None where it is a column.

    Raises
    ------
    MassmapError
        For a number that is no redshift, and beside errors of redshifts.
    """
    if z is None or any(name.lower() == str(z).lower() for name in table.names):
        return None
    try:
        number = float(z)
    except ValueError:
        return None
    if not 0 <= number < _FARTHEST:
        raise MassmapError(
            f"z={z} is neither a column of {table.label} nor a redshift of all objects, a number from 0 to"
            f" {_FARTHEST:g}: choose the column of the redshift, or give the redshift of the snapshot"
        )
    if is_uncertain(mapping):
        given = next(name for name in SOURCES if mapping.get(name) is not None)
        raise MassmapError(
            f"z={z} is one redshift for all objects, which is exact, and {given}= is given: leave it out, or name the"
            " column of the measured redshifts with z="
        )
    return number


@dataclass(frozen=True)
class RedshiftColumns:
    """What is said of redshifts that are not exact: the keywords of `read_catalogue`, by the same names."""

    z_err: str | float | None = None
    z_err_kind: Literal["z", "relative"] | None = None
    z_err_zero: Literal["refuse", "exact"] = "refuse"
    z_pdf: str | None = None
    z_grid: str | None = None
    z_quantiles: str | None = None
    z_contains: Contains | None = None
    z_code_prior: str | None = None
    lum_moves: Literal["yes", "no"] | None = None
    z_k_slope: float = 0.0

    def check(self) -> bool:
        """Refuse what has no effect, and what has to be said and is not.

        Returns
        -------
        bool
            Whether redshifts are distributions.

        Raises
        ------
        MassmapError
            With the keyword, and what to give.
        """
        sources = [name for name in SOURCES if getattr(self, name) is not None]
        if len(sources) > 1:
            raise MassmapError(f"{sources[0]}= and {sources[1]}= are given: what is known of a redshift is said once")
        own = {"z_err": ("z_err_kind", "z_err_zero"), "z_pdf": ("z_grid",), "z_quantiles": ()}
        told = {"z_err": "the error of the redshift", "z_pdf": "a column of p(z)"}
        for source, names in own.items():
            for name in names:
                if sources != [source]:
                    self._refuse_unless_default(name, f"{source}=, {told[source]}")
        if not sources:
            for name in ("z_contains", "z_code_prior", "lum_moves", "z_k_slope"):
                self._refuse_unless_default(name, "z_err=, the error of the redshift, z_pdf= or z_quantiles=")
            return False
        what = "redshifts whose errors are given" if sources == ["z_err"] else "p(z) that is given"
        moves = (
            f"whether the luminosity changes with the {what}: lum_moves='yes' for one that was computed from a flux"
            " with this redshift, 'no' for one that was not, such as a richness"
        )
        if self.z_contains not in ("likelihood", "posterior", "posterior_with_flux"):
            raise MassmapError(
                f"say what went into the {what}, z_contains='likelihood' (the redshifts scatter about the true ones by"
                " the error), 'posterior' (also the distribution of redshifts in z_code_prior=) or"
                " 'posterior_with_flux' (p(z) that has seen the flux, as with a prior in magnitudes)"
                + (f", and {moves}" if self.lum_moves is None else "")
            )
        if (self.z_contains == "posterior") != (self.z_code_prior is not None):
            raise MassmapError(
                f"z_contains={self.z_contains!r} and z_code_prior={self.z_code_prior!r}: a distribution of redshifts is"
                " divided out of p(z) that is a 'posterior', so give both; a prior that was flat in z needs none of it,"
                " z_contains='likelihood'"
            )
        if self.lum_moves not in ("yes", "no"):
            raise MassmapError(f"say {moves}")
        return True

    def _refuse_unless_default(self, name: str, needs: str) -> None:
        value = getattr(self, name)
        if value != getattr(type(self), name):
            raise MassmapError(f"{name}={value!r} has no effect without {needs}")

    def read(
        self, table: ColumnTable, redshift, notes: list[str], *, z: str, need_usable: bool = True
    ) -> RedshiftDistributions:
        """Read them, after `check`.

        Parameters
        ----------
        table : ColumnTable
            The table. Where it is a part of a catalogue, what its columns hold is judged by its `sample`, so that it is
            the same in every part.
        redshift : Float[np.ndarray, "halo"]
            Redshifts of the catalogue.
        notes : list of str
            What was read is added to it.
        z : str
            The column that they are from.
        need_usable : bool, optional
            Refuse a table without a row that can be used. Pass False for a part of a catalogue.

        Returns
        -------
        RedshiftDistributions
            One for each row.

        Raises
        ------
        MassmapError
            For a column that is missing or holds something else.
        """
        if need_usable:
            return self._read(table, redshift, notes, need_usable=True)
        if table.sample is not None:
            own = numbers(table.sample, z, "redshift", [])
            # Its first rows may all lack an error.
            if self._read(table.sample, own, [], need_usable=False).usable.any():
                self._read(table.sample, own, [], need_usable=True)
        return self._read(table, redshift, notes, need_usable=False)

    def _read(self, table: ColumnTable, redshift, notes: list[str], *, need_usable: bool) -> RedshiftDistributions:
        told: list[str] = []
        options: dict = {
            "contains": self.z_contains,
            "lum_moves": self.lum_moves == "yes",
            "k_slope": self.z_k_slope,
            "code_prior": None if self.z_code_prior is None else _density_of(self.z_code_prior),
            "need_usable": need_usable,
        }
        about = None  # centres and standard deviations
        if self.z_err is not None:
            what, found = self._errors(table, redshift, told, options)
        elif self.z_pdf is not None:
            name = named_column(table, self.z_pdf, "z_pdf")
            if self.z_grid not in table.names:  # told before p(z) is looked at
                common_grid(table, self.z_grid, np.empty((0, 0)), [])
            width = None if need_usable else self._width(table, name)
            density = as_matrix(table.column(name), f"z_pdf column {name!r} of {table.label}", width)
            _refuse_no_density(table.label, name)
            nodes, density = common_grid(table, self.z_grid, _without_placeholders(density, told), told)
            what = f"redshifts have p(z) ({name!r}, at {nodes.size} redshifts from {nodes[0]:g} to {nodes[-1]:g})"
            found = RedshiftDistributions.grid(nodes, density, **options)
            told += _of_grids(found.shape)
            about = _mean_and_sd(nodes, density) if need_usable else None
        else:
            levels, names = self._quantiles(table)
            values = np.stack([numbers(table, name, f"quantile {name!r} of the redshift", told) for name in names], 1)
            what = f"redshifts have {len(names)} quantiles"
            found = RedshiftDistributions.quantiles(levels, values, **options)
            if need_usable:
                at = np.array([np.interp([0.16, 0.5, 0.84], levels, row) for row in values])
                about = at[:, 1], 0.5 * (at[:, 2] - at[:, 0])
        if need_usable:
            if self.z_pdf is not None:
                _refuse_draws(found, density, redshift, f"z_pdf column {name!r} of {table.label}")
            found.refuse_others(redshift, table.label)
            told += [] if about is None else _to_one_side(found, redshift, *about)
            if found.code_prior is not None:
                told += _beside_code_prior(found.code_prior, found, redshift, str(self.z_code_prior))
        bad = np.count_nonzero(~found.usable)
        if bad and self.z_err is None:
            what += f"; {bad} of {len(found)} cannot be used, missing, negative or 0 everywhere: Z_ERROR_BAD"
        moves = "moves with the redshift" if self.lum_moves == "yes" else "does not change with the redshift"
        notes.append(f"{what}; p(z) contains: {self.z_contains}; the luminosity {moves}")
        notes.extend(told)
        return found

    def _errors(self, table: ColumnTable, redshift, told: list[str], options: dict):
        """Distributions with a normal error, and what was read."""
        error, kind = self.z_err, self.z_err_kind
        if isinstance(error, str) and (("," in error and error not in table.names) or _is_pair(table, error)):
            values, kind = self._two_sides(table, error, redshift, told)
        elif isinstance(error, str):
            name = named_column(table, error, "z_err")
            if is_no_error(name):
                raise MassmapError(
                    f"z_err column {name!r} of {table.label} is by its name no error, but a variance or a"
                    " signal-to-noise ratio: compute the error of z from it, and rename it"
                )
            refuse_unit_of_redshift_error(table, name)
            check_levels(table, (name,), "redshift error", told)
            values = numbers(table, name, "redshift error", told)
            _refuse_bounds(table.label, name, values, redshift)
            kind = kind or _kind_by_name(name, table.label)
        else:
            assert error is not None
            values = np.full(redshift.size, float(error))
            if kind is None:
                raise MassmapError(
                    f"z_err={error:g} is one number: say z_err_kind='relative' for an error over 1 + z, or 'z' for one"
                    " of z"
                )
        if kind not in ("z", "relative"):
            raise MassmapError(f"z_err_kind is {kind!r}: give 'z', or 'relative' for an error over 1 + z")
        variable: Variable = "z" if kind == "z" else "ln_1z"
        found = RedshiftDistributions.gaussian(redshift, values, variable=variable, zero=self.z_err_zero, **options)
        with np.errstate(invalid="ignore"):
            sd = found.shape.sd  # type: ignore[attr-defined]
            relative = sd / (1 + redshift) if kind == "z" else sd
        known = relative[np.isfinite(relative)]
        typical = f"median {np.median(known):.2g} (1 + z)" if known.size else "none that can be used"
        of = "of z" if kind == "z" else "over 1 + z"
        return f"redshifts have errors ({error!r}, an error {of}; {typical})", found

    def _width(self, table: ColumnTable, name: str) -> int | None:
        """Numbers in each row of p(z), for a part of a catalogue in which all rows may be missing."""
        if table.sample is not None:
            return as_matrix(table.sample.column(name), f"z_pdf column {name!r} of {table.label}").shape[1]
        of_column = self.z_grid is None or self.z_grid in table.names
        return None if of_column else common_grid(table, self.z_grid, np.empty((0, 0)), [])[0].size

    def _two_sides(self, table: ColumnTable, given: str, redshift, told: list[str]):
        """Half of the length of an interval of 68 per cent, by its two ends or by the bars to its two sides."""
        if _is_pair(table, given):
            names = [named_column(table, given, "z_err")] * 2
            first, second = as_matrix(table.column(names[0]), f"redshift error {names[0]!r} of {table.label}").T
        else:
            parts = [part.strip() for part in given.split(",")]
            if len(parts) != 2:
                raise MassmapError(f"z_err={given!r} names {len(parts)} columns: give one error, or two ends or bars")
            names = [named_column(table, part, "z_err") for part in parts]
            if names[0] == names[1]:
                raise MassmapError(f"z_err={given!r} names one column twice: give it alone where it is the error")
            first, second = (numbers(table, name, "redshift error", told) for name in names)
        for name in names:
            refuse_unit_of_redshift_error(table, name)
        both = " and ".join(dict.fromkeys(map(repr, names)))
        levels = [level_in(name, is_name=True) for name in names]
        # Euclid's PHZ_70_INT: nearly one standard deviation, where tails do not matter yet.
        if all(level is not None and level.sigmas == SEVENTY for level in levels):
            told.append(
                f"{both}: of 70 % confidence by name, divided by {SEVENTY:g} to be one standard deviation of a normal"
            )
            sigmas = SEVENTY
        else:
            sigmas = 1.0
            check_levels(table, tuple(dict.fromkeys(names)), "redshift error", told)
        of_bars = _kind_by_name(names[0], table.label) if self.z_err_kind is None else self.z_err_kind
        with np.errstate(invalid="ignore"):
            known = np.isfinite(first) & np.isfinite(second) & (redshift > 0) & (np.maximum(first, second) > 0)
            within = (np.minimum(first, second) <= redshift) & (redshift <= np.maximum(first, second))
            if np.count_nonzero(within & known) > 0.5 * np.count_nonzero(known):
                if self.z_err_kind == "relative":
                    raise MassmapError(
                        f"z_err={given!r} are ends of an interval of z, and z_err_kind is 'relative': leave it out"
                    )
                told.append(f"{both} are ends: half of the distance between them is the error")
                ends = np.where(np.minimum(first, second) > -1, np.abs(second - first), np.nan)
                return 0.5 * ends / sigmas, "z"
            # The lower bar is written with its sign by some.
            first, second = (-a if np.nanmedian(a) < 0 else a for a in (first, second))
            told.append(f"{both} are bars: their mean is the error")
            return np.where((first >= 0) & (second >= 0), 0.5 * (first + second) / sigmas, np.nan), of_bars

    def _quantiles(self, table: ColumnTable) -> tuple[np.ndarray, list[str]]:
        """Levels and columns of "1:z01,16:z16,..."."""
        assert self.z_quantiles is not None
        found = {}
        for part in self.z_quantiles.split(","):
            level, colon, name = part.strip().partition(":")
            try:
                percent = float(level)
            except ValueError:
                percent = np.nan
            if not colon or not 0 < percent < 100:
                raise MassmapError(
                    f"z_quantiles={self.z_quantiles!r}: give per cent and column, separated by commas, as in"
                    f" '2.5:z_low,50:z_median,97.5:z_high', and not {part!r}"
                )
            if percent in found:
                raise MassmapError(f"z_quantiles={self.z_quantiles!r} gives {percent:g} per cent twice")
            found[percent] = named_column(table, name, "z_quantiles")
        if max(found) < 1:
            raise MassmapError(f"z_quantiles={self.z_quantiles!r}: the levels are per cent, 50 for the median")
        levels = sorted(found)
        return np.array(levels) / 100, [found[level] for level in levels]


def _of_grids(shape) -> list[str]:
    """What a user should know about p(z) on a grid."""
    assert isinstance(shape, OnGrid)
    good, told = shape.usable, []
    off = good & (np.abs(shape.integral - 1) > 0.01)
    if off.any():
        told.append(
            f"p(z) do not integrate to 1 in {np.count_nonzero(off)} of {good.size} rows (median integral"
            f" {np.median(shape.integral[off]):.4g}): each is normalised"
        )
    edge = np.log(_CUT_OFF)
    with np.errstate(invalid="ignore"):
        cut = (shape.ln_values[:, -1] > edge) | ((shape.ln_values[:, 0] > edge) & (shape.nodes[0] > 0.01))
        # Few nodes within one standard deviation of the peak.
        coarse = (shape.ln_values > -0.5).sum(axis=1) < 2
    if cut.any():
        told.append(
            f"p(z) are not near 0 at an end of their redshifts in {np.count_nonzero(cut)} of {good.size} rows:"
            " what lies beyond is lost; give p(z) over a wider range"
        )
    if (coarse & good).any():
        told.append(
            f"p(z) have fewer than 2 redshifts within a standard deviation of their peak in"
            f" {np.count_nonzero(coarse & good)} of {good.size} rows: give p(z) on a finer grid"
        )
    return told


def _without_placeholders(density: np.ndarray, told: list[str]) -> np.ndarray:
    """Blank the rows of p(z) that are one number at all redshifts, or hold 99, 1e20 and the like above all others."""
    if density.ndim != 2 or density.shape[1] < 3 or density.shape[0] == 0:
        return density
    least, most = density.min(axis=1), density.max(axis=1)  # NaN where a cell is
    same = (least == most) & (most > 0)
    filled = np.zeros(same.shape, dtype=bool)
    large = np.flatnonzero((most >= _FILL) | is_positive_sentinel(most))
    if large.size:
        rows = density[large]
        high = (rows >= _FILL) | is_positive_sentinel(rows.ravel()).reshape(rows.shape)
        filled[large] = most[large] > _ABOVE * np.maximum(np.where(high, 0.0, rows).max(axis=1), 0.0)
        filled &= ~same
    for bad, what in ((same, "one number at all redshifts"), (filled, "a placeholder, as 99 or 1e20, among others")):
        if bad.any():
            told.append(f"p(z) is {what} in {rows_text(bad, most)}: taken as missing")
    return np.where((same | filled)[:, None], np.nan, density) if (same | filled).any() else density


def _is_pair(table: ColumnTable, name: str) -> bool:
    """Whether a column holds the two ends of an interval in each row."""
    if name not in table.names:
        return False
    cells = table.column(name)
    return np.shape(cells)[1:] == (2,) or (np.ndim(cells) == 1 and cells.size > 0 and np.shape(cells[0]) == (2,))


def _mean_and_sd(nodes, density) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of p(z) on a grid."""
    with np.errstate(all="ignore"):
        weight = np.gradient(nodes) * density
        weight = weight / weight.sum(axis=1, keepdims=True)
        mean = weight @ nodes
        return mean, np.sqrt(np.maximum(weight @ nodes**2 - mean**2, 0.0))


def _to_one_side(found: RedshiftDistributions, redshift, centre, sd) -> list[str]:
    """Say where most redshifts of the catalogue lie to one side of their own p(z): its grid may be another."""
    with np.errstate(all="ignore"):
        away = (redshift - centre) / sd
        known = found.usable & np.isfinite(away) & (redshift > 0)
    if np.count_nonzero(known) < _SEVERAL or not abs(middle := float(np.median(away[known]))) > _ASIDE:
        return []
    told = (
        f"half of the catalogue's redshifts lie {abs(middle):.2g} standard deviations or more"
        f" {'below' if middle < 0 else 'above'} the middle of their own p(z): see whether the grid, or the levels, of"
        " p(z) are right"
    )
    if abs(middle) > _NOT_OF_IT:
        raise MassmapError(f"{told}, and are redshifts, not 1 + z, ln(1 + z) or a scale factor")
    return [told]


def _kind_by_name(name: str, label: str) -> Literal["z", "relative"]:
    """What an error of redshifts is by its column's name; refused for another fraction than one of 1 + z."""
    words = normal_name(name)
    if re.search(r"1_?\+_?z|1_?p(?:lus)?_?z|one_?plus_?z|(?<![a-z])nmad(?![a-z])", words):
        return "relative"
    of_z = r"/z(?![a-z])|over_z(?![a-z])|%"
    share = r"pct|perc|percent|rel(?:ative)?(?:_?err(?:or)?)?|frac(?:tional)?(?:_?err(?:or)?)?|norm(?:ed|ali[sz]ed)?"
    if re.search(rf"{of_z}|(?<![a-z])(?:{share})(?![a-z])", words):
        raise MassmapError(
            f"z_err column {name!r} of {label} is by its name a fraction: say z_err_kind='relative' if it is one of"
            " 1 + z, or give the error of z, as z times this one if it is one of z"
        )
    return "z"


def _refuse_bounds(label: str, name: str, error: np.ndarray, redshift: np.ndarray) -> None:
    """Refuse errors of the redshift that follow the redshift itself, as its lower or upper bound does."""
    with np.errstate(all="ignore"):
        known = np.isfinite(error) & np.isfinite(redshift) & (error > 0) & (redshift > 0)
    if np.count_nonzero(known) < _SEVERAL or np.ptp(redshift[known]) == 0 or np.ptp(error[known]) == 0:
        return
    of, z = error[known], redshift[known]
    if 0.5 < np.median(of / z) < 1.5 and np.corrcoef(of, z)[0, 1] > _FOLLOWS:
        raise MassmapError(
            f"z_err column {name!r} of {label} is {np.median(of / z):.2g} times the redshift and follows it: it looks"
            " like a bound of the redshift; give both ends, z_err='LOWER,UPPER', or its distance from the redshift"
        )


def _density_of(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts and density, the two columns of a file."""
    table = open_table(path)
    if len(table.names) < 2:
        raise MassmapError(f"z_code_prior={path!r} has one column: give redshifts and the density there")
    if len(table.names) > 2:
        raise MassmapError(
            f"z_code_prior={path!r} has {len(table.names)} columns, {', '.join(table.names[:5])}: give two, redshifts"
            " and the density there (of bins, their middles and the number per unit redshift)"
        )
    z, density = (as_float64(table.column(name), f"column {name!r} of {path}") for name in table.names)
    if all(re.search("[a-z]", name.lower()) for name in table.names):
        refuse_no_redshift(table, table.names[0], z)
        _refuse_no_density(path, table.names[1])
    return z, density


def _refuse_no_density(label: str, name: str) -> None:
    """Refuse a column that is by its name something else than a density: ln p, chi^2, cumulative, draws."""
    found = re.search(_NO_DENSITY, normal_name(name))
    if found is not None:
        what = next(what for what, text in zip(_NO_DENSITIES, found.groups(), strict=True) if text)
        raise MassmapError(
            f"column {name!r} of {label} holds {what} by its name: give the density of the redshift, or rename it where"
            " it is one"
        )


def _refuse_draws(found: RedshiftDistributions, density, redshift, where: str) -> None:
    """Refuse draws of the redshift in the place of its density."""
    known = np.flatnonzero(found.usable & np.isfinite(redshift) & (redshift > 0))[:_ROWS]
    if known.size < _SEVERAL:
        return
    z, p = np.asarray(redshift, dtype=float)[known], np.asarray(density, dtype=float)[known]
    middle = np.median(p, axis=1)
    near = np.ptp(z) > 0 and np.ptp(middle) > 0 and np.median(np.abs(middle / z - 1)) < 0.2
    if near and np.corrcoef(middle, z)[0, 1] > _OF_DRAWS:
        raise MassmapError(
            f"{where} holds numbers about the redshift itself in each row, first row {known[0]} with {p[0, 0]:g},"
            f" {p[0, 1]:g}, ... about z = {z[0]:g}: these are draws of the redshift; give their density on a grid"
        )


def _beside_code_prior(table, found: RedshiftDistributions, redshift, path: str) -> list[str]:
    """What a user should know of the density that is divided out; refused where it does not reach most redshifts."""
    z, density = table
    with np.errstate(invalid="ignore"):
        known = found.usable & np.isfinite(redshift) & (redshift > 0)
        beyond = known & ((redshift < z[0]) | (redshift > z[-1]))
    told = []
    if beyond.any():
        first = int(np.argmax(beyond))
        text = (
            f"z_code_prior={path!r} goes from z = {z[0]:g} to {z[-1]:g}, and {np.count_nonzero(beyond)} of"
            f" {np.count_nonzero(known)} redshifts lie beyond, first row {first} with z = {redshift[first]:g}"
        )
        if np.count_nonzero(beyond) > 0.5 * np.count_nonzero(known):
            raise MassmapError(f"{text}: give the density at all redshifts of the catalogue")
        told.append(f"{text}: the density is taken as constant there")
    if z.size >= _SEVERAL and (np.diff(density) >= 0).all() and density[0] < 0.1 * density[-1]:
        told.append(
            f"the density of z_code_prior={path!r} rises up to its last redshift, z = {z[-1]:g}: see whether it is"
            " cumulative"
        )
    return told
