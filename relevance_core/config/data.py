"""Settings of the rows: their source, the window, the validation bounds and the train/dev split."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from relevance_core.config.types import Language, Part, Share, Task
from relevance_core.errors import SettingsError


class CsvSettings(Part):
    """The dialect of delimited files; auto finds what the file itself settles and stops at what it leaves open."""

    delimiter: str = Field(
        "auto", description="one character between the values of a .csv or .tsv file, or tab; auto: found by the header's names"
    )
    quote: Literal["double", "single", "none"] = Field(
        "double",
        description="the quote around values of a .csv or .tsv file; none: quotes are text",
    )
    escape: Literal["auto", "double", "backslash"] = Field(
        "auto",
        description='a quote inside a quoted value: double ("", RFC 4180) or backslash (\\", Spark); auto: what fits',
    )

    @field_validator("delimiter")
    @classmethod
    def _a_character(cls, value: str) -> str:
        if value in {"auto", "tab"} or (len(value) == 1 and not value.isalnum() and not value.isspace() and value not in "_\"'"):
            return value
        raise ValueError(f"{value!r} is no delimiter: auto, tab, or one character that is no letter, digit, quote or white space")


class SourceSettings(Part):
    """Addresses of the labelled logs and of the unlabelled text beside them, and how they are read."""

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
    columns: dict[str, str] = Field(
        {}, description='names of the source\'s own columns → names that docs/data.md lists: {"product_title": "item_title"}'
    )
    labels: dict[str, Annotated[int, Field(ge=0, le=1)]] = Field(
        {},
        description='the source\'s labels → 0 or 1: {"E": 1, "S": 1, "C": 0, "I": 0}; their case counts; any other can\'t be read',
    )
    label_bound: float | None = Field(
        None, description="graded labels from this number on are 1, those below it 0; default: labels are not graded"
    )
    languages: dict[str, str] = Field(
        {}, description='the source\'s languages, locales or markets → language codes: {"us": "en", "jp": "ja"}'
    )
    time_zone: str = Field("UTC", description="IANA name of the zone of times without a zone: Europe/Berlin; days are days in UTC")
    encoding: str = Field(
        "auto", description="encoding of text files, by Python's name: cp1252; auto: UTF-8 or UTF-16, stops at any other"
    )
    csv: CsvSettings = Field(CsvSettings(), description="the dialect of .csv and .tsv files")
    bad_rows: Literal["stop", "quarantine"] = Field(
        "stop", description="a line that can't be read: stop ends the run and names it; quarantine reports it and reads on"
    )

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        import zoneinfo

        try:
            zoneinfo.ZoneInfo(value)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"there is no time zone {value!r}") from error
        return value

    @model_validator(mode="after")
    def _one_rule(self) -> SourceSettings:
        if self.labels and self.label_bound is not None:
            raise ValueError("source.labels and source.label_bound both say what a label means: set one of them")
        return self


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

    @field_validator("start", "end", mode="before")
    @classmethod
    def _no_number(cls, value: object) -> object:
        if isinstance(value, (int, float)) or (isinstance(value, str) and value.strip().lstrip("+-").replace(".", "").isdigit()):
            raise ValueError("a number is no moment: give YYYY-MM-DD, or a time in ISO 8601")
        return value

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
