"""The first page over small stores: figures worked out by hand, who waits, hostile text, damaged records, and what it reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from relevance_core.registry import Registry
from relevance_core.runs import approval
from relevance_core.runs.approval import Approval
from relevance_core.store import Store, open_store
from relevance_core.ui import history, overview
from tests.support.page_cases import overview_page, text_of
from tests.support.registry_cases import make_adapter, make_bucket, make_meta, moto_server, use_server

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'

ROWS: Mapping[str, Any] = {"in": 0, "made": 0, "kept": 0, "quarantined": 0, "dropped": 0, "reasons": {}}


def figures(f1: float, **languages: tuple[float, int, int]) -> dict[str, Any]:
    """The figures of a version. languages: F1, judged rows, relevant ones."""
    per = {name: {"f1": value, "auc": 0.9, "rows": rows, "positives": yes} for name, (value, rows, yes) in languages.items()}
    rows, positives = (sum(of[key] for of in per.values()) for key in ("rows", "positives"))
    whole = {"f1": f1, "auc": 0.9, "rows": rows, "positives": positives, "threshold": 0.4, "always_yes_f1": 0.7}
    return whole | {"per_language": per, "champion": None}


def begin(store: Store, run_id: str, dag_run: str = "", onboarded: list[str] | None = None) -> None:
    settings = {"tasks": ["QC", "QI"], "onboard": [], "window": {"end": run_id[:10]}, "gate": {"min_evidence_rows": 30}}
    record = {"settings": settings, "champion": {}, "onboarded": onboarded or [], "dag_run": dag_run}
    store.write(f"runs/{run_id}/run.json", json.dumps(record).encode())


def finish(store: Store, run_id: str, **stages: Mapping[str, Any]) -> None:
    """Writes stage records: `gate_qc={"verdict": "hold"}`. "fate" and "failure" become the rows and the failure of the record."""
    for name, given in stages.items():
        values = dict(given)
        rows = {**ROWS, **values.pop("fate", {})}
        record = {"rows": rows, "failure": values.pop("failure", None), "figures": values}
        store.write(f"runs/{run_id}/{name.replace('_', '-')}.json", json.dumps(record).encode())


def publish(store: Store, folder: Path, task: str, created: str, numbers: dict[str, Any], **meta: object) -> str:
    """A published version."""
    adapter = folder / "adapter"
    if not adapter.exists():
        make_adapter(adapter)
    made = make_meta(metrics=numbers, created=created, data={"train": created}, **meta)
    return Registry(store).publish(task, adapter, made).version


@pytest.fixture
def shop(store: Store, tmp_path: Path) -> Store:
    """Two nights. The first published QC; in the second a better QC went out, and QI, with German, waits for an approval."""
    first = publish(store, tmp_path, "QC", "2026-10-01", figures(0.80, en=(0.82, 60, 40), es=(0.78, 40, 20)))
    Registry(store).promote({"QC": first}, who="gate", why="the first version")
    begin(store, "2026-10-01-aaaaaaaa")
    finish(
        store, "2026-10-01-aaaaaaaa", gate_qc={"verdict": "publish", "failed": []}, gate_qi={"verdict": "hold", "failed": ["floor"]}
    )
    finish(store, "2026-10-01-aaaaaaaa", rollout={"tasks": {"QC": {"promoted": True, "number": 1}}, "waits": ""}, report={})
    second = publish(
        store,
        tmp_path,
        "QC",
        "2026-10-02",
        figures(0.85, en=(0.86, 60, 40), es=(0.84, 40, 20), de=(0.70, 12, 8)),
        languages=("en", "es", "de"),
        onboarded=("de",),
        run_id="2026-10-02-bbbbbbbb",
    )
    Registry(store).promote({"QC": second}, who="gate", why="QC F1 0.8500")
    run = "2026-10-02-bbbbbbbb"
    begin(store, run, dag_run="manual__2026-10-02T08:00:00+00:00", onboarded=["de"])
    judged = figures(0.85, en=(0.86, 60, 40), es=(0.77, 40, 20), de=(0.70, 12, 8))
    judged["champion"] = figures(0.80, en=(0.82, 60, 40), es=(0.78, 40, 20), de=(0.60, 12, 8)) | {"languages": ["en", "es"]}
    finish(
        store,
        run,
        ingest={"fate": {"kept": 950, "dropped": 50, "reasons": {"dropped: duplicate": 50}}},
        validate={"fate": {"kept": 930, "quarantined": 20, "reasons": {"quarantined: label_in_0_1": 20}}},
        split={"train": {"QC": {"en": 400, "es": 200}, "QI": {"en": 100}}, "dev": {"QC": {"en": 120, "es": 80, "de": 24}}},
        translate={
            "fate": {"made": 170, "kept": 170},
            "languages": {"de": {"made_by_task": {"QC": 150}, "untranslated_share": 0.125}},
        },
        base={"fate": {"kept": 5000, "dropped": 7, "reasons": {"dropped: click": 7}}},
        mine_qc={"fate": {"made": 50, "kept": 50}, "added_by_language": {"en": 40, "de": 10}},
        denoise_qc={"fate": {"kept": 790, "dropped": 10, "reasons": {"dropped: contradicted": 10}}, "action": "drop"},
        evaluate_qc=judged,
        gate_qc={"verdict": "publish", "failed": []},
        gate_qi={"verdict": "needs-approval", "failed": ["evidence in de"]},
        publish_qi={"version": "0123456789abcdef", "published": True},
    )
    return store


def test_an_empty_store_says_how_to_begin(store: Store) -> None:
    """Nothing has run: the page says so and what to do, and only who may trigger a run is led to the DAG."""
    assert "Nothing has run yet" in overview_page(store)
    assert "relevance retrain" in text_of(overview_page(store))
    assert 'data-airflow href="/dags/relevance_retrain"' in overview_page(store)
    assert "data-airflow" not in overview_page(store, "read")


def test_the_page_says_what_went_out_and_what_was_thrown_away(shop: Store) -> None:
    """80 of 1,000 rows of the logs and 170 + 50 made ones went: 50 + 20 + 10. The clicks of the base are none of them."""
    said = text_of(overview_page(shop))
    assert "QC: at rollout; QI waits for an approval" in said
    assert "1,000 rows came in and 220 were made, 80 were thrown away on the way; QC was trained on 790." in said
    assert "50 ingest · duplicate dropped 20 validate · label_in_0_1 quarantined 10 denoise QC · contradicted dropped" in said
    assert "click" not in said


def test_changes_by_language_are_against_the_champion_on_the_same_rows(shop: Store) -> None:
    """German 0.70 - 0.60, English 0.86 - 0.82, Spanish 0.77 - 0.78; German is new."""
    assert "German new +0.100 English +0.040 Spanish -0.010" in text_of(overview_page(shop))


def test_a_champion_is_shown_with_its_release_and_languages(shop: Store) -> None:
    """QC's second version serves since release 2, with its F1, threshold, base and the language that was onboarded."""
    version = Registry(shop).resolve("QC", "champion").version
    said = text_of(overview_page(shop))
    assert "F1 0.850 always yes 0.700 threshold 0.400" in said
    assert re.search(rf"Version {version} serves since [-0-9: ]+ UTC, release 2 by gate \. QC F1 0\.8500 On tiny@b1", said)
    assert "English German (onboarded) Spanish" in said
    assert "QI · query–item Nothing serves yet" in said


def test_since_is_the_release_that_brought_the_version(shop: Store, tmp_path: Path) -> None:
    """A later release of QI alone does not change since when QC serves."""
    item = publish(shop, tmp_path, "QI", "2026-10-02", figures(0.7, en=(0.7, 50, 30)))
    Registry(shop).promote({"QI": item}, who="ada", why="by hand")
    said = text_of(overview_page(shop))
    assert "release 2 by gate" in said
    assert "release 3 by ada" in said


def test_languages_are_ready_when_enough_judged_rows_say_so(shop: Store) -> None:
    """German serves on 12 of 30 judged rows: 150 rows translated, 10 negatives, 24 dev rows, and 12.5 % of the words kept."""
    said = text_of(overview_page(shop))
    assert "English ready 0.860 0.900 60 120 400 0 40 –" in said
    assert "German judged on 12 of 30 rows 0.700 0.900 12 24 0 150 10 12.5%" in said


def test_a_verdict_without_an_answer_waits_at_airflow(shop: Store) -> None:
    """Until it is answered, the page leads to what Airflow's DAG run asks; the answer ends it."""
    page = overview_page(shop)
    assert "QI 0123456789abcdef waits for an approval: evidence in de" in text_of(page)
    run = "manual__2026-10-02T08%3A00%3A00%2B00%3A00"
    assert f'data-airflow href="/dags/relevance_retrain/runs/{run}/required_actions?response_received=false"' in page
    given = Approval("QI", "0123456789abcdef", False, "ada", "2026-10-02T09:00:00+00:00", "no German rows")
    approval.record(shop, "2026-10-02-bbbbbbbb", given)
    said = text_of(overview_page(shop))
    assert "Nothing waits for you." in said
    assert "QI was rejected" in said
    assert "not approved by ada: no German rows" in said


def test_a_version_that_the_command_line_left_waits_for_a_promotion(store: Store) -> None:
    """Without Airflow nobody is asked: the page says which command lets the version serve, until a newer verdict is there."""
    begin(store, "2026-10-01-aaaaaaaa")
    asked = {"verdict": "needs-approval", "failed": ["evidence in de"]}
    finish(
        store, "2026-10-01-aaaaaaaa", gate_qc=asked, publish_qc={"version": "0123456789abcdef"}, rollout={"tasks": {}}, report={}
    )
    assert "relevance registry promote QC=0123456789abcdef --why" in text_of(overview_page(store))
    begin(store, "2026-10-02-bbbbbbbb")
    finish(store, "2026-10-02-bbbbbbbb", gate_qc={"verdict": "hold", "failed": ["floor"]}, rollout={"tasks": {}}, report={})
    assert "Nothing waits for you." in text_of(overview_page(store))


def test_outcomes_follow_from_what_a_run_left(store: Store) -> None:
    """One run a case: what the strip says of QC for the records that are there."""
    common = {name: {} for name in ("ingest", "validate", "split", "translate")}
    passed = {"gate_qc": {"verdict": "publish", "failed": []}}
    cases: dict[str, dict[str, Any]] = {
        "Failed at validate": {"ingest": {}, "validate": {"failure": {"what": "too many nulls"}}, "report": {}},
        "No model": common | {"mine_qc": {}, "report": {}},
        "Failed at denoise": common | {"base": {}, "mine_qc": {}, "report": {}},
        "Stopped at split": {"ingest": {}, "validate": {}},
        "Held": {"gate_qc": {"verdict": "hold", "failed": ["floor"]}, "report": {}},
        "Published": passed | {"rollout": {"tasks": {"QC": {"promoted": True, "number": 4}}}, "report": {}},
        "Waits": passed | {"rollout": {"tasks": {"QC": {"promoted": False}}, "waits": "two bases"}, "report": {}},
        "Failed at rollout": passed | {"report": {}},
        "At mine": common | {"base": {}},
    }
    for number, (_, stages) in enumerate(cases.items()):
        begin(store, f"2026-10-{number + 1:02d}-aaaaaaaa")
        finish(store, f"2026-10-{number + 1:02d}-aaaaaaaa", **stages)
    runs = history.recent(history.Reader(store), 30)
    assert [run.outcomes["QC"].word for run in reversed(runs)] == list(cases)


def test_the_strip_shows_the_newest_runs_and_leads_to_each(store: Store) -> None:
    """Of 32 nights and a run with a name of its own the 30 newest nights are shown, oldest first; each square says what it is."""
    begin(store, "by hand/1".replace("/", "-"))
    for number in range(32):
        begin(store, f"2026-{10 + number // 28:02d}-{1 + number % 28:02d}-aaaaaaaa")
    page = overview_page(store)
    links = re.findall(r'class="square \w+" href="(/run/[^"]+)" title="([^"]+)"', page)
    assert len(links) == 60
    assert links[0][0] == "/run/2026-10-03-aaaaaaaa"
    assert links[29][0] == "/run/2026-11-04-aaaaaaaa"
    assert links[0][1].startswith("Stopped at ingest: QC, run 2026-10-03-aaaaaaaa, begun 20")


def test_the_trend_holds_every_version_and_marks_what_served(shop: Store, tmp_path: Path) -> None:
    """Three versions of QC, of which two served: F1 overall and by language, None where a version lacks the language."""
    publish(shop, tmp_path, "QC", "2026-10-03", figures(0.83, en=(0.83, 60, 40)))
    (trend,) = overview.view(shop, "relevance_retrain")["trends"]
    lines = {trace["name"]: trace for trace in trend.figure["data"]}
    assert lines["all languages"]["y"] == [0.80, 0.85, 0.83]
    assert lines["German"]["y"] == [None, 0.70, None]
    assert (lines["served"]["x"], lines["never served"]["x"]) == ([0, 1], [2])
    assert [row[1] for row in trend.rows] == [None, 2, 1]


def test_hostile_text_is_text(store: Store, tmp_path: Path) -> None:
    """Names, reasons and languages that hold markup are shown as they are, in the page and in the plots' data."""
    version = publish(store, tmp_path, "QC", "2026-10-01", figures(0.8, **{HOSTILE: (0.8, 40, 20)}))
    Registry(store).promote({"QC": version}, who=HOSTILE, why=HOSTILE, run_id="r")
    begin(store, "2026-10-01-aaaaaaaa")
    finish(store, "2026-10-01-aaaaaaaa", split={"train": {"QC": {HOSTILE: 3}}}, gate_qc={"verdict": "hold", "failed": [HOSTILE]})
    finish(store, "2026-10-01-aaaaaaaa", ingest={"fate": {"dropped": 1, "kept": 0, "reasons": {f"dropped: {HOSTILE}": 1}}})
    page = overview_page(store)
    assert "<img" not in page
    assert "<script>" not in page
    assert text_of(page).count(HOSTILE) >= 4


def test_a_damaged_record_is_a_line_and_hides_no_other(shop: Store) -> None:
    """Half a record, a version whose figures were edited and a release without its fields: each is named, the rest is shown."""
    shop.write("runs/2026-10-01-aaaaaaaa/gate-qc.json", b'{"figures": {')
    shop.write(
        "runs/2026-10-02-bbbbbbbb/evaluate-qc.json",
        json.dumps({"rows": ROWS, "figures": {}}).encode(),
    )
    shop.write("aliases/champion/00000003.json", b"{}")
    (first, *_) = [entry.key for entry in shop.list("adapters/qc/") if entry.key.endswith("/manifest.json")]
    shop.write(first, shop.read(first).replace(b"2026-10-0", b"2025-10-0"))
    whole = {f"{name}_qc": {} for name in ("mine", "denoise", "train", "evaluate", "gate", "publish")}
    begin(shop, "2026-09-30-cccccccc")
    common = {name: {} for name in ("ingest", "validate", "split", "translate", "base", "rollout", "report")}
    finish(shop, "2026-09-30-cccccccc", **common, **whole)
    shop.write("runs/2026-09-30-cccccccc/gate-qc.json", b"{")
    said = text_of(overview_page(shop))
    for key in (
        "runs/2026-09-30-cccccccc/gate-qc.json",
        "runs/2026-10-01-aaaaaaaa/gate-qc.json",
        "runs/2026-10-02-bbbbbbbb/evaluate-qc.json",
        "aliases/champion/00000003.json",
        first,
    ):
        assert f"Can't be read: {key}: " in said
    assert "QI waits for an approval" in said


def test_only_what_changed_is_read_again(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second page reads no object; after a stage has run again, its record alone is read."""
    overview_page(shop)
    read: list[str] = []
    monkeypatch.setattr(type(shop), "read", _counting(type(shop).read, read))
    overview_page(shop)
    assert read == []
    finish(shop, "2026-10-02-bbbbbbbb", gate_qi={"verdict": "hold", "failed": ["floor"]})
    assert "QI kept its champion" in text_of(overview_page(shop))
    assert read == ["runs/2026-10-02-bbbbbbbb/gate-qi.json"]


def _counting(read: Callable[[Store, str], bytes], seen: list[str]) -> Callable[[Store, str], bytes]:
    def counted(store: Store, key: str) -> bytes:
        seen.append(key)
        return read(store, key)

    return counted


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with moto_server(page=7) as endpoint:
        use_server(monkeypatch, endpoint)
        make_bucket(endpoint, "pages")
        yield open_store("s3://pages/a/prefix")


def test_s3_shows_the_same_page(s3: Store, store: Store, tmp_path: Path) -> None:
    """The same objects in a bucket, listed 7 a page, make the same page but for the times at which they were written."""
    version = publish(store, tmp_path, "QC", "2026-10-01", figures(0.80, en=(0.82, 60, 40)))
    Registry(store).promote({"QC": version}, who="gate", why="the first version")
    for day in range(1, 5):
        begin(store, f"2026-10-0{day}-aaaaaaaa")
        finish(store, f"2026-10-0{day}-aaaaaaaa", gate_qc={"verdict": "hold", "failed": ["floor"]}, report={})
    for entry in store.list():
        s3.write(entry.key, store.read(entry.key))
    pages = [re.sub(r"begun [-0-9: ]+ UTC", "begun", overview_page(each)) for each in (store, s3)]
    assert pages[0] == pages[1]
