"""All devices of one machine: halos are split evenly over them, everything else is copied to each.

A kernel marked with `over_halos` takes one chunk of halos per call. With one device it is a plain `jax.jit`. With
several, `jax.shard_map` runs the same code on each device's share, with no communication between them. The answer for
a halo depends on that halo alone, so it is the same as on one device. Sums over halos are made on the host, in row
order.
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
# Chunks that are started before the result of the first is fetched: one computes while another is copied.
_AHEAD = 1


def local() -> list:
    """Return the devices that compute.

    Returns
    -------
    list of jax.Device
        All local devices of JAX's default platform, or the one that `jax.default_device` names.
    """
    chosen = jax.config.jax_default_device
    if chosen is None:
        return jax.local_devices()
    return jax.local_devices(backend=chosen)[:1] if isinstance(chosen, str) else [chosen]


def count() -> int:
    """Return the number of devices that a chunk is split over.

    Returns
    -------
    int
        The number of devices.
    """
    return len(local())


def platform() -> str:
    """Return the platform of the devices that compute.

    Returns
    -------
    str
        "cpu", "gpu" or "tpu".
    """
    return local()[0].platform


def describe() -> dict[str, str | int]:
    """Describe the devices that compute, for the record of a run.

    Returns
    -------
    dict of str to str or int
        Platform, kind and count of the devices.
    """
    devices = local()
    return {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}


def free_bytes() -> int | None:
    """Return the memory that JAX may still take on the device that has the least.

    Returns
    -------
    int or None
        Free memory [bytes]; None where the device does not report it (CPU).
    """
    stats = [device.memory_stats() for device in local()]
    if not all(s and "bytes_limit" in s for s in stats):
        return None
    return min(s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats)


def need_gpu() -> None:
    """Make GPUs the devices that compute; call it before JAX has computed anything.

    Raises
    ------
    MassmapError
        If JAX finds no GPU.
    """
    if jax.config.jax_platforms not in (None, "", "cuda", "rocm", "gpu"):
        jax.config.update("jax_platforms", "")  # an explicit option overrides JAX_PLATFORMS in the environment
    found = jax.default_backend()
    if found != "gpu":
        raise MassmapError(
            f"device 'gpu' is asked for, but JAX finds only {found}: use device='cpu', or install JAX for this "
            "machine's GPU (pip install 'jax[cuda13]' for NVIDIA)"
        )


def everywhere(tree):
    """Copy arrays to every device once, rather than with each chunk.

    Parameters
    ----------
    tree : PyTree
        Arrays that every device needs whole.

    Returns
    -------
    PyTree
        The same arrays on every device; on one device, `tree` itself.
    """
    return tree if count() == 1 else jax.device_put(tree, NamedSharding(_mesh(tuple(local())), P()))


def over_halos(*split: str, static: tuple[str, ...] = (), out=HALO) -> Callable:
    """Make a decorator that compiles a function and splits its halos over the devices.

    Parameters
    ----------
    *split : str
        Names of the arguments whose arrays all have a leading halo axis, except those for which the argument's
        `axes()` (in the sense of `jax.vmap`) is None. That axis must be a multiple of `count()` long; otherwise one
        device computes everything.
    static : tuple of str
        Names of static arguments, which are given by keyword.
    out : PartitionSpec or PyTree
        Where the outputs have their halo axis: a `jax.sharding.PartitionSpec` with "halo" there, or a tree of them.

    Returns
    -------
    Callable
        The decorator.
    """

    def decorate(function):
        """Compile a function for one device and for several, and choose between them at each call."""
        names = tuple(inspect.signature(function).parameters)
        one = jax.jit(function, static_argnames=static)

        def specs(arguments):
            """Where each argument has its halo axis."""
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
    """Copy outputs to the host in order, and start the next before one is fetched.

    Parameters
    ----------
    started : Iterable
        Outputs of computations, each of which starts when the iterator is advanced.
    ahead : int, optional
        How many are started before the first is fetched.

    Yields
    ------
    PyTree
        The outputs as host arrays.
    """
    waiting: deque = deque()
    for outputs in started:
        waiting.append(outputs)
        if len(waiting) > ahead:
            yield jax.tree.map(np.asarray, waiting.popleft())
    while waiting:
        yield jax.tree.map(np.asarray, waiting.popleft())


def in_threads(work: Callable, starts) -> None:
    """Run `work(start)` for each start, side by side in threads.

    Parameters
    ----------
    work : Callable
        The function; its first call, which compiles, is made before any thread starts.
    starts : Sequence
        Its arguments.

    Notes
    -----
    One compiled chunk keeps about one core of a CPU busy, so there is one thread per core; on GPUs and several devices
    two threads are enough to compute the next chunk while a result is fetched. An interrupt drops the calls that have
    not begun.
    """
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
    """The mesh of the devices, along one axis named halo."""
    return Mesh(np.array(devices), ("halo",))


def padded_size(number: int) -> int:
    """Return the size to pad an array to, so that few different sizes are compiled.

    Parameters
    ----------
    number : int
        Length of the array.

    Returns
    -------
    int
        The next power of two, at least 64.
    """
    return max(64, 1 << (number - 1).bit_length())
