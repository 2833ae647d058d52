"""The memory that a map takes, against what the machine has: refused before it is asked for."""

import os

from massmap_jax.errors import MassmapError


def machine_bytes() -> float:
    """Physical memory of this machine in bytes; infinite where the system does not tell (Windows)."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Refuse `what` where it needs more bytes than the machine has; `remedy` says what to do.

    Raises
    ------
    MassmapError : with both numbers.
    """
    have = machine_bytes()
    if needed > have:
        raise MassmapError(
            f"{what} needs about {needed / 1e9:.3g} GB and this machine has {have / 1e9:.3g} GB: {remedy}"
        )
