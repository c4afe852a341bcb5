"""How the documentation site is made of the Markdown pages, the docstrings and the commands (`make docs`)."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

project = "Undertow"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "reference_pages",
    "checked_figures",
    "checked_commands",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
nb_execution_mode = "off"  # `python scripts/run_notebooks.py` runs them
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "colon_fence"]
nitpicky = False  # types in signatures name modules that have no page
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options: dict[str, Any] = {"members": True}
napoleon_use_ivar = True  # attributes stand in the docstring of their class, once
default_role = "code"  # docstrings write names between single backticks
suppress_warnings = ["ref.python"]  # an argument may be called what an attribute of two classes is called
html_theme = "furo"
html_title = "Undertow"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
templates_path: list[str] = []
