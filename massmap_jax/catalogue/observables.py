"""Further observables of the objects beside the luminosity, such as richness or an SZ signal: `Observables`.

An entry is measured, missing, or known only to lie below or above a limit. What is missing because it is faint is not
missing at random: it belongs here as an upper limit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from massmap_jax.catalogue.columns import as_float64, is_negative_sentinel
from massmap_jax.catalogue.quantities import in_unit, luminosity_in
from massmap_jax.errors import MassmapError

MISSING, MEASURED, UPPER_LIMIT, LOWER_LIMIT = range(4)
# An error of more than this in ln cannot be one: it is a placeholder, or not in ln.
_MOST_SIGMA = 5.0
# More observables than these beside the luminosity are more than anyone has for one relation.
_MOST = 8


@dataclass(frozen=True, eq=False)
class Observables:
    """Observables of the objects beside the luminosity, one row per object, in host memory.

    Make them with `from_arrays`, and give them to `HaloCatalogue.with_observables`.

    Attributes
    ----------
    names : tuple of str
        Their names, by which `fit_relation` and relations refer to them.
    ln_value : Float[np.ndarray, "halo observable"]
        ln of each value, or of its limit; NaN where it is missing.
    sigma : Float[np.ndarray, "halo observable"]
        Error in ln; NaN where the value is missing.
    kind : Int[np.ndarray, "halo observable"]
        What an entry is: 0 missing, 1 measured, 2 an upper limit, 3 a lower limit.
    error_correlation : Float[np.ndarray, "*halo all all"]
        Correlation of the errors of one object, for the luminosity and these observables in order.
    units : dict of str to str
        Unit of each, a label.
    notes : tuple of str
        What was found in the columns, for the user.

    See Also
    --------
    fit_relation : Fit the relation of each with the mass, and the correlations of their scatters.
    MultiObservableRelation : Such a relation that is known.
    """

    names: tuple[str, ...]
    ln_value: Float[np.ndarray, "halo observable"]
    sigma: Float[np.ndarray, "halo observable"]
    kind: Int[np.ndarray, "halo observable"]
    error_correlation: Float[np.ndarray, "*halo all all"]
    units: dict[str, str]
    notes: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        values: Mapping,
        sigma_ln: Mapping,
        *,
        upper_limit: Mapping | None = None,
        lower_limit: Mapping | None = None,
        error_correlation=None,
        units: Mapping[str, str] | None = None,
    ) -> "Observables":
        """Make observables from arrays, and check them.

        Parameters
        ----------
        values : dict of str to array_like, (halo,)
            Values by the name of the observable, linear and positive; NaN or masked where there is none.
        sigma_ln : dict of str to array_like, (halo,)
            Errors in ln, by name, one for all or one for each; of a limit, the error that a measurement would have.
        upper_limit : dict of str to array_like, (halo,), optional
            True where the value is an upper limit, by name: the object was looked at, and found to be fainter.
        lower_limit : dict of str to array_like, (halo,), optional
            True where the value is a lower limit: objects that were selected on an observable which is not at hand.
        error_correlation : array_like, (all, all) or (halo, all, all), optional
            Correlation of the errors of one object: the luminosity first, then the observables in order. By default
            the errors are independent.
        units : dict of str to str, optional
            Unit of each observable, a label.

        Returns
        -------
        Observables
            The observables. Single bad entries are missing, and a note counts them.

        Raises
        ------
        MassmapError
            No observable, a name that is no name, an error without its values, columns of different lengths, an
            observable without any entry, more than one limit for an object, or a correlation that is none.

        Examples
        --------
        >>> import numpy as np
        >>> import massmap_jax as mm
        >>> catalogue = mm.HaloCatalogue.from_arrays(
        ...     luminosity=[4.0, 6.0, 9.0], redshift=[0.2, 0.4, 0.3], sigma_ln_luminosity=0.05
        ... )
        >>> observables = mm.Observables.from_arrays(
        ...     {"richness": [20.0, 35.0, np.nan], "y_sz": [1e-5, 3e-5, 5e-5]},
        ...     {"richness": 0.2, "y_sz": [0.3, 0.1, 0.1]},
        ...     upper_limit={"y_sz": [True, False, False]},
        ... )
        >>> catalogue = catalogue.with_observables(observables)
        >>> catalogue.observables.kind.tolist()
        [[1, 2], [1, 1], [0, 1]]
        """
        names = tuple(values)
        _check_names(names, sigma_ln, upper_limit, lower_limit, units)
        units = dict(units or {})
        converted = {name: luminosity_in(column, units.get(name, "")) for name, column in values.items()}
        values = {name: value for name, (value, _) in converted.items()}
        units |= {name: unit for name, (_, unit) in converted.items() if unit}
        sigma_ln = {
            name: in_unit(error, "", f"error of {name}", "it in ln, without a unit") for name, error in sigma_ln.items()
        }
        rows = as_float64(values[names[0]], names[0]).size
        ln_value, sigma, kind = (np.full((rows, len(names)), fill) for fill in (np.nan, np.nan, MISSING))
        notes = []
        for i, name in enumerate(names):
            column = as_float64(values[name], name, rows=rows)
            error = as_float64(sigma_ln[name], f"error of {name}", rows=rows, scalar=True)
            above, below = (_mask(given, name, rows) for given in (upper_limit, lower_limit))
            there = np.isfinite(column) & ~is_negative_sentinel(column)
            good = there & (column > 0) & np.isfinite(error) & (error >= 0) & (error < _MOST_SIGMA)
            if not good.any():
                raise MassmapError(
                    f"observable {name} has no usable entry in {rows} rows: values have to be positive, and errors in"
                    f" ln between 0 and {_MOST_SIGMA:g}"
                )
            kind[good, i] = np.select([above, below], [UPPER_LIMIT, LOWER_LIMIT], MEASURED)[good]
            ln_value[good, i], sigma[good, i] = np.log(column[good]), error[good]
            notes += _told(name, column, error, there, good)
        limits = (kind >= UPPER_LIMIT).sum(axis=1)
        if (limits > 1).any():
            raise MassmapError(
                f"{(limits > 1).sum()} objects have more than one limit among their observables, first row"
                f" {int(np.argmax(limits > 1))}: only one for each object can be used; leave the weaker one out"
            )
        correlation = _correlation(error_correlation, 1 + len(names))
        if correlation.ndim > 2 and correlation.shape[0] != rows:
            raise MassmapError(
                f"the correlation of the errors is given for {correlation.shape[0]} objects, and there are {rows}"
            )
        return cls(names, ln_value, sigma, kind, correlation, units, tuple(notes))

    def __len__(self) -> int:
        return self.kind.shape[0]

    def take(self, rows) -> "Observables":
        """Select objects.

        Parameters
        ----------
        rows : Int[np.ndarray, "m"]
            Row numbers, a mask or a slice.

        Returns
        -------
        Observables
            Those of these objects.
        """
        correlation = self.error_correlation
        correlation = correlation if correlation.ndim == 2 else correlation[rows]
        return replace(
            self,
            ln_value=self.ln_value[rows],
            sigma=self.sigma[rows],
            kind=self.kind[rows],
            error_correlation=correlation,
        )

    def select(self, names) -> "Observables":
        """Select observables, in the order given.

        Parameters
        ----------
        names : sequence of str
            Their names.

        Returns
        -------
        Observables
            Only these.

        Raises
        ------
        MassmapError
            For a name that there is not.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise MassmapError(f"the catalogue has no observable {', '.join(unknown)}: it has {', '.join(self.names)}")
        index = [self.names.index(name) for name in names]
        all_of = [0, *(i + 1 for i in index)]
        return replace(
            self,
            names=tuple(names),
            ln_value=self.ln_value[:, index],
            sigma=self.sigma[:, index],
            kind=self.kind[:, index],
            error_correlation=self.error_correlation[..., all_of, :][..., all_of],
        )


def _check_names(names, sigma_ln, *others) -> None:
    """Refuse names that cannot be used, and columns that belong to no observable."""
    if not names:
        raise MassmapError("no observable was given")
    if len(names) > _MOST:
        raise MassmapError(f"{len(names)} observables were given beside the luminosity: at most {_MOST} can be used")
    for name in names:
        if not re.fullmatch(r"[A-Za-z]\w*", str(name)) or name in ("mass", "lum", "luminosity"):
            raise MassmapError(
                f"observable name {name!r} cannot be used: give letters, digits and underscores, and another name than"
                " those of the mass and the luminosity"
            )
    if set(sigma_ln) != set(names):
        raise MassmapError(
            f"observables are {', '.join(names)}, and errors are given for {', '.join(sigma_ln)}: give both for each"
        )
    for given in others:
        unknown = [str(name) for name in (given or {}) if name not in names]
        if unknown:
            raise MassmapError(f"there is no observable {', '.join(unknown)}: there are {', '.join(names)}")


def _mask(given, name, rows) -> np.ndarray:
    """A column of yes and no, by default no."""
    if given is None or name not in given:
        return np.zeros(rows, dtype=bool)
    mask = np.asarray(given[name])
    if mask.shape != (rows,) or mask.dtype.kind not in "bui":
        raise MassmapError(f"the limits of {name} have shape {mask.shape}: give True or False for each of {rows} rows")
    return mask.astype(bool)


def _told(name, column, error, there, good) -> list[str]:
    """Sentences about entries that are left out."""
    notes = []
    not_positive = there & (column <= 0)
    if not_positive.any():
        notes.append(
            f"{name} of {not_positive.sum()} objects is not positive, first row {int(np.argmax(not_positive))}, and"
            " counts as missing; what is missing because it is faint biases masses: give it as an upper limit"
        )
    lost = there & (column > 0) & ~good
    if lost.any():
        first = int(np.argmax(lost))
        notes.append(
            f"{name} of {lost.sum()} objects has an error that cannot be one, first row {first}: {error[first]:g} in"
            " ln; it counts as missing"
        )
    return notes


def _correlation(given, size: int) -> np.ndarray:
    """A correlation matrix of the errors, checked."""
    if given is None:
        return np.eye(size)
    try:
        matrix = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MassmapError(f"the correlation of the errors is no matrix of numbers: {error}") from None
    return checked_correlation(matrix, size, "the correlation of the errors")


def checked_correlation(matrix: np.ndarray, size: int, what: str) -> np.ndarray:
    """Refuse a matrix that is no correlation of so many numbers.

    Parameters
    ----------
    matrix : Float[np.ndarray, "*draw all all"]
        One matrix, or one for each draw.
    size : int
        Number of observables, the luminosity among them.
    what : str
        What it is, for the message.

    Returns
    -------
    Float[np.ndarray, "*draw all all"]
        The matrix.

    Raises
    ------
    MassmapError
        For another shape, a diagonal that is not 1, or a matrix that is not symmetric and positive definite.
    """
    if matrix.shape[-2:] != (size, size):
        raise MassmapError(
            f"{what} has shape {matrix.shape}: give a matrix of {size} rows, the luminosity first, then the observables"
        )
    good = np.isfinite(matrix).all() and np.allclose(matrix, np.swapaxes(matrix, -1, -2), atol=1e-9)
    good = good and np.allclose(np.diagonal(matrix, axis1=-2, axis2=-1), 1, atol=1e-9)
    if not good or not (np.linalg.eigvalsh(matrix) > 1e-9).all():
        raise MassmapError(
            f"{what} is none: it has to be symmetric with 1 on the diagonal, and positive definite (no two observables"
            " may be the same up to a factor)"
        )
    return matrix
