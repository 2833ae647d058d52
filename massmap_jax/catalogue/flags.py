"""Why a row has no mass, or a mass to be read with care: one bit per reason."""

import enum

import numpy as np


class Flag(enum.IntFlag):
    """Reasons attached to a catalogue row; several may hold at once, 0 means none does."""

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


REASONS = {
    Flag.LUM_MISSING: "luminosity missing (NaN, infinite or masked)",
    Flag.LUM_SENTINEL: "luminosity is a placeholder such as -99",
    Flag.LUM_NOT_POSITIVE: "luminosity zero or negative",
    Flag.SIGMA_MISSING: "luminosity error missing",
    Flag.SIGMA_NEGATIVE: "luminosity error negative",
    Flag.SIGMA_LOW_SNR: "luminosity below the signal-to-noise limit",
    Flag.Z_MISSING: "redshift missing (NaN, infinite or masked)",
    Flag.Z_SENTINEL: "redshift is a placeholder such as -1 or 99",
    Flag.Z_NEGATIVE: "redshift negative",
    Flag.Z_OUTSIDE_PRIOR: "redshift outside the mass prior",
    Flag.POSITION_BAD: "sky position missing or impossible; mass computed, not on the map",
    Flag.NO_SUPPORT: "no prior mass where the likelihood is",
    Flag.EDGE: "posterior leans on the edge of the mass table; mass reported",
    Flag.OUTSIDE_RELATION: "mass or redshift outside the range that the published relation was measured in; mass "
    "reported",
}

LUM_BAD = Flag.LUM_MISSING | Flag.LUM_SENTINEL | Flag.LUM_NOT_POSITIVE
SIGMA_BAD = Flag.SIGMA_MISSING | Flag.SIGMA_NEGATIVE | Flag.SIGMA_LOW_SNR
Z_BAD = Flag.Z_MISSING | Flag.Z_SENTINEL | Flag.Z_NEGATIVE
UNUSABLE = LUM_BAD | SIGMA_BAD | Z_BAD | Flag.Z_OUTSIDE_PRIOR | Flag.NO_SUPPORT
"""Bits that make the mass NaN: all but POSITION_BAD, EDGE and OUTSIDE_RELATION."""


def describe(flag: int) -> str:
    """Names of the bits set in one flag, joined by "|"; empty for 0.

    >>> describe(Flag.LUM_SENTINEL | Flag.Z_NEGATIVE)
    'LUM_SENTINEL|Z_NEGATIVE'
    """
    return "|".join(bit.name for bit in REASONS if int(flag) & bit)


def describe_all(flags: np.ndarray) -> np.ndarray:
    """`describe` for every row, (n,) of str; each distinct flag is worded once."""
    distinct, inverse = np.unique(np.asarray(flags), return_inverse=True)
    return np.array([describe(flag) for flag in distinct], dtype=str)[inverse]


def count(flags: np.ndarray) -> dict[str, int]:
    """Rows with each bit set, by name; bits that no row has are left out."""
    rows = {bit.name: int(np.count_nonzero(np.asarray(flags) & int(bit))) for bit in REASONS}
    return {name: n for name, n in rows.items() if n}


def summary_lines(flags: np.ndarray) -> list[str]:
    """One line for the rows used and one per reason, for people to read."""
    flags = np.asarray(flags)
    unusable = int(np.count_nonzero(flags & int(UNUSABLE)))
    lines = [f"{flags.size} rows, {flags.size - unusable} with a mass, {unusable} without"]
    return lines + [f"  {n} rows: {REASONS[Flag[name]]} ({name})" for name, n in count(flags).items()]
