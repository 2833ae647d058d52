"""The files that a run reads, by their checksums, so that a run that repeats it knows whether they are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from massmap_jax.catalogue.relation_files import chain_files
from massmap_jax.catalogue.tables import split_extension
from massmap_jax.errors import MassmapError

FILES = (
    *("catalogue", "relation", "prior", "cosmology_draws", "calib_file", "mass_likelihood", "shear"),
    *("completeness", "z_grid", "z_code_prior"),
)
# Those that may be the root of chains.
_CHAINS = ("relation", "cosmology_draws")
"""The options that may name a file."""


def inputs_of(config: Mapping) -> dict[str, dict[str, str]]:
    """Identify the files among the options of a run.

    Parameters
    ----------
    config : Mapping
        The options by name.

    Returns
    -------
    dict of str to dict
        "path" and "sha256" of each option of `FILES` that names a file, or the root of chains.
    """
    named = {name: split_extension(str(config[name]))[0] for name in FILES if config.get(name) is not None}
    files = {name: chain_files(path) if name in _CHAINS else [Path(path)] for name, path in named.items()}
    files = {name: [file for file in found if file.is_file()] for name, found in files.items()}
    return {name: {"path": named[name], "sha256": _sha256(found)} for name, found in files.items() if found}


def check_unchanged(recorded: Mapping[str, Mapping], config: Mapping, anew: Collection[str], where: str) -> None:
    """Refuse files that have changed since the run that is repeated, unless they were given anew.

    Parameters
    ----------
    recorded : Mapping
        What `inputs_of` gave for that run.
    config : Mapping
        The options by name, as they are now.
    anew : collection of str
        Options that the command line gives.
    where : str
        The record, for the message.

    Raises
    ------
    MassmapError
        With the file and both checksums.
    """
    hashed = [name for name in recorded if name not in anew and "sha256" in recorded[name]]
    for name, found in inputs_of({n: config.get(n) for n in hashed}).items():
        before, now = recorded[name]["sha256"], found["sha256"]
        if before != now:
            raise MassmapError(
                f"{found['path']} has changed since {where} was written (its sha256 was {before[:12]}..., and is "
                f"{now[:12]}... now): put the old file back, or give the {name} on the command line to use the new one"
            )


def _sha256(files: list[Path]) -> str:
    """Hash of a file; of several, the hash of their hashes."""
    hashes = []
    for path in files:
        with open(path, "rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
