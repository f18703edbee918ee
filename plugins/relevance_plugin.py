"""Registers the plugin of `relevance_airflow` from Airflow's plugins folder, unless an installed package registers it.

Airflow loads this file and no other of the folder (`.airflowignore`).
"""

from relevance_airflow.shipping import has_entry_point

if not has_entry_point():
    from relevance_airflow.pages import RelevancePlugin  # noqa: F401 - Airflow looks for the class among this module's names
