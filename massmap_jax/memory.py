"""The memory that a result needs, compared with what the machine has before it is allocated."""

import os

from massmap_jax.errors import MassmapError


def machine_bytes() -> float:
    """Return the physical memory of this machine.

    Returns
    -------
    float
        Memory [bytes]; infinite where the system does not report it (Windows).
    """
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Refuse a result that needs more memory than the machine has.

    Parameters
    ----------
    needed : float
        Memory that is needed [bytes].
    what : str
        What needs it, the subject of the message.
    remedy : str
        What the user can do instead.

    Raises
    ------
    MassmapError
        If more is needed than the machine has; the message gives both numbers and the remedy.
    """
    have = machine_bytes()
    if needed > have:
        raise MassmapError(
            f"{what} needs about {needed / 1e9:.3g} GB and this machine has {have / 1e9:.3g} GB: {remedy}"
        )
