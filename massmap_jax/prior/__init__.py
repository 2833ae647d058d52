"""The mass prior p(ln M | z), and the quadrature panels that integrate it."""
