"""The mass prior P(ln M | z), and the quadrature panels that integrate it."""
