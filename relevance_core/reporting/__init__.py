"""The HTML report of a run: what is shown (`sections`), how it is drawn (`plots`) and the page it stands on (`page`)."""

from relevance_core.reporting.page import render
from relevance_core.reporting.sections import build_page, titles

__all__ = ["build_page", "render", "titles"]
