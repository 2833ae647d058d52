"""Sphinx: the guides of this folder, and the reference made of the docstrings (`make docs`)."""

import massmap_jax

project = "massmap_jax"
author = "massmap_jax developers"
version = release = massmap_jax.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "myst_parser"]
html_theme = "furo"
html_title = f"massmap_jax {version}"
exclude_patterns = ["_build"]
default_role = "code"
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Shapes as jaxtyping writes them, not as what they are evaluated to.
autodoc_preserve_defaults = True
autodoc_type_aliases = {}
myst_heading_anchors = 3
# The README's links to files of the repository are not pages of these documents.
suppress_warnings = ["myst.xref_missing"]
