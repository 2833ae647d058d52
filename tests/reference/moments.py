"""Mean, sd, CDF and quantiles of a posterior piled up against the end of its table, where closed forms cancel."""

import numpy as np

DEPTH = 45.0  # e-folds below the peak that are kept
NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)


class SharpMoments:
    """Summaries of `part` (anything with `ln_mass` nodes, `mode` and `log_pdf`) by Gauss-Legendre on fine pieces.

    The pieces are cut at the nodes and are 1/200 of the stretch that holds all but exp(-DEPTH) of the peak.
    """

    def __init__(self, part, pieces=200):
        peak = part.log_pdf(part.mode)
        low, high = (self._reach(part, peak, end) for end in (part.ln_mass[0], part.ln_mass[-1]))
        inside = part.ln_mass[(part.ln_mass > low) & (part.ln_mass < high)]
        edges = np.unique(np.concatenate([np.linspace(low, high, pieces + 1), inside]))
        half = np.diff(edges)[:, None] / 2
        offset = (edges[:-1, None] - low) + half * (NODES + 1)
        share = half * WEIGHTS * np.exp(part.log_pdf(low + offset) - peak)
        total = share.sum()
        mean = (share * offset).sum() / total
        self.mean, self.sd = low + mean, np.sqrt((share * (offset - mean) ** 2).sum() / total)
        self.edges, self._below = edges, np.concatenate([[0.0], np.cumsum(share.sum(axis=1))]) / total
        self.ln_total = np.log(total) + peak  # 0 where log_pdf is normalised
        self._part, self._total = part, total * np.exp(peak)

    @staticmethod
    def _reach(part, peak, end):
        """The place between the mode and an end of the table where the density is exp(-DEPTH) of its peak."""
        near, far = part.mode, end
        if part.log_pdf(far) > peak - DEPTH:
            return far
        for _ in range(40):
            middle = 0.5 * (near + far)
            near, far = (middle, far) if part.log_pdf(middle) > peak - DEPTH else (near, middle)
        return far

    def cdf(self, ln_mass):
        """P(ln M <= ln_mass) at one value."""
        if ln_mass <= self.edges[0]:
            return 0.0
        if ln_mass >= self.edges[-1]:
            return 1.0
        piece = int(np.searchsorted(self.edges, ln_mass, side="right") - 1)
        half = (ln_mass - self.edges[piece]) / 2
        inside = half * (WEIGHTS * np.exp(self._part.log_pdf(self.edges[piece] + half * (NODES + 1)))).sum()
        return self._below[piece] + inside / self._total

    def quantile(self, level):
        """ln M with `cdf` = level, by bisection."""
        piece = int(np.clip(np.searchsorted(self._below, level) - 1, 0, self.edges.size - 2))
        low, high = self.edges[piece], self.edges[piece + 1]
        for _ in range(30):  # a piece is 0.1 wide at most
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.cdf(middle) < level else (low, middle)
        return 0.5 * (low + high)
