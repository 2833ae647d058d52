"""Linear noise and redshift errors together on the command line: `run` and `stream`."""

import numpy as np
import warm_start
from astropy.table import Table

SAID = ["--lum", "lx", "--sigma", "e_lx", "--sigma-kind", "linear", "--noise", "linear", "--z", "z", "--z-err", "z_err",
        "--z-contains", "likelihood", "--lum-moves", "yes", "--relation", "law.csv"]  # fmt: skip


def test_run_and_stream(tmp_path):
    """A flux below zero has a mass and a redshift; a stream writes the same masses."""
    rng = np.random.default_rng(0)
    lum = rng.uniform(0.4, 0.7, 12)
    lum[3] = -0.05
    rows = {
        "id": np.arange(12), "ra": np.linspace(150.0, 150.2, 12), "dec": np.linspace(2.0, 2.2, 12),
        "z": np.linspace(0.25, 0.5, 12), "z_err": np.full(12, 0.03), "lx": lum, "e_lx": np.full(12, 0.1),
    }  # fmt: skip
    Table(rows).write(tmp_path / "clusters.csv")
    (tmp_path / "law.csv").write_text("alpha1,alpha2,alpha3,alpha4,scatter\n0.0,1.7,3e14,0.0,0.3\n")
    more = ["--no-figures", "--no-report", "--no-map"]
    done = warm_start.run(["run", "clusters.csv", "--out", "out", *SAID, *more], tmp_path)
    assert done.returncode == 0, done.stderr
    table = Table.read(tmp_path / "out" / "masses.parquet")
    assert np.isfinite(table["log10_mass_mean"]).all() and (np.asarray(table["z_sd"]) > 0.02).all()
    assert np.argmin(table["log10_mass_mean"]) == 3
    done = warm_start.run(["stream", "clusters.csv", "--out", "parts", *SAID, "--method", "analytic"], tmp_path)
    assert done.returncode == 0, done.stderr
    streamed = Table.read(next((tmp_path / "parts").rglob("*.parquet")))
    np.testing.assert_allclose(streamed["log10_mass_mean"], table["log10_mass_mean"], rtol=1e-6)
