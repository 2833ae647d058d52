"""How much compiled code a process holds, and how it is dropped.

Compiled code takes memory mappings, of which Linux gives a process 65,530; where there are no more, XLA aborts.
"""

import gc

MOST_MAPPINGS = 30_000


def number_of_mappings() -> int:
    """Memory mappings of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/maps", "rb") as maps:
            return sum(1 for _ in maps)
    except OSError:
        return 0


def drop_what_is_too_much() -> None:
    """Forget all that was compiled where it is more than half of what there is room for; the cache on disk stays."""
    if number_of_mappings() > MOST_MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()
