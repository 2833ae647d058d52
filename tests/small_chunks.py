"""Fewer objects per compiled call: a catalogue of a hundred objects is filled up to 2048 of them, and most of it is idle."""

FEW, MANY = 256, 2048  # the second is that of users
# Files whose tests compute thousands at a time, the nodes of a surface.
OF_MANY = {"test_surface.py", "test_surface_redshifts.py"}


def compute(number: int = FEW) -> None:
    """Compute masses, and the check of luminosities, of so many objects at a time where a call does not say how many."""
    from massmap_jax.checks import predicted
    from massmap_jax.posterior import kernel

    kernel._CHUNK = predicted._CHUNK = number
