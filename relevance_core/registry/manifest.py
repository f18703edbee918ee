"""The registry's documents: a version's manifest, and an entry of the alias log."""

import hashlib
import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator
from typing_extensions import override

from relevance_core.errors import RegistryError
from relevance_core.registry.names import VERSION_HEX, name_of

FORMAT: Final = 2
"""The manifest's format number, raised only when readers of the previous format could not read the document.

Format 1, which has no such field, has neither `requires` nor `dtype`. Features that a reader must know in order to score correctly
are listed in `requires` instead."""
KNOWN: Final = frozenset({"dtype", "text_rule"})
"""Features that this release knows, of those that a manifest may list in `requires`."""
SCHEMA_VERSION: Final = 1
"""The format number of a release."""

TaskName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{0,15}$")]
VersionId = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{VERSION_HEX}}}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}\.(safetensors|json)$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


def canonical(value: object) -> bytes:
    """Returns JSON as bytes: keys sorted, no spaces, UTF-8; equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


class _Record(BaseModel):
    """A stored document or a part of it. Fields that this release does not know are kept, so that digests still cover them."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    def to_json(self) -> dict[str, Any]:
        """Returns the record as plain JSON values."""
        return self.model_dump(mode="json")

    def to_bytes(self) -> bytes:
        """Returns the record as stored: indented JSON with sorted keys."""
        return (json.dumps(self.to_json(), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Parses a stored record. Raises `RegistryError` that names `where` and every wrong field."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            problems = ", ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors())
            raise RegistryError(
                f"a stored {cls.__name__.lower()} can't be read: {problems}",
                where=where,
                expected=f"a {cls.__name__.lower()} as this release or an earlier one writes it",
                do="if a newer release of relevance-loop wrote it, upgrade this one; otherwise restore the object",
            ) from error


class FileInfo(_Record):
    """Size and digest of a version's file."""

    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class BaseInfo(_Record):
    """The base model under an adapter: identified by `id` and `revision` or `digest`; `uri` is its address at training time.

    `digest` covers the files that decide a score (`models.folders.digest_of_model`); it is compared when the base is opened.
    """

    id: Annotated[str, Field(min_length=1)]
    revision: str = ""
    digest: str = ""
    uri: str = ""

    @property
    def label(self) -> str:
        """`id@revision`, or `id@digest` for a base without a revision; the id alone when it already ends with that."""
        which = self.revision or self.digest
        return f"{self.id}@{which}" if which and not self.id.endswith(f"@{which}") else self.id


class PromptInfo(_Record):
    """The prompt's template and version; the translator and memory, when the prompt contains the query's translation.

    `text_rule` is the rule by which its texts are normalised (`pairs.TEXT_RULE`); 1 in manifests from before it was recorded.
    """

    name: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    translation: bool = False
    translator: str = ""
    memory: str = ""
    text_rule: Annotated[int, Field(ge=1)] = 1


class LoraInfo(_Record):
    """Rank, scaling and adapted layers, as read from the adapter's own configuration."""

    r: Annotated[int, Field(ge=1)]
    alpha: float
    targets: tuple[str, ...]


class AdapterMeta(_Record):
    """A publisher's statements about an adapter.

    Attributes:
        dtype: dtype of the base while the adapter was trained; None where the publisher did not state it.
        threshold: the lowest p(yes) that counts as yes.
        data: name of a table (train, dev …) → its digest.
        gate: the gate's whole report.
        created: end of the data interval (ISO 8601), never the time of publishing.
    """

    model_config = ConfigDict(extra="forbid")

    base: BaseInfo
    dtype: Literal["float32", "bfloat16"] | None = None
    prompt: PromptInfo
    threshold: Annotated[float, Field(ge=0, le=1)]
    languages: tuple[Language, ...]
    onboarded: tuple[Language, ...] = ()
    data: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    gate: dict[str, JsonValue] = Field(default_factory=dict)
    run_id: str = ""
    created: str

    @field_validator("languages", "onboarded")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))


class Manifest(AdapterMeta):
    """The complete description of a published version; written last, so a version exists once its manifest does.

    `requires` lists the features without which the version can't be scored correctly; readers ignore other fields that they don't
    know. A field that a stored manifest lacks has its default here, and is not added to the stored document.
    """

    model_config = ConfigDict(extra="allow")

    format: Annotated[int, Field(ge=1, le=FORMAT)] = 1
    requires: tuple[str, ...] = ()
    task: TaskName
    version: VersionId
    files: dict[FileName, FileInfo]
    lora: LoraInfo
    digest: Sha256

    @property
    def name(self) -> str:
        """The immutable name under which a server loads the version, for example `relevance-qc@0123456789abcdef`."""
        return name_of(self.task, self.version)

    @property
    def base_digest(self) -> str:
        """The digest of the base's files; "" in format 1, where the field had no such meaning."""
        return self.base.digest if self.format > 1 else ""

    @classmethod
    def build(cls, task: str, files: dict[str, FileInfo], lora: LoraInfo, meta: AdapterMeta) -> Self:
        """Builds the manifest of these files; version and digest are computed.

        Args:
            task: QC or QI.
            files: file name → size and digest.
            lora: the adapter's LoRA settings.
            meta: the publisher's statements.
        """
        fields = meta.to_json() | {"format": FORMAT, "task": task, "lora": lora.to_json()}
        fields["requires"] = (["dtype"] if meta.dtype else []) + (["text_rule"] if meta.prompt.text_rule > 1 else [])
        fields["files"] = {name: files[name].to_json() for name in sorted(files)}
        fields["version"] = version_of(fields)
        return cls.model_validate(fields | {"digest": _digest_of(fields)})

    @override
    def to_json(self) -> dict[str, Any]:
        """Returns the manifest as stored: with the fields that this release does not know, without those that it lacks."""
        return self.model_dump(mode="json", exclude_unset=True)

    def require_scorable(self) -> None:
        """Raises `RegistryError` when the manifest requires a feature that this release does not know."""
        unknown = sorted(set(self.requires) - KNOWN)
        if unknown:
            raise RegistryError(
                f"{self.name} can't be scored rightly here: it requires {', '.join(unknown)}",
                where="requires of its manifest",
                expected=f"nothing but {', '.join(sorted(KNOWN))}, which this release knows",
                do="upgrade relevance-loop on this machine, or score with an earlier version",
            )

    def problems(self) -> list[str]:
        """Returns the contradictions within the manifest; an edited field shows here."""
        version = version_of(self.model_dump(mode="json"))
        found = []
        if version != self.version:
            found.append(f"the manifest's fields give the version {version}, not {self.version}")
        if _digest_of(self.to_json()) != self.digest:
            found.append("the manifest was changed after it was written: its digest differs")
        return found


def version_of(fields: dict[str, Any]) -> str:
    """Returns 16 hex digits of the SHA-256 over all that decides a score: files, base, dtype, prompt, threshold, languages, data.

    Time, run, metrics, verdict and the base's address are left out, so that the same inputs give the same version. Three
    more are left out so that older ids stay valid: dtype float32 and text rule 1, which every id meant before they were recorded,
    and the digest of a base that has a revision, which format 2 added.
    """
    identity = {name: fields[name] for name in ("task", "prompt", "threshold", "languages", "onboarded", "data", "lora")}
    if identity["prompt"].get("text_rule") == 1:
        identity["prompt"] = {name: value for name, value in identity["prompt"].items() if name != "text_rule"}
    identity["base"] = {name: fields["base"][name] for name in ("id", "revision", "digest")}
    if fields["format"] > 1 and fields["base"]["revision"]:
        identity["base"]["digest"] = ""
    if fields["dtype"] not in (None, "float32"):
        identity["dtype"] = fields["dtype"]
    identity["files"] = {name: info["sha256"] for name, info in fields["files"].items()}
    return hashlib.sha256(canonical(identity)).hexdigest()[:VERSION_HEX]


def _digest_of(fields: dict[str, Any]) -> str:
    return hashlib.sha256(canonical({name: value for name, value in fields.items() if name != "digest"})).hexdigest()


class Release(_Record):
    """One entry of the alias log: the version of each task that serves from then on, its base, and who decided so.

    Attributes:
        bases: task → label of the base (`BaseInfo.label`).
        previous: number of the entry before; None for the first.
        restores: task → number of the older release that a rollback brought back.
        at: wall-clock time of the decision (UTC, ISO 8601).
    """

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    number: Annotated[int, Field(ge=1)]
    previous: Annotated[int | None, Field(ge=1)]
    restores: dict[TaskName, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    versions: dict[TaskName, VersionId]
    bases: dict[TaskName, str]
    who: Annotated[str, Field(min_length=1)]
    why: Annotated[str, Field(min_length=1)]
    run_id: str = ""
    at: str
