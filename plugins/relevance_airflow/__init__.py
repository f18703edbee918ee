"""The Airflow half of the loop: operators, params, notices, metrics, and the place of the pages in Airflow's UI.

It is installed with `relevance_core`, and it also runs from Airflow's plugins folder alone. Where both are there, their files must
be identical: importing this package raises SettingsError for two versions, since Airflow would run a mixture of them.
"""

import sys
from pathlib import Path

from relevance_airflow.shipping import refuse_other_versions

refuse_other_versions(Path(__file__).parent, sys.path)
