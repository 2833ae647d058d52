"""Masses, evidences, maps, a stream, chains and a posterior surface on a number of CPU devices, in float64, into an .npz.

    python on_devices.py NUMBER OUT.npz [maps] [stream] [chains]

Run by test_devices.py, as a program of its own: the number of devices is fixed when JAX starts. Chunks are small, and
do not divide the number of objects, so that every device gets several, and padding.
"""

import os
import sys
from pathlib import Path

NUMBER = int(sys.argv[1])
os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
quick = os.environ.get("MASSMAP_TEST_XLA", "")
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={NUMBER} {quick}"
if quick:  # compiling is most of the work
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import small_chunks  # noqa: E402
from astropy.io import fits  # noqa: E402
from astropy.table import Table, vstack  # noqa: E402
from models.walk import Walk  # noqa: E402

import massmap_jax as mm  # noqa: E402
from massmap_jax import devices  # noqa: E402
from massmap_jax.likelihood.objects import Objects, Range  # noqa: E402
from massmap_jax.maps import mass_map as maps  # noqa: E402
from massmap_jax.maps.pixels import PixelGrid  # noqa: E402
from massmap_jax.models.runner import sample_halo_masses  # noqa: E402
from massmap_jax.posterior import kernel as engine  # noqa: E402
from massmap_jax.posterior.surface import SUMMARIES, Lattice, PosteriorSurface  # noqa: E402
from massmap_jax.run.options import JobOptions  # noqa: E402
from massmap_jax.scale.stream import StreamOptions, stream  # noqa: E402

HALOS, CHUNK, DRAWS = 91, 4, 8
FIXED = {"relation_from": "fixed_draws", "chunk_size": CHUNK}


def table_of_noise(prior, relation, catalogue) -> PosteriorSurface:
    """A surface with random values: what is tested is how it is read."""
    where = Range.of(catalogue.ln_lum_obs, catalogue.redshift, catalogue.sigma_ln_lum)
    lattice = Lattice.of(prior, relation, where, (0.5, 0.1, 0.25))
    values = np.random.default_rng(1).normal(size=(*lattice.shape, len(SUMMARIES))).astype(np.float32)
    return PosteriorSurface(
        lattice, values, prior, relation, mm.NoSelection(), {}, {}, (0.5,), "fixed_draws", names=SUMMARIES
    )


def streamed(folder: Path, catalogue) -> dict[str, np.ndarray]:
    """Columns and map images of the same objects read from a file a chunk at a time."""
    folder.mkdir()
    source, out = folder / "objects.fits", folder / "out"
    lum = np.exp(catalogue.ln_lum_obs)
    columns = {"lum": lum, "z": catalogue.redshift, "sigma": catalogue.sigma_ln_lum, "id": np.arange(HALOS)}
    Table(columns | {"ra": catalogue.ra, "dec": catalogue.dec}).write(source)
    job = JobOptions(relation="bigmali2017", num_relation_draws=DRAWS, relation_from="fixed_draws", num_map_draws=10)
    where = {"map_centre": (150.0, 2.0), "map_arcmin": 48.0}
    mapping = {"sigma_kind": "ln"}
    stream(
        source, out, StreamOptions(job, mapping, "analytic", chunk_rows=37, format="fits", precision="float64", **where)
    )
    parts = vstack([Table.read(path) for path in sorted((out / "masses").iterdir())], metadata_conflicts="silent")
    found = {f"stream.{name}": np.asarray(parts[name]) for name in parts.colnames}
    with fits.open(out / "mass_map.fits") as images:
        return found | {f"stream.map.{hdu.name}": hdu.data for hdu in images if hdu.data is not None}


def main() -> None:
    assert devices.count() == len(jax.local_devices()) == NUMBER
    small_chunks.compute(CHUNK)
    rng = np.random.default_rng(0)
    z = rng.uniform(0.1, 2.0, HALOS)
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(rng.normal(9.0, 0.5, HALOS)),
        redshift=z,
        sigma_ln_luminosity=rng.uniform(0.02, 0.4, HALOS),
        ra=150 + rng.uniform(-0.3, 0.3, HALOS),
        dec=2 + rng.uniform(-0.3, 0.3, HALOS),
    )
    prior = mm.MassPrior.default()
    relation = mm.MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(2), DRAWS)
    found = {}

    posterior = mm.mass_posterior(catalogue, prior, relation, **FIXED)
    for name in ("mean", "sd", "mode", "mean_mass", "quantiles", "log_evidence", "edge_mass", "information_bits"):
        found[f"posterior.{name}"] = getattr(posterior, name)
    surface = table_of_noise(prior, relation, catalogue)
    found["surface"] = surface(catalogue.ln_lum_obs, catalogue.redshift, catalogue.sigma_ln_lum)

    if "maps" in sys.argv:
        grid = PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=6.0)
        key = jax.random.key(3)
        image = mm.mass_map(key, catalogue, prior, relation, grid, num_draws=20, posterior=posterior, **FIXED)
        for name in ("mean", "sampled_mean", "sd", "q16", "q84", "total_draws"):
            found[f"map.{name}"] = getattr(image, name)
        objects = Objects.of(catalogue, np.arange(HALOS), prior)

        def kernel(i, low, high, **group):
            return maps._evidence_chunk(objects.take(i), low, high, prior, relation, mm.NoSelection(), **group)

        evidence = [values for _, values in engine.run(kernel, objects, prior, relation, CHUNK)]
        found["map.evidence"] = np.concatenate(evidence)
    if "stream" in sys.argv:
        found |= streamed(Path(sys.argv[2]).with_suffix(""), catalogue)
    if "chains" in sys.argv:
        options = {"num_warmup": 20, "num_samples": 400, "kernel": Walk, **FIXED}
        found["chains.mean"] = sample_halo_masses(jax.random.key(4), catalogue, prior, relation, **options).mean
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
