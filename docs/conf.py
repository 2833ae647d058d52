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
# The README links to files of the repository that are not pages of these documents.
suppress_warnings = ["myst.xref_missing"]


def join_descriptions(app, what, name, obj, options, lines):
    """Descriptions that go on in the next line: numpydoc takes what stands after " : " in one line for the type."""
    in_list, out = False, []
    for i, line in enumerate(lines):
        if i + 1 < len(lines) and set(lines[i + 1].strip()) == {"-"} and line.strip():
            in_list = line.strip() in ("Parameters", "Attributes", "Raises")
        own = line.strip() and not line.startswith(" ")
        if in_list and own and " : " in line and set(line.strip()) != {"-"}:
            names, text = line.split(" : ", 1)
            out += [names, f"    {text}"]
        else:
            out.append(line)
    lines[:] = out


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", join_descriptions, priority=100)
