"""What a fit of the relation needs of the objects, wherever they are stored: `RelationData`.

A catalogue in memory is one implementation (`CatalogueData`); the partitions of a catalogue that does not fit into
memory are another (`lsdb`). Each quantity is a sum, an extreme or a set of weighted points, so the parts add up.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from massmap_jax.catalogue.flags import LUM_BAD, Z_BAD, Flag
from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.devices import padded_size
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.objects import Objects, Range, lognormal_rows
from massmap_jax.likelihood.redshifts import ln_detected, place, refuse_uncertain
from massmap_jax.likelihood.selection import FluxLimit, NoSelection, RedshiftLimit, TabulatedSelection, is_sharp
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import Points, compress

# Selections whose kinks in redshift are known; for any other, A is evaluated at every object.
SMOOTH = (NoSelection, FluxLimit, RedshiftLimit, TabulatedSelection)
# Objects per block of the direct sum.
_BLOCK = 2048
# Share of the objects that may be left out on signal to noise: the relation then moves by less than its error.
_FEW_LEFT_OUT = 0.01
# Two are few where they are less than this share: of 21 clusters they made a slope of 0.9 one of 1.2.
_TWO_LEFT_OUT = 0.05
HALF_LN_2PI = 0.5 * np.log(2 * np.pi)


class RelationData(Protocol):
    """The usable objects of a catalogue, with the prior and the selection that they are fitted with.

    Attributes
    ----------
    prior : MassPrior
        Prior density of the masses.
    selection : Selection
        Which objects can be in the catalogue.
    num_halos : int
        Number of usable objects.
    constant : float
        Sum of their ln p_det.
    lum_unit : str
        Unit of their luminosities, "" where it is not stated.
    extra : ExtraEvidence or None
        What mass likelihoods of single objects add.
    """

    prior: MassPrior
    selection: Any
    num_halos: int
    constant: float
    lum_unit: str
    extra: Any

    def compressed(self, scatter: float) -> Points:
        """Give points that stand for the objects, good for relations with at least this scatter S [ln L]."""

    def halos(self) -> Points:
        """Give the objects themselves: they are used where they are few, or the selection's kinks are not known."""

    def middle(self, relation) -> tuple[float, float]:
        """Give about the median ln M under a relation, and the median redshift.

        They set the pivot of the sampling coordinates and do not change the answer.
        """

    def refuse(self, relation) -> None:
        """Raise an error that names objects whose likelihood is not finite under this relation."""


class CatalogueData:
    """The `RelationData` of a catalogue in memory.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects; unusable rows are left out.
    prior : MassPrior
        Prior density of the masses.
    selection : Selection, optional
        Which objects can be in the catalogue; None for every object.
    exact : bool, optional
        Whether redshifts that are not exact are refused.
    rows : Int[np.ndarray, "used"], optional
        The usable rows, where their noise need not be lognormal.

    Raises
    ------
    MassmapError
        No usable row, noise that is not lognormal, redshifts that are not exact, an object that the
        selection excludes, or faint objects left out on signal to noise.
    """

    def __init__(self, catalogue: HaloCatalogue, prior: MassPrior, selection=None, *, exact: bool = True, rows=None):
        # Copies: a NumPy array that a float32 function was traced with as a constant comes back in float32 from JAX
        # 0.10 wherever the same array is used in float64, as here, after a NumPyro model of the same prior has run.
        both = prior, NoSelection() if selection is None else selection
        prior, selection = jax.tree.map(lambda a: a.copy() if isinstance(a, np.ndarray) else a, both)
        self.catalogue, self.prior, self.selection = catalogue, prior, selection
        self.rows = lognormal_rows(catalogue, prior) if rows is None else rows
        self.lum_unit = catalogue.lum_unit
        if exact:
            refuse_uncertain(catalogue, "this likelihood")
        self.num_halos = self.rows.size
        refuse_selection_by_noise(catalogue, self.selection, self.rows)
        self.ln_detection = self._ln_detection()
        self.constant = float(self.ln_detection.sum())
        self.extra: Any = None

    def _ln_detection(self) -> np.ndarray:
        """ln of the probability that each used object was found, given its observed luminosity."""
        return detection(self.catalogue, self.prior, self.selection, self.rows)

    def compressed(self, scatter: float, whole: Range | None = None) -> Points:
        """Give points that stand for the objects.

        Parameters
        ----------
        scatter : float
            Least scatter S of the relations to be evaluated [ln L].
        whole : Range, optional
            Range of the whole catalogue, where this is a part of one, so that all parts share their boxes.

        Returns
        -------
        Points
            The points.
        """
        whole = self.range() if whole is None else whole
        columns = self.halos()[:3]
        nodes = self.kinks(whole.redshift[1])
        return compress(*columns, redshift_nodes=nodes, scatter=scatter, sigma_range=whole.sigma)

    def kinks(self, z_max: float) -> np.ndarray:
        """Give the redshifts where ln Z or ln A has kinks: nodes of the prior and of the selection, up to `z_max`."""
        prior, selection = self.prior, self.selection
        of_selection = np.asarray(getattr(selection, "redshift_nodes", ()), dtype=np.float64)
        inside = of_selection[(of_selection > prior.z_min) & (of_selection < min(prior.z_max, 1e3))]
        if prior.redshift_nodes.shape[0] == 1:
            return np.union1d([0.0, z_max], inside)
        return np.union1d(prior.redshift_nodes, inside)

    def halos(self) -> Points:
        """Give the usable objects themselves, each with weight 1."""
        cat, rows = self.catalogue, self.rows
        columns = (cat.ln_lum_obs[rows], cat.sigma_ln_lum[rows], cat.redshift[rows])
        return Points(*columns, np.ones(rows.size))

    def range(self) -> Range:
        """Give the range of the usable objects in luminosity, redshift and noise."""
        ln_lum, sigma, z, _ = self.halos()
        return Range.of(ln_lum, z, sigma)

    def middle(self, relation) -> tuple[float, float]:
        """Give the median ln M [ln Msun] of up to 4096 objects under a relation, and their median redshift."""
        ln_lum, _, z, _ = (a[_spread_over(a.size)] for a in self.halos())
        # Clipped to the masses of the prior: a wild luminosity must not move the pivot out of the table.
        centre = np.clip(np.asarray(_centres(relation, ln_lum, z)), self.prior.ln_mass_min, self.prior.ln_mass_max)
        return float(np.median(centre)), float(np.median(z))

    def not_finite(self, relation) -> tuple[int, str]:
        """Count the objects whose likelihood is not finite under a relation, and describe the first of them."""
        values = np.concatenate(
            [
                np.asarray(part)
                for part in ln_z_per_halo(relation, self.catalogue, self.prior, self.selection, self.rows)
            ]
        )
        bad = ~np.isfinite(values)
        row = int(self.rows[np.argmax(bad)])
        lum, z = np.exp(self.catalogue.ln_lum_obs[row]), self.catalogue.redshift[row]
        return int(bad.sum()), f"row {row} (L_obs = {lum:g}, z = {z:g})"

    def refuse(self, relation) -> None:
        """Raise an error that names objects whose likelihood is not finite under this relation."""
        refuse_start(*self.not_finite(relation), self.num_halos)


def are_few(left_out: int, number: int) -> bool:
    """Tell whether objects that are left out on signal to noise move a relation by less than its error.

    Parameters
    ----------
    left_out : int
        Number of these objects.
    number : int
        Number of all objects, with them.

    Returns
    -------
    bool
        True for 1 %, or for two and not more than 5 %.
    """
    return left_out <= max(min(2, _TWO_LEFT_OUT * number), _FEW_LEFT_OUT * number)


def refuse_selection_by_noise(catalogue: HaloCatalogue, selection, rows: np.ndarray) -> None:
    """Refuse a fit to a catalogue whose faint objects were left out on signal to noise.

    Such a cut is a selection on the observable that no flux limit describes: with 12 % of the objects left out, a true
    slope of 1.00 was found to be 1.28 +- 0.09. Masses under a relation that is known do not depend on it.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The objects.
    selection : Selection
        Objects that it excludes anyway do not count.
    rows : Int[np.ndarray, "used"]
        Rows that are used.

    Raises
    ------
    MassmapError
        More than 1 % of the objects, or of a few objects more than two or 5 %, are left out so, and most of them are
        fainter than most that are used.
    """
    flag = catalogue.flag
    left = np.flatnonzero(((flag & int(Flag.SIGMA_LOW_SNR)) != 0) & ((flag & int(LUM_BAD | Z_BAD)) == 0))
    if left.size == 0:
        return
    with jax.ensure_compile_time_eval():
        chance = np.asarray(selection.log_prob(catalogue.ln_lum_obs[left], catalogue.redshift[left]))
    left = left[chance > -np.inf]
    number = left.size + rows.size
    if are_few(left.size, number) or np.median(catalogue.ln_lum_obs[left]) >= np.median(catalogue.ln_lum_obs[rows]):
        return
    brightest = float(np.exp(catalogue.ln_lum_obs[left].max()))
    raise MassmapError(
        f"{left.size:,} of {number:,} objects ({left.size / number:.1%}), first row"
        f" {left[0]}, are left out on signal to noise (SIGMA_LOW_SNR), most of them faint: that is a"
        " selection which the"
        " fit does not know, and it would find a wrong relation; keep them with noise='linear', lower min_snr=, give"
        " errors in ln L (sigma_kind='ln'), or"
        f" fit the objects above L = {brightest:.4g} alone, which none of those exceeds, with that limit as lum_limit="
    )


def _spread_over(number: int) -> np.ndarray:
    """4096 row numbers from end to end of so many rows: always one size, so that it is compiled once."""
    return np.linspace(0, number - 1, 4096).round().astype(int)


def refuse_start(number: int, first: str, num_halos: int) -> None:
    """Raise the error of a fit that cannot begin, because the likelihood is not finite at the prior's centre."""
    raise MassmapError(
        f"the likelihood is not finite at the centre of the relation's prior for {number} of {num_halos} objects, "
        f"first {first}: check the unit of the luminosity, the relation's prior, and the selection"
    )


@jax.jit
def _centres(relation, ln_lum_obs, z):
    """Centre in ln M of the data term of each object, without noise."""
    return relation.data_term(ln_lum_obs, 0.0, z).centre


def ln_z_per_halo(relation, catalogue, prior, selection, rows):
    """Yield ln (Z / A) of some rows, in parts of up to 131,072 rows."""
    halos = Objects.of(catalogue, rows, prior, need_keys=False, selection=selection)
    for start in range(0, rows.size, 64 * _BLOCK):
        part = np.arange(start, min(start + 64 * _BLOCK, rows.size))
        padded = np.concatenate([part, np.repeat(part[-1:], -part.size % _BLOCK)])
        yield _ln_z_of_halos(relation, halos.take(padded), prior, selection)[: part.size]


@jax.jit
def _ln_z_of_halos(relation, halos, prior, selection):
    def one(halo):
        def node(ln_lum, z, ln_weight, ln_factor):
            term = relation.data_term(ln_lum, halo.sigma, z)
            ln_norm = term.log_norm + jnp.log(term.width) + HALF_LN_2PI
            ln_a = selection.log_norm(relation, prior, z, halo.sigma)
            ln_weight = ln_weight + ln_factor
            return ln_weight + ln_norm + prior.log_evidence_of_row(
                prior.ln_density_at(z), term.centre, z, term.width
            ), ln_a

        ln_factor = jnp.zeros_like(halo.z) if halo.ln_factor is None else halo.ln_factor
        ln_z, ln_a = jax.vmap(node)(halo.ln_lum_obs, halo.z, halo.ln_z_weight, ln_factor)
        if ln_z.shape[0] == 1:
            return ln_z[0] - ln_a[0]
        return jax.nn.logsumexp(ln_z) - jax.nn.logsumexp(ln_a + halo.ln_z_weight)

    blocks = jax.tree.map(lambda a: a.reshape(-1, _BLOCK, *a.shape[1:]), halos)
    # Checkpointed: the gradient does not keep the panels of every block in memory.
    return jax.lax.map(jax.checkpoint(jax.vmap(one)), blocks).ravel()


def detection(catalogue: HaloCatalogue, prior: MassPrior, selection, rows) -> np.ndarray:
    """ln p_det of each used row (a constant of the fit); an error where the selection excludes a catalogued object.

    0 where it is another at each redshift of a p(z): the nodes of `Objects` have it then.
    """
    if catalogue.redshift_distributions is not None and not is_sharp(selection):
        nodes = place(catalogue, rows, prior, selection=selection)
        lost = (
            ln_detected(catalogue, rows, nodes, selection).max(axis=1, where=nodes.ln_weight > -np.inf, initial=-1e30)
            <= -1e30
        )
        values = np.zeros(rows.size)
    else:
        padded = np.pad(rows, (0, padded_size(rows.size) - rows.size), mode="edge")
        with jax.ensure_compile_time_eval():  # data only, also where the relation is being traced
            values = selection.log_prob(catalogue.ln_lum_obs[padded], catalogue.redshift[padded])
        values = np.asarray(values, dtype=np.float64)[: rows.size]
        lost = ~np.isfinite(values)
    if lost.any():
        row = int(rows[np.argmax(lost)])
        raise MassmapError(
            f"the selection gives {lost.sum()} catalogued objects no chance to be in the catalogue, first row {row} "
            f"(L_obs = {np.exp(catalogue.ln_lum_obs[row]):g}, z = {catalogue.redshift[row]:g}): correct the selection "
            "or leave these objects out"
        )
    return values


def filled(values: np.ndarray, with_value=None, least: int = 64) -> np.ndarray:
    """Pad with the last row, or the value given, to the next of the sizes 64, 96, 128, 192, 256, ..."""
    size = least
    while size < values.shape[0]:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    filler = values[-1] if with_value is None else with_value
    rest = np.broadcast_to(np.asarray(filler, dtype=values.dtype), (size - values.shape[0], *values.shape[1:]))
    return np.concatenate([values, rest])


@jax.jit
def prior_rows(prior, redshift):
    """ln p(ln M | z) at the mass nodes, one row for each redshift."""
    return jax.lax.map(prior.ln_density_at, jnp.asarray(redshift), batch_size=256)
