"""The organizer's page: who is how far, who works how, pause, tables."""

import io
import tempfile
import zipfile
from pathlib import Path

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from harmonyiqa.rate.bodies import Pause
from harmonyiqa.rate.door import Door, Pages
from harmonyiqa.rate.export import write_tables
from harmonyiqa.rate.quality import rater_reports
from harmonyiqa.rate.store import Store


def add_admin(app: FastAPI, store: Store, door: Door, pages: Pages) -> None:
    """Add the organizer's routes, all below /admin and behind the organizer's own secret."""
    reading, changing = Depends(door.admin), Depends(door.changing_admin)

    @app.get("/admin/join/{secret}", response_class=HTMLResponse)
    def join(secret: str, request: Request) -> Response:
        return door.enter(request, "admin", secret)

    @app.get("/admin", response_class=HTMLResponse, dependencies=[reading])
    def page(request: Request) -> HTMLResponse:
        reports = rater_reports(store)
        known = [report.agreement for report in reports if report.agreement is not None]
        return pages.render(
            "admin.html",
            token=door.token(request, "admin"),
            mode=store.facts.mode,
            reports=reports,
            done=sum(report.done for report in reports),
            total=sum(report.total for report in reports),
            finished=sum(report.done == report.total for report in reports),
            agreement=sum(known) / len(known) if known else None,
            suspicious=sum(bool(report.suspicions) for report in reports),
            closed=store.is_closed(),
        )

    @app.post("/admin/api/pause", dependencies=[changing])
    def pause(body: Pause) -> Pause:
        store.set_closed(body.paused)
        return body

    @app.get("/admin/tables.zip", response_class=Response, dependencies=[reading])
    def tables() -> Response:
        return Response(
            _zipped_tables(store),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="study_tables.zip"'},
        )


def _zipped_tables(store: Store) -> bytes:
    """The files of `harmonyiqa rate export`."""
    name = "ratings.csv" if store.facts.mode == "rating" else "comparisons.csv"
    buffer = io.BytesIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped,
    ):
        write_tables(store, Path(folder) / name)
        for path in sorted(Path(folder).iterdir()):
            zipped.write(path, path.name)
    return buffer.getvalue()
