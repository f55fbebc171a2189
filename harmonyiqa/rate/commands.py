"""``harmonyiqa rate create | serve | backup | export``."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from harmonyiqa.network import extra_needed


def create(
    manifest: str,
    study: str,
    mode: Literal["rating", "pairs"] = "rating",
    raters: int = 21,
    sessions: int = 9,
    minutes: float = 30,
    training: str | None = None,
    golden: str | None = None,
    repeats: int = 0,
    pairs: int | None = None,
    labels: str | None = None,
    address: str = "http://127.0.0.1:8000",
    seed: int = 0,
) -> None:
    """Make a rating study from a manifest: images, random orders, secret links.

    The texts that raters read are in the study's settings.yaml, to be edited.

    Args:
        manifest: Images to rate, with composite, reference, content and method as far as known.
        study: Folder to make.
        mode: Rate each image on a scale, or choose the better of two versions of one content.
        raters: How many invitations.
        sessions: Over how many sessions the images are spread.
        minutes: The longest session; what is left moves to the next one.
        training: Manifest of examples that every rater sees first.
        golden: Manifest of images whose right answers are known, in its further columns low and high.
        repeats: How many images each rater sees a second time.
        pairs: With --mode pairs: how many pairs each rater sees. Default: all of them.
        labels: Words of the scale, worst first, with commas. Default: Bad,Poor,Fair,Good,Excellent.
        address: How raters will reach the server; the links begin with it.
        seed: Seed of each rater's random order.
    """
    from harmonyiqa.rate.settings import PAIR_TEXTS, StudySettings
    from harmonyiqa.rate.study import ADMIN, INVITATIONS, create_study

    settings = StudySettings(
        address=address, session_minutes=minutes, **PAIR_TEXTS if mode == "pairs" else {}
    )
    if labels is not None:
        settings = replace(settings, labels=[label.strip() for label in labels.split(",")])
    store = create_study(
        manifest,
        study,
        settings,
        mode=mode,
        raters=raters,
        sessions=sessions,
        training=training,
        golden=golden,
        repeats=repeats,
        pairs=pairs,
        seed=seed,
    )
    each = max(store.totals.values())
    store.close()
    print(f"{study}: {raters} raters, {each} {'pairs' if mode == 'pairs' else 'images'} each")
    print(f"links for raters: {Path(study) / INVITATIONS}; for you: {Path(study) / ADMIN}")
    print(f"texts to edit: {Path(study) / 'settings.yaml'}; then: harmonyiqa rate serve {study}")


def serve(study: str, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve a study's web pages until stopped.

    Args:
        study: Folder that `harmonyiqa rate create` made.
        host: Network address to listen on; the default is reached from this machine only.
        port: Port to listen on; 0 takes a free one.
    """
    with extra_needed("rate serve", "rate"):
        from harmonyiqa.rate.server import serve_study
    serve_study(Path(study), host, port)


def backup(study: str, out: str) -> None:
    """Copy a study while it runs, into a folder that can be served in its place.

    Args:
        study: Folder of the study.
        out: New folder, or that of an earlier backup, which is brought up to date.
    """
    from harmonyiqa.rate.study import backup_study

    backup_study(study, out)
    print(f"{out}: a sound copy of {study}; secret links are not in it")


def export(study: str, out: str | None = None) -> None:
    """Write a study's votes as tables, also while it runs.

    Beside the ratings stand `<out>_checks` (repeats and golden images) and `<out>_raters` (agreement, time,
    what looks careless); in pair mode, beside the comparisons, `<out>_scores` (Bradley-Terry) and the raters.

    Args:
        study: Folder of the study.
        out: Table to write (.csv, .jsonl or .parquet). Default: ratings.csv; in pair mode comparisons.csv.
    """
    from harmonyiqa.rate.export import write_tables
    from harmonyiqa.rate.store import Store

    store = Store(study)
    try:
        default = "ratings.csv" if store.facts.mode == "rating" else "comparisons.csv"
        for line in write_tables(store, Path(out or default)):
            print(line)
    finally:
        store.close()
