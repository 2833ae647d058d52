"""Run by test_shapes.py: the main functions of the package on a small field, every annotated array checked.

First an array has a wrong shape: the refusal goes to stderr.
"""

import traceback

from jaxtyping import install_import_hook

with install_import_hook("massmap_jax", "shape_checker.check_shapes"):
    import jax
    import numpy as np

    import massmap_jax as mm
    from massmap_jax.keys import base_normals
    from massmap_jax.likelihood.selection import FluxLimit
    from massmap_jax.relation.direct import log_likelihood
    from massmap_jax.relation.marginal import RelationLikelihood

rng, halos = np.random.default_rng(0), 12
catalogue = mm.HaloCatalogue.from_arrays(
    luminosity=np.exp(rng.normal(9.5, 0.3, halos)), redshift=rng.uniform(0.2, 1.4, halos), sigma_ln_luminosity=0.05,
    ra=rng.uniform(150, 150.2, halos), dec=rng.uniform(2, 2.2, halos),
)  # fmt: skip
prior = mm.MassPrior.default()
key = jax.random.key(1)
relation = mm.MassLuminosityRelation.preset_draws("bigmali2017", key, 3)
try:
    base_normals(key, np.zeros(3, dtype=np.uint32), (4,))
except TypeError:
    traceback.print_exc()
posterior = mm.mass_posterior(catalogue, prior, relation, relation_from="other_data", selection=FluxLimit(10.0))
posterior.sample(key, 2)
posterior.cdf(posterior.mean)
posterior.quantile((0.3,))
grid = mm.PixelGrid.fit(catalogue.ra, catalogue.dec, pixel_arcmin=4.0)
mm.mass_map(key, catalogue, prior, relation, grid, relation_from="fixed_draws", num_draws=3)
with jax.enable_x64(True):
    RelationLikelihood.build(catalogue, prior, FluxLimit(10.0))(relation.draw(0))
log_likelihood(relation.draw(0), catalogue, prior, FluxLimit(10.0))
print("all shapes are as annotated")
