"""Several observables of one object at given masses, with entries missing or limited: plain linear algebra in NumPy."""

import numpy as np
from scipy.special import log_ndtr

MISSING, MEASURED, UPPER, LOWER = range(4)


def ln_density(t, y, kind, at_pivot, slope, covariance, pivot):
    """ln p(what was measured, and the limits | ln M = t), (t,).

    y, kind, at_pivot (the mean at the pivot), slope: one entry for each observable; covariance: of scatters and errors.
    """
    y, kind = np.asarray(y, float), np.asarray(kind)
    mean = np.asarray(at_pivot) + np.outer(np.asarray(t) - pivot, slope)
    there = np.flatnonzero(kind == MEASURED)
    own = covariance[np.ix_(there, there)]
    off = y[there] - mean[:, there]
    inverse = np.linalg.inv(own)
    total = -0.5 * (np.einsum("ti,ij,tj->t", off, inverse, off) + np.linalg.slogdet(2 * np.pi * own)[1])
    for j in np.flatnonzero(kind >= UPPER):
        along = inverse @ covariance[there, j]
        x = (y[j] - mean[:, j] - off @ along) / np.sqrt(covariance[j, j] - along @ covariance[there, j])
        total = total + log_ndtr(x if kind[j] == UPPER else -x)
    return total


def moments(t, ln_prior, ln_like):
    """Mean and standard deviation of ln M, and ln of the evidence, on an even grid."""
    ln_post = ln_prior + ln_like
    weight = np.exp(ln_post - ln_post.max())
    total = np.trapezoid(weight, t)
    mean = np.trapezoid(weight * t, t) / total
    return mean, np.sqrt(np.trapezoid(weight * (t - mean) ** 2, t) / total), ln_post.max() + np.log(total)
