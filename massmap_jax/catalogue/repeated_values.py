"""One number that many rows share while all others differ, as a placeholder of a catalogue's own is."""

import numpy as np

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue

# So many rows or more, and this part of them; others that are there twice are fewer by this factor. A number that most
# rows have is a choice, as one redshift for all is.
_FEWEST, _PART, _FACTOR, _MOST = 5, 0.02, 5, 0.5


def repeated_values(catalogue: HaloCatalogue) -> list[str]:
    """Say where many objects share one luminosity, redshift or position, and hardly any others do.

    Parameters
    ----------
    catalogue : HaloCatalogue
        The catalogue.

    Returns
    -------
    list of str
        A note for each.

    Notes
    -----
    At least 5 usable rows and 2 % of them have it, and any other number a fifth as often at most. Integers, such as
    richnesses, and rounded numbers repeat in any case, and are not told.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> from massmap_jax.catalogue.repeated_values import repeated_values
    >>> z = np.append(np.linspace(0.1, 0.5, 60), np.full(6, 1.0))
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     redshift=z, luminosity=1 + np.arange(66.0) ** 0.5, sigma_ln_luminosity=0.1)
    >>> print(repeated_values(catalogue)[0].partition(":")[0])
    6 of 66 objects have the same redshift, 1, first row 60, and other values hardly repeat
    """
    rows, notes = np.flatnonzero(catalogue.usable), []
    named = {"luminosity": np.asarray(catalogue.ln_lum_obs), "redshift": np.asarray(catalogue.redshift)}
    if catalogue.ra is not None and catalogue.dec is not None:
        named["position"] = np.asarray(catalogue.ra) + 1j * np.asarray(catalogue.dec)
    for name, column in named.items():
        of = rows[np.isfinite(column[rows])]
        if of.size == 0:
            continue
        unique, first, sizes = np.unique(column[of], return_index=True, return_counts=True)
        most = int(np.argmax(sizes))
        others = np.delete(sizes, most).max(initial=1)
        if sizes[most] < max(_FEWEST, _PART * of.size, _FACTOR * others) or sizes[most] > _MOST * of.size:
            continue
        value = unique[most]
        shown = f"{value.real:.6g}, {value.imag:.6g}" if name == "position" else f"{value:.6g}"
        shown = f"{np.exp(value):.6g}" if name == "luminosity" else shown
        notes.append(
            f"{sizes[most]} of {of.size} objects have the same {name}, {shown}, first row {of[first[most]]}, and other"
            " values hardly repeat: if it means that none is known, leave it blank"
        )
    return notes
