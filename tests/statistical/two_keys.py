"""Judge a statistical check by its p value; fail only if a second, independent key fails as well.

A right model gives a p value below `LEVEL` in one run of a thousand. With a second key the test fails in one run of a
million, and the mistakes that the tests are for still fail both. The second key costs its time in one run of a
thousand only. `FALSE_ALARMS.md` lists the probabilities, `false_alarms.py` measures them.
"""

import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from scipy.stats import chi2, kstest, norm

LEVEL = 1e-3


def check_with_two_keys(p_value, level=LEVEL, keys=(0, 1)):
    """Fail if the p values of both keys are below the level.

    Parameters
    ----------
    p_value : callable
        Of a key, an integer: the p value of the check. It must be uniform, or larger, if the model is right.
    level : float
        A p value below it is an alarm.
    keys : (int, int)
        The second one is used only after an alarm of the first.
    """
    alarms = []
    for key in keys:
        p = float(p_value(key))
        if p >= level:
            return
        alarms.append(f"key {key}: p = {p:.3g}")
    raise AssertionError(f"p below {level:g} with two independent keys ({', '.join(alarms)})")


def smallest(p):
    """Bonferroni: the smallest of several p values as one p value."""
    p = np.asarray(p, dtype=float)
    return float(min(1.0, p.size * p.min()))


def two_sided(z):
    """P value of normal scores, both tails."""
    return 2 * norm.sf(np.abs(z))


def diagnostics(draws):
    """(R-hat, bulk ESS, tail ESS) of draws (chain, sample, ...), in double precision."""
    draws = np.asarray(draws, dtype=np.float64)
    low, high = np.quantile(draws, [0.05, 0.95], axis=(0, 1))
    tails = [effective_sample_size((draws <= end).astype(float)) for end in (low, high)]
    return split_gelman_rubin(draws), effective_sample_size(draws), np.minimum(*tails)


def p_of_chains(pit):
    """P values that chains have the distribution they should, by name; correlated draws are accounted for.

    Parameters
    ----------
    pit : (chain, sample, halo)
        The right distribution function of each halo at its draws: uniform if the chains are right.

    Notes
    -----
    Two moments of the PIT are tested: the mean, and the spread, to which the scatter of a relation goes. Their errors
    are those of the effective number of draws, which is estimated for each moment by itself: chains that jump from one
    side to the other know the mean well and the spread badly. Each moment is tested twice. The mean over halos finds
    what is wrong with all of them in the same way; its effective number of draws is that of the mean's own series, so
    halos may move together. The sum of squared scores finds what differs from halo to halo. Last come KS of all halos
    together and the worst KS of a halo, of draws so far apart that they are independent: four times the
    autocorrelation time, the longest of several functions.
    """
    pit = np.asarray(pit, dtype=np.float64)
    number, halos = pit.shape[0] * pit.shape[1], pit.shape[2]
    found, least = {}, np.full(halos, np.inf)
    for name, moment, variance in (("mean", pit - 0.5, 1 / 12), ("spread", (pit - 0.5) ** 2 - 1 / 12, 1 / 180)):
        ess = effective_sample_size(moment)
        least = np.minimum(least, ess)
        score = moment.mean(axis=(0, 1)) / np.sqrt(variance / ess)
        found[f"{name} of each halo"] = chi2.sf((score**2).sum(), halos)
        together = moment.mean(axis=2)
        error = np.sqrt(variance / halos / effective_sample_size(together))
        found[f"{name} over halos"] = two_sided(together.mean() / error)
    for end in (0.1, 0.9):
        least = np.minimum(least, effective_sample_size((pit <= end).astype(float)))
    steps = np.maximum(1, np.ceil(4 * number / least)).astype(int)
    apart = [pit[:, ::step, k].ravel() for k, step in enumerate(steps)]
    found["KS of all"] = kstest(np.concatenate(apart), "uniform").pvalue
    found["KS of the worst halo"] = smallest([kstest(one, "uniform").pvalue for one in apart])
    return found
