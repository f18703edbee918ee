"""The HTML report of a run: its content (`sections`), its plots (`plots`) and its page (`page`)."""

from relevance_core.reporting.page import render
from relevance_core.reporting.sections import build_page, titles

__all__ = ["build_page", "render", "titles"]
