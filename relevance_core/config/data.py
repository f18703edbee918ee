"""Settings of the rows: their source, the window, the rules they are held to, and which side a query is on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from relevance_core.config.types import Language, Part, Share, Task
from relevance_core.errors import SettingsError


class SourceSettings(Part):
    """Where labelled logs and the unlabelled text beside them come from."""

    uri: str = Field("", description="folder with dt=YYYY-MM-DD partitions, or one file; a path, file:// or s3:// address")
    sql: str = Field("", description="SELECT with :start and :end (the window) that returns the log's columns, instead of uri")
    connection: SecretStr = Field(
        SecretStr(""), description="database URL of `sql`; the DAG fills it from the Airflow connection; never stored or printed"
    )
    clicks: str = Field("auto", description="click logs (task, language, query, target); auto: clicks/ beside the logs; '' none")
    catalogue: str = Field("auto", description="all targets (task, target_id, target); auto: found beside the logs; '' none")
    task: Task | None = Field(None, description="the task of rows that carry none")


class WindowSettings(Part):
    """The fresh rows of a run are those in [start, end); history reaches further back."""

    start: datetime | None = Field(None, description="start of the fresh window (UTC); default: end minus `days`")
    end: datetime | None = Field(None, description="end of the window (UTC, exclusive): the watermark")
    days: int = Field(1, ge=1, description="length of the fresh window where no start is given")
    history_days: int = Field(90, ge=0, description="days before the window whose rows are used too")

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
        """(start, end) of the fresh window. Raises SettingsError without an end: a window is never derived from now."""
        if self.end is None:
            raise SettingsError("the window has no end", where="window.end", do="give --window-end YYYY-MM-DD")
        return self.start or self.end - timedelta(days=self.days), self.end

    def history_start(self) -> datetime:
        """The first moment whose rows are used."""
        return self.bounds()[0] - timedelta(days=self.history_days)


class ValidationSettings(Part):
    """Bounds of the *validate* stage. Row rules quarantine rows; batch rules stop the run."""

    languages: tuple[Language, ...] | None = Field(None, description="known languages; default: those of docs/languages.md")
    max_query_chars: int = Field(500, ge=1)
    max_target_chars: int = Field(2000, ge=1)
    max_quarantine_share: Share = Field(0.1, description="largest share of fresh rows that may fail a row rule")
    min_rows: int = Field(1, ge=0, description="fewest fresh rows of a run")
    min_rows_of_mean: Share = Field(0.3, description="fewest fresh rows, as a share of the trailing daily mean")
    max_rows_of_mean: float = Field(5.0, ge=1, description="most fresh rows, as a multiple of the trailing daily mean")
    min_positive_rate: Share = Field(0.1, description="per task and language with at least rate_min_rows fresh rows")
    max_positive_rate: Share = Field(0.95)
    rate_min_rows: int = Field(50, ge=1)
    max_language_drift: Share = Field(0.25, description="largest change of a language's share against the history")
    max_contradicting_share: Share = Field(0.2, description="share of fresh pairs that carry both labels")


class SplitSettings(Part):
    """Which side a query is on (contract 4)."""

    dev_share: Share = Field(0.2, description="share of query groups on the dev side")
    calibration_share: Share = Field(0.4, description="share of dev groups that only calibrate the threshold")
    qc_group: Literal["query", "prefix"] = Field("query", description="QC by query, or by category prefix (the winners' split)")
    prefix_levels: int = Field(2, ge=1, description="levels of the category path that form the prefix")
