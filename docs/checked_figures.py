"""A picture on a page whose numbers no command prints, or that older results drew, is a fault of the site."""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.util import logging  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[1]
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)")


def pictures(folder: Path) -> dict[str, list[str]]:
    """Return the paths of the pictures of each page, as the page writes them."""
    return {page.name: PICTURE.findall(page.read_text(encoding="utf-8")) for page in sorted(folder.glob("*.md"))}


def check_figures(sphinx: Any) -> None:
    """Warn of each fault, which fails the build."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from site_figures import faults  # pyright: ignore[reportMissingImports]

    for fault in faults(pictures(Path(sphinx.srcdir))):
        logging.getLogger(__name__).warning(fault)


def setup(sphinx: Any) -> dict[str, Any]:
    """Hook the check into Sphinx."""
    sphinx.connect("builder-inited", check_figures)
    return {"parallel_read_safe": True}
