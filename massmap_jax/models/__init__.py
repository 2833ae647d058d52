"""NumPyro models of the same posterior as `mass_posterior`, and a runner that samples every halo of a catalogue.

    halo_mass      ln M of each halo, from prior x likelihood; relation fixed, marginalised, or latent
    relation       (alpha, S) with the masses marginalised
    field          (alpha, S) and every mass together
    coordinates    the change of variables in which a mass is close to N(0, 1)
    runner         NUTS, or any NumPyro kernel, on each halo by itself, thousands at once
    predictive     draws of ln L_obs for given masses

A model is a NumPyro model without arguments, made from data by a function: `NUTS(field_model(catalogue, ...))`.
"""
