"""Configuration of Sphinx: the guides of this folder, and the reference made from the docstrings (`make docs`)."""

import re

import massmap_jax

project = "massmap_jax"
author = "massmap_jax developers"
project_copyright = author
version = release = massmap_jax.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "myst_parser"]
html_theme = "furo"
html_title = f"massmap_jax {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
exclude_patterns = ["_build"]
default_role = "code"
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Shapes appear as they are written with jaxtyping, not as the objects they evaluate to.
autodoc_preserve_defaults = True
autodoc_type_aliases = {}
myst_heading_anchors = 3
# Documents of the repository that a page here includes: guides link to the document, which GitHub shows.
INCLUDED_BY = {"../CONTRIBUTING.md": "CONTRIBUTING.md", "../benchmarks/README.md": "benchmarks.md"}


def escape_axes(app, what, name, obj, options, lines):
    """Escape the star of a shape such as Float[Array, "*draw"], which reStructuredText reads as emphasis."""
    lines[:] = [line if ">>>" in line else re.sub(r'(?<!`)"\*(?=\w)', r'"\\*', line) for line in lines]


def link_to_pages(app, name, source):
    """Turn links to documents of the repository into links to the pages that include them."""
    for document, page in INCLUDED_BY.items():
        source[0] = source[0].replace(f"]({document})", f"]({page})")


def setup(app):
    """Register the functions above with Sphinx."""
    app.connect("source-read", link_to_pages)
    # After numpydoc, which has the usual priority of 500.
    app.connect("autodoc-process-docstring", escape_axes, priority=900)
