"""Flags: why a row has no mass, or has a mass to be used with care; one bit per reason."""

import enum

import numpy as np


class Flag(enum.IntFlag):
    """Reasons why a catalogue row has no mass, or has a mass to be used with care.

    Several reasons may hold at the same time: a flag is their sum, and 0 means that the row is good. All of them but
    POSITION_BAD, EDGE, OUTSIDE_RELATION, NOT_CONVERGED and NO_LUMINOSITY leave the row without a mass.

    Attributes
    ----------
    OK : int
        0: nothing is wrong.
    LUM_MISSING : int
        1: the luminosity is missing (NaN, infinite or masked).
    LUM_SENTINEL : int
        2: the luminosity is a placeholder such as -99.
    LUM_NOT_POSITIVE : int
        4: the luminosity is zero or negative; with linear noise, more than four errors below zero.
    SIGMA_MISSING : int
        8: the error of the luminosity is missing.
    SIGMA_NEGATIVE : int
        16: the error of the luminosity is negative.
    SIGMA_LOW_SNR : int
        32: the signal-to-noise ratio of the luminosity is below the limit, or its lower bar reaches zero.
    Z_MISSING : int
        64: the redshift is missing (NaN, infinite or masked).
    Z_SENTINEL : int
        128: the redshift is a placeholder such as -1 or 99.
    Z_NEGATIVE : int
        256: the redshift is negative.
    Z_OUTSIDE_PRIOR : int
        512: the redshift lies outside the range of the mass prior.
    POSITION_BAD : int
        1024: the sky position is missing or impossible. The row has a mass and is left out of maps.
    NO_SUPPORT : int
        2048: the prior has no mass where the likelihood lies.
    EDGE : int
        4096: more than 1 % of the posterior lies beyond the prior's mass table. The mass is reported.
    OUTSIDE_RELATION : int
        8192: mass or redshift outside the range that the published relation was measured in. The mass is reported.
    NOT_CONVERGED : int
        16384: the Markov chains of the object did not move, or disagree (R-hat above 1.1). What they give is reported,
        and is not its posterior.
    Z_ERROR_BAD : int
        32768: the error of the redshift, or its p(z), is missing or impossible.
    NO_LUMINOSITY : int
        65536: the luminosity is missing, and the mass is that of the other observables. The mass is reported.
    MEMBERSHIP_BAD : int
        131072: the probability that the galaxy is a central is missing, or not between 0 and 1. Where centrals and
        satellites are told apart the row has no mass.
    GROUP_BAD : int
        262144: another row of the galaxy's group cannot be used, and so the mass of their host is not known.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> catalogue = mm.HaloCatalogue.from_arrays(
    ...     luminosity=[4e4, -99.0], redshift=[0.2, -0.1], sigma_ln_luminosity=0.05
    ... )
    >>> catalogue.flag.tolist()
    [0, 258]
    >>> mm.Flag.LUM_SENTINEL in mm.Flag(258)
    True
    >>> ((catalogue.flag & mm.Flag.Z_NEGATIVE) != 0).tolist()
    [False, True]
    """

    OK = 0
    LUM_MISSING = 1 << 0
    LUM_SENTINEL = 1 << 1
    LUM_NOT_POSITIVE = 1 << 2
    SIGMA_MISSING = 1 << 3
    SIGMA_NEGATIVE = 1 << 4
    SIGMA_LOW_SNR = 1 << 5
    Z_MISSING = 1 << 6
    Z_SENTINEL = 1 << 7
    Z_NEGATIVE = 1 << 8
    Z_OUTSIDE_PRIOR = 1 << 9
    POSITION_BAD = 1 << 10
    NO_SUPPORT = 1 << 11
    EDGE = 1 << 12
    OUTSIDE_RELATION = 1 << 13
    NOT_CONVERGED = 1 << 14
    Z_ERROR_BAD = 1 << 15
    NO_LUMINOSITY = 1 << 16
    MEMBERSHIP_BAD = 1 << 17
    GROUP_BAD = 1 << 18


REASONS = {
    Flag.LUM_MISSING: "luminosity missing (NaN, infinite or masked)",
    Flag.LUM_SENTINEL: "luminosity is a placeholder such as -99",
    Flag.LUM_NOT_POSITIVE: "luminosity zero or negative (with linear noise: more than four errors below zero)",
    Flag.SIGMA_MISSING: "luminosity error missing",
    Flag.SIGMA_NEGATIVE: "luminosity error negative",
    Flag.SIGMA_LOW_SNR: "luminosity below the signal-to-noise limit",
    Flag.Z_MISSING: "redshift missing (NaN, infinite or masked)",
    Flag.Z_SENTINEL: "redshift is a placeholder such as -1 or 99",
    Flag.Z_NEGATIVE: "redshift negative",
    Flag.Z_OUTSIDE_PRIOR: "redshift outside the mass prior",
    Flag.POSITION_BAD: "sky position missing or impossible; mass computed, but left out of maps",
    Flag.NO_SUPPORT: "the prior has no mass where the likelihood lies",
    Flag.EDGE: "more than 1 % of the posterior lies beyond the mass table; mass reported",
    Flag.OUTSIDE_RELATION: "mass or redshift outside the range that the published relation was measured in; mass "
    "reported",
    Flag.NOT_CONVERGED: "the Markov chains did not move, or disagree (R-hat above 1.1); do not use this mass, sample "
    "again with a longer warm-up",
    Flag.Z_ERROR_BAD: "redshift error, or p(z), missing or impossible",
    Flag.NO_LUMINOSITY: "no luminosity; the mass is that of the other observables",
    Flag.MEMBERSHIP_BAD: "probability of being a central missing or not between 0 and 1",
    Flag.GROUP_BAD: "another row of its group cannot be used",
}

LUM_BAD = Flag.LUM_MISSING | Flag.LUM_SENTINEL | Flag.LUM_NOT_POSITIVE
SIGMA_BAD = Flag.SIGMA_MISSING | Flag.SIGMA_NEGATIVE | Flag.SIGMA_LOW_SNR
Z_BAD = Flag.Z_MISSING | Flag.Z_SENTINEL | Flag.Z_NEGATIVE
UNUSABLE = (
    LUM_BAD | SIGMA_BAD | Z_BAD | Flag.Z_ERROR_BAD | Flag.Z_OUTSIDE_PRIOR | Flag.NO_SUPPORT | Flag.MEMBERSHIP_BAD
    | Flag.GROUP_BAD
)  # fmt: skip
"""Bits that make the mass NaN: all but POSITION_BAD, EDGE, OUTSIDE_RELATION, NOT_CONVERGED and NO_LUMINOSITY."""


def describe(flag: int) -> str:
    """Give the names of the bits set in one flag, joined by "|".

    Parameters
    ----------
    flag : int
        A flag.

    Returns
    -------
    str
        The names; empty for 0.

    Examples
    --------
    >>> from massmap_jax.catalogue.flags import Flag, describe
    >>> describe(Flag.LUM_SENTINEL | Flag.Z_NEGATIVE)
    'LUM_SENTINEL|Z_NEGATIVE'
    """
    return "|".join(str(bit.name) for bit in REASONS if int(flag) & bit)


def describe_all(flags: np.ndarray) -> np.ndarray:
    """Give the names of the bits set in every flag, as `describe` does; (n,) of str."""
    distinct, inverse = np.unique(np.asarray(flags), return_inverse=True)
    return np.array([describe(flag) for flag in distinct], dtype=str)[inverse]


def count(flags: np.ndarray) -> dict[str, int]:
    """Count the rows that have each bit set, by its name; bits that no row has are left out."""
    rows = {str(bit.name): int(np.count_nonzero(np.asarray(flags) & int(bit))) for bit in REASONS}
    return {name: n for name, n in rows.items() if n}


def summary_lines(flags: np.ndarray) -> list[str]:
    """Summarise flags for people: one line for the rows used, and one per reason."""
    flags = np.asarray(flags)
    unusable = int(np.count_nonzero(flags & int(UNUSABLE)))
    lines = [f"{flags.size} rows, {flags.size - unusable} with a mass, {unusable} without"]
    return lines + [f"  {n} rows: {REASONS[Flag[name]]} ({name})" for name, n in count(flags).items()]
