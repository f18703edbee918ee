"""The page of a run: its results, live while it goes on."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup

from relevance_core.errors import NotFound
from relevance_core.reporting import build_page, titles
from relevance_core.reporting.blocks import Page
from relevance_core.runs import folder
from relevance_core.runs.artifacts import Artifact
from relevance_core.store import Store
from relevance_core.ui import ledger
from relevance_core.ui.progress import State, View, opened, way
from relevance_core.ui.site import Site, airflow_root, root

DOCS: Final = "data_docs/"
DOCS_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox allow-same-origin"
"""The policy of Data Docs: no scripts, but their own origin, or a link inside an inner frame would lose the login's cookie."""

_NEWEST: Final = 8
_KEPT: Final = 32
"""Rendered pages in the cache: about 300 kB each."""


def routes(site: Site) -> APIRouter:
    """Routes `/run/ID` and `/dag-run/AIRFLOW'S ID`, and below them `/state`, `/ledger` and `/data-docs/FILE`."""
    router, pages = APIRouter(), _Pages(site)
    _by_store(router, pages)
    _by_airflow(router, pages)
    _files(router, site)
    return router


def _by_store(router: APIRouter, pages: _Pages) -> None:
    site = pages.site

    @router.get("/run/{run_id}")
    def run(request: Request, run_id: str, part: str = "") -> HTMLResponse:
        """Shows a run by its name in the store. part: `main` for the part that changes while the run goes on, without the frame."""
        if (state := State.of(site.store, run_id)).begun:
            return pages.show(request, run_id, state, part)
        return pages.nowhere(request, "No such run", f"There is no run {run_id} in the store.", HTTPStatus.NOT_FOUND)

    @router.get("/run/{run_id}/state")
    def state(run_id: str) -> JSONResponse:
        """Returns the state of the run; its digest changes whenever the page does."""
        return JSONResponse(State.of(site.store, run_id).as_json())


def _by_airflow(router: APIRouter, pages: _Pages) -> None:
    site = pages.site

    @router.get("/dag-run/{dag_run}")
    def run(request: Request, dag_run: str, part: str = "", dag_id: str = "") -> HTMLResponse:
        """Shows a run by Airflow's name of it. dag_id: its DAG, where it is known."""
        if dag_id not in ("", site.dag_id):
            what = f"{dag_run} is a run of {dag_id}. The loop's runs are those of {site.dag_id}."
            return pages.nowhere(request, "Not a run of the loop", what)
        if (run_id := of_dag_run(site.store, dag_run)) is not None:
            return pages.show(request, run_id, State.of(site.store, run_id), part)
        what = f"{dag_run} has not begun: its first task has left nothing in the store yet. This page shows it as soon as it does."
        return pages.nowhere(request, "Not begun", what, live=True)

    @router.get("/dag-run/{dag_run}/state")
    def state(dag_run: str) -> JSONResponse:
        """Returns the state as `/run/ID/state` does, also for a run that may not have begun."""
        run_id = of_dag_run(site.store, dag_run)
        return JSONResponse((State() if run_id is None else State.of(site.store, run_id)).as_json())


def _files(router: APIRouter, site: Site) -> None:
    @router.get("/run/{run_id}/data-docs/{file}")
    def data_docs(run_id: str, file: str) -> Response:
        """Serves a page of the Data Docs of the run's *validate*, if the stage's manifest names it."""
        artifact = opened(site.store, known(site.store, run_id)).artifact("validate", verify=False)
        return HTMLResponse(site.store.read(artifact.key(DOCS + file)), headers={"content-security-policy": DOCS_POLICY})

    @router.get("/run/{run_id}/ledger")
    def search(request: Request, run_id: str) -> Response:
        """Serves the filter's ledger of a task: searched, sorted and paged in its file (`ui.ledger`)."""
        run = opened(site.store, known(site.store, run_id))
        return ledger.answer(site, request, run, ledger.Search.of(request.query_params, run.settings.tasks))


class _Pages:
    """The pages of runs, with a cache of those rendered by the state of the run."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._shown = functools.lru_cache(_KEPT)(self._rendered)

    def show(self, request: Request, run_id: str, state: State, part: str) -> HTMLResponse:
        """Shows the page of a run that has begun."""
        shown = self._shown(run_id, state.digest, f"{root(request)}/run/{quote(run_id)}", airflow_root(request))
        if part == "main":
            return HTMLResponse(shown.body)
        before, after = _neighbours(self.site.store, run_id)
        return self.site.page(
            request, "run.html", title=shown.title, run_id=run_id, shown=shown, state=state, before=before, after=after
        )

    def nowhere(
        self, request: Request, title: str, what: str, status: HTTPStatus = HTTPStatus.OK, live: bool = False
    ) -> HTMLResponse:
        """Shows why there is no run, with the newest runs. live: the page becomes the run's when it begins."""
        newest = folder.run_ids(self.site.store)[: -_NEWEST - 1 : -1]
        return self.site.page(request, "no_run.html", status=status, title=title, what=what, newest=newest, live=live)

    def _rendered(self, run_id: str, digest: str, address: str, airflow: str) -> _Shown:
        """Renders the content of a run's page. digest: of the state, the cache's key."""
        view = View.of(self.site.store, run_id)
        settings, artifacts = view.run.settings, view.outputs()
        page = _answered(build_page(artifacts, settings.tasks, *titles(settings)), view)
        links = {"validation": _docs(artifacts, address), "filter": _ledgers(artifacts, address)}
        asked = [task for task in settings.tasks if view.waits_for_person(task)]
        values = {"view": view, "way": way(view), "asked": asked, "page": page, "links": links, "dag_id": self.site.dag_id}
        body = self.site.text("run_body.html", airflow=airflow, **values)
        return _Shown(page.title, page.subtitle, view.run.dag_run, body)


class _Shown(NamedTuple):
    """A run's page without its frame. body: the part that changes while the run goes on."""

    title: str
    subtitle: str
    dag_run: str
    body: Markup


def known(store: Store, run_id: str) -> str:
    """Returns the name of a run of the store. Raises NotFound for any other."""
    if not State.of(store, run_id).begun:
        raise NotFound(f"there is no run {run_id!r}")
    return run_id


def of_dag_run(store: Store, dag_run: str) -> str | None:
    """Returns the store's run of an Airflow run, or None before it has begun.

    The store's name ends with a digest of Airflow's (`relevance_airflow.params.run_id_of`); it begins with the window's end, which
    Airflow's name lacks.
    """
    ending = "-" + hashlib.sha256(dag_run.encode()).hexdigest()[:8]
    found = [name for name in folder.run_ids(store) if name.endswith(ending) and State.of(store, name).begun]
    return next((run_id for run_id in found if folder.read_run(store, run_id)["dag_run"] in ("", dag_run)), None)


def _docs(artifacts: Mapping[str, Artifact], address: str) -> list[tuple[str, str]]:
    if "validate" not in artifacts:
        return []
    names = [name.removeprefix(DOCS) for name in artifacts["validate"].files if name.startswith(DOCS)]
    told = {"index.html": "Data Docs", "rows.html": "of the rows", "batch.html": "of the window"}
    return [(told[name], f"{address}/data-docs/{name}") for name in told if name in names]


def _ledgers(artifacts: Mapping[str, Artifact], address: str) -> list[tuple[str, str]]:
    tasks = [name.partition(":")[2] for name in artifacts if name.startswith("denoise:")]
    return [(f"Search the ledger of {task}", f"{address}/ledger?task={task}") for task in tasks]


def _answered(page: Page, view: View) -> Page:
    """Adds people's answers to the cards of their tasks, and hides a verdict that this run may still replace."""
    cards = []
    for task, card in zip(view.run.settings.tasks, page.cards, strict=True):
        answer = view.approvals.get(task)
        if not view.over and f"evaluate:{task}" not in view.finished:
            card = replace(card, word="Not yet", lines=["The verdict comes when the task's stages are done."])
        if answer is not None:
            told, when = answer.told(), answer.at[:16].replace("T", " ")
            lines = [*card.lines, f"{told[0].upper()}{told[1:]}, {when} UTC."]
            if answer.approved:
                card = replace(card, word="Approved", tone="good", lines=lines)
            else:
                card = replace(card, word="Not approved", tone="wait", lines=lines)
        cards.append(card)
    return replace(page, cards=cards)


def _neighbours(store: Store, run_id: str) -> tuple[str, str]:
    """Returns the runs before and after, by the end of their windows; empty where there is none."""
    names = folder.run_ids(store)
    at = names.index(run_id)
    return (names[at - 1] if at else "", names[at + 1] if at + 1 < len(names) else "")
