"""Sphinx settings; build.py selects the pages."""

from facedistill import __version__

project = "facedistill"
copyright = "the authors of facedistill"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
]  # MathJax is copied into the site
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_digits = False  # $5 and 6$ are no formula
root_doc = "docs/index"
myst_heading_anchors = 4  # the same heading anchors as on GitHub, so links work in both
highlight_language = "text"
suppress_warnings = ["myst.header"]  # rendered tables begin with a heading of the second level
html_theme = "furo"
html_title = f"facedistill {version}"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
