"""All devices of one machine: halos are split evenly over them, everything else is copied to each.

A kernel marked with `over_halos` takes one chunk of halos a call. With one device it is a plain `jax.jit`. With
several, `jax.shard_map` runs the same code on each device's share, with no communication between them; since a halo's
answer depends on that halo alone, it is the answer of one device. Sums over halos are made on the host, in row order.
"""

import inspect
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial, wraps

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from massmap_jax.errors import MassmapError

HALO = P("halo")
# Chunks started before the result of the first is fetched: one computes while another is copied.
_AHEAD = 1


def local() -> list:
    """The devices that compute: all local ones of JAX's default platform, or the one `jax.default_device` names."""
    chosen = jax.config.jax_default_device
    if chosen is None:
        return jax.local_devices()
    return jax.local_devices(backend=chosen)[:1] if isinstance(chosen, str) else [chosen]


def count() -> int:
    """Number of devices that a chunk is split over."""
    return len(local())


def platform() -> str:
    """Of the devices that compute: "cpu", "gpu" or "tpu"."""
    return local()[0].platform


def describe() -> dict[str, str | int]:
    """What computed, for the record of a run: platform, kind and number of devices."""
    devices = local()
    return {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}


def free_bytes() -> int | None:
    """Memory that JAX may still take on the device with the least of it; None where the device does not say (CPU)."""
    stats = [device.memory_stats() for device in local()]
    if not all(s and "bytes_limit" in s for s in stats):
        return None
    return min(s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats)


def need_gpu() -> None:
    """Make GPUs the devices that compute, before any has; an error where JAX finds none."""
    if jax.config.jax_platforms not in (None, "", "cuda", "rocm", "gpu"):
        jax.config.update("jax_platforms", "")  # an option that is given outranks JAX_PLATFORMS in the environment
    found = jax.default_backend()
    if found != "gpu":
        raise MassmapError(
            f"device 'gpu' is asked for and JAX finds only {found}: use device='cpu', or install JAX for this "
            "machine's GPU (pip install 'jax[cuda13]' for NVIDIA)"
        )


def everywhere(tree):
    """The same arrays on every device, copied once instead of with each chunk; on one device, `tree` as it is."""
    return tree if count() == 1 else jax.device_put(tree, NamedSharding(_mesh(tuple(local())), P()))


def over_halos(*split: str, static: tuple[str, ...] = (), out=HALO) -> Callable:
    """Decorator: compile a function, and split its halos over the devices.

    Parameters
    ----------
    split : names of the arguments with a leading halo axis on every array (but for what an `axes()` of theirs, as for
        `vmap`, leaves out); its length must be a multiple of `count()`, or one device computes it all.
    static : names of static arguments, given by keyword.
    out : where the outputs have their halo axis, a `PartitionSpec` with "halo" there, or a tree of them.
    """

    def decorate(function):
        names = tuple(inspect.signature(function).parameters)
        one = jax.jit(function, static_argnames=static)

        def specs(arguments):
            return tuple(_spec(a) if name in split else P() for name, a in zip(names, arguments, strict=False))

        @partial(jax.jit, static_argnames=("mesh", *static))
        def several(*arguments, mesh, **settings):
            kernel = partial(function, **settings)
            return jax.shard_map(kernel, mesh=mesh, in_specs=specs(arguments), out_specs=out, check_vma=False)(
                *arguments
            )

        @wraps(function)
        def call(*arguments, **settings):
            devices = tuple(local())
            first = next(a for name, a in zip(names, arguments, strict=False) if name in split)
            if len(devices) == 1 or jax.tree.leaves(first)[0].shape[0] % len(devices):
                return one(*arguments, **settings)
            mesh = _mesh(devices)
            placed = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(arguments), is_leaf=_is_spec)
            return several(*jax.device_put(arguments, placed), mesh=mesh, **settings)

        return call

    return decorate


def fetched(started: Iterable, ahead: int = _AHEAD) -> Iterator:
    """Copies on the host of outputs that an iterator starts, in order; the next is started before one is fetched."""
    waiting = deque()
    for outputs in started:
        waiting.append(outputs)
        if len(waiting) > ahead:
            yield jax.tree.map(np.asarray, waiting.popleft())
    while waiting:
        yield jax.tree.map(np.asarray, waiting.popleft())


def in_threads(work: Callable, starts) -> None:
    """`work(start)` for each, side by side: one compiled chunk keeps about one core of a CPU busy, and while a GPU's
    result is fetched the next is computed. An interrupt drops those not begun."""
    if len(starts) == 0:
        return
    work(starts[0])  # compiles once, before the threads ask for it
    if len(starts) == 1:
        return
    workers = os.cpu_count() if (platform(), count()) == ("cpu", 1) else 2
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        for done in [pool.submit(work, start) for start in starts[1:]]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _spec(tree):
    """HALO, or the same tree with P() where `axes()` says that there is no halo axis."""
    if not hasattr(tree, "axes"):
        return HALO
    return jax.tree.map(lambda axis: P() if axis is None else HALO, tree.axes(), is_leaf=lambda a: a is None)


def _is_spec(value) -> bool:
    return isinstance(value, P)


@cache
def _mesh(devices: tuple) -> Mesh:
    return Mesh(np.array(devices), ("halo",))


def padded_size(number: int) -> int:
    """The next power of two, at least 64: arrays padded to such sizes share compiled code."""
    return max(64, 1 << (number - 1).bit_length())
