"""Settings of the rows: their source, the window, the validation bounds and the train/dev split."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from relevance_core.config.types import Language, Part, Share, Task
from relevance_core.errors import SettingsError


class SourceSettings(Part):
    """Addresses of the labelled logs and of the unlabelled text beside them."""

    uri: str = Field(
        "", description="labelled logs: a folder with dt=YYYY-MM-DD partitions, or one file; a path, file:// or s3:// address"
    )
    sql: str = Field(
        "", description="instead of source.uri: a SELECT with :start and :end (the window) that returns the log's columns"
    )
    connection: SecretStr = Field(
        SecretStr(""),
        description="database URL of source.sql; the DAG fills it from the Airflow connection; never stored or printed",
    )
    clicks: str = Field(
        "auto", description="click logs (task, language, query, target) that *base* reads; auto: clicks/ beside the logs; '': none"
    )
    catalogue: str = Field(
        "auto", description="every target (task, target_id, target); auto: the file beside the logs, if there is one; '': none"
    )
    task: Task | None = Field(None, description="task of rows without one")


class WindowSettings(Part):
    """The time window of a run: fresh rows lie in [start, end), history in the days before start."""

    start: datetime | None = Field(
        None, description="start of the fresh window (UTC, inclusive); default: window.end minus window.days"
    )
    end: datetime | None = Field(
        None, description="end of the fresh window (UTC, exclusive); the DAG takes the end of its data interval"
    )
    days: int = Field(1, ge=1, description="days in the fresh window; read only without window.start")
    history_days: int = Field(90, ge=0, description="days before window.start whose rows are used too")

    @field_validator("start", "end")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        from datetime import UTC

        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @model_validator(mode="after")
    def _ordered(self) -> WindowSettings:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"window.start {self.start} is not before window.end {self.end}")
        return self

    def bounds(self) -> tuple[datetime, datetime]:
        """(start, end) of the fresh window. Raises SettingsError without an end: a window is never derived from the clock."""
        if self.end is None:
            raise SettingsError("the window has no end", where="window.end", do="give --window-end YYYY-MM-DD")
        return self.start or self.end - timedelta(days=self.days), self.end

    def history_start(self) -> datetime:
        """The start of the history: no earlier row is used."""
        return self.bounds()[0] - timedelta(days=self.history_days)


class ValidationSettings(Part):
    """Bounds of the *validate* stage. Row rules quarantine rows; batch rules stop the run."""

    languages: tuple[Language, ...] | None = Field(
        None, description="languages a row may have; default: every language in docs/languages.md"
    )
    max_query_chars: int = Field(500, ge=1, description="longest query, in characters; a longer one is quarantined")
    max_target_chars: int = Field(2000, ge=1, description="longest target, in characters; a longer one is quarantined")
    max_quarantine_share: Share = Field(0.1, description="largest share of fresh rows in quarantine; above it the run stops")
    min_rows: int = Field(1, ge=0, description="fewest fresh rows; below it the run stops")
    min_rows_of_mean: Share = Field(0.3, description="fewest fresh rows, as a share of the history's daily mean")
    max_rows_of_mean: float = Field(5.0, ge=1, description="most fresh rows, as a multiple of the history's daily mean")
    min_positive_rate: Share = Field(0.1, description="lowest share of positive labels, per task and language")
    max_positive_rate: Share = Field(0.95, description="highest share of positive labels, per task and language")
    rate_min_rows: int = Field(
        50, ge=1, description="fewest rows for a check of positive rates or language drift; below it the check is skipped"
    )
    max_language_drift: Share = Field(
        0.25, description="largest difference between a language's share of fresh rows and of history"
    )
    max_contradicting_share: Share = Field(0.2, description="largest share of fresh pairs with both labels")


class SplitSettings(Part):
    """The split of queries into train and dev, and of dev into calibration and judgement (contract 4)."""

    dev_share: float = Field(0.2, gt=0, lt=1, description="share of query groups held out as dev")
    calibration_share: Share = Field(
        0.4, description="share of dev groups that calibrate the threshold; the others judge the candidate"
    )
    qc_group: Literal["query", "prefix"] = Field(
        "query", description="unit of the QC split: the query, or the category prefix (as the competition's winners did)"
    )
    prefix_levels: int = Field(2, ge=1, description="levels of the category path in the prefix, where split.qc_group is prefix")
