"""Where the checkout and what lies beside it are."""

from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = PROJECT / "docs"
REAL_TERMS: Final = PROJECT.parent / "shared" / "data" / "taxonomy_logs"
"""Real multilingual terms with labels; not part of the project."""
