"""Nothing is lost: killed runs, changed questions, two runs at once, several processes, a full disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.data.predictions import read_predictions
from harmonyiqa.errors import UserError
from harmonyiqa.model.backbone import image_processor
from harmonyiqa.pipelines.score import score
from harmonyiqa.scoring import caller, engine, resume
from harmonyiqa.scoring.caller import Caller
from harmonyiqa.scoring.items import Item
from harmonyiqa.scoring.journal import Index, Journal
from harmonyiqa.scoring.plan import shapes, tokens

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def asked(tiny_scorer_folder: Path, pictures: Path, tmp_path: Path) -> dict[str, Any]:
    """Seven images, one of them broken, in batches of two."""
    (pictures / "c.png").write_text("text")
    out = str(tmp_path / "out.csv")
    return {"paths": [str(pictures)], "model": str(tiny_scorer_folder), "out": out, "batch_size": 2}


@pytest.fixture
def whole(asked: dict[str, Any], tmp_path: Path) -> bytes:
    """What an uninterrupted run writes."""
    path = tmp_path / "whole.csv"
    score(**{**asked, "out": str(path)})
    return path.read_bytes()


def cut_off(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, batches: int = 2) -> Path:
    """Stop a run after some batches; the journal that it leaves."""
    with monkeypatch.context() as patch:
        plain = engine.score_batch

        def stops(caller: Caller, ready: engine.Ready) -> list[engine.Outcome]:
            if (
                ready.first >= (asked["batch_size"] or 1) * batches
            ):  # lanes may come to it before they are through
                raise KeyboardInterrupt
            return plain(caller, ready)

        patch.setattr(engine, "score_batch", stops)
        with pytest.raises(KeyboardInterrupt):
            score(**asked)
    return Path(f"{asked['out']}.journal")


@pytest.mark.slow
def test_killed_at_any_moment_the_result_is_the_same(
    tiny_scorer_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    for path in list(pictures.iterdir()):
        for copy in range(5):
            os.link(path, pictures / f"{path.stem}{copy}.png")
    (pictures / "c.png").unlink()
    (pictures / "c.png").write_text("text")
    script = Path(__file__).with_name("kill_and_resume.py")
    seed = time.time_ns() % 10_000
    command = [sys.executable, str(script), str(pictures), str(tiny_scorer_folder)]
    done = subprocess.run(
        [*command, "--kills", "20", "--seed", str(seed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    counted = json.loads(done.stdout)
    assert counted["kills"] >= 26
    assert counted["with_rows"] >= 8
    assert counted["results"] >= 1


def test_only_what_is_missing_is_scored(
    asked: dict[str, Any], whole: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = cut_off(asked, monkeypatch)
    assert Index(journal).count == 4
    plain, sizes = engine.score_batch, []

    def counted(caller: Caller, ready: engine.Ready) -> list[engine.Outcome]:
        sizes.append(len(ready.examples))
        return plain(caller, ready)

    monkeypatch.setattr(engine, "score_batch", counted)
    caplog.set_level("INFO")
    assert score(**asked) == 1
    assert Path(asked["out"]).read_bytes() == whole
    assert sum(sizes) == 3
    assert "4 images are scored already, going on" in caplog.text
    assert not journal.exists()


def test_what_has_changed_is_named_and_restart_scores_anew(
    asked: dict[str, Any], whole: bytes, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = cut_off(asked, monkeypatch)
    rows = Index(journal).count
    with pytest.raises(UserError, match=r"made with other settings \(batch_size 2, now 3\): .*--restart"):
        score(**{**asked, "batch_size": 3})
    (pictures / "a0.png").write_bytes((pictures / "a.png").read_bytes())
    with pytest.raises(
        UserError, match=r"has rows of other inputs \(image 2 was .*b\.png, now .*a0\.png\).*--restart"
    ):
        score(**asked)
    (pictures / "a0.png").unlink()
    old = (pictures / "a.png").read_bytes()
    (pictures / "a.png").write_bytes(old + b"\0")
    with pytest.raises(UserError, match=r"a\.png has another size, date or reference"):
        score(**asked)
    for path in sorted(pictures.iterdir())[2:]:
        path.unlink()
    (pictures / "a.png").write_bytes(old)
    with pytest.raises(UserError, match="has rows of other inputs"):
        score(**asked)
    assert Index(journal).count == rows
    assert score(**asked, restart=True) == 0
    assert [Path(row.image).name for row in read_predictions(asked["out"])] == ["a.png", "b.png"]


def test_an_image_that_changes_while_it_is_scored_is_not_taken_for_the_one_that_was(
    asked: dict[str, Any], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = engine.score_batch

    def changes(caller: Caller, ready: engine.Ready) -> list[engine.Outcome]:
        outcomes = plain(caller, ready)
        Image.new("RGB", (50, 50)).save(pictures / "a.png")
        return outcomes

    monkeypatch.setattr(engine, "score_batch", changes)
    cut_off(asked, monkeypatch)
    with pytest.raises(UserError, match=r"a\.png has another size, date or reference"):
        score(**asked)


def test_an_interrupted_run_goes_on_with_the_tokens_that_it_was_planned_for(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that others use has less memory at the second start: the batches stay those of the first."""
    alone, out = {**asked, "batch_size": None}, tmp_path / "whole.csv"
    budgets = []
    plain = engine.choose_batches

    def seen(inputs: Any, window: Any, tokens_per_call: int, *rest: Any, **named: Any) -> Any:
        budgets.append(tokens_per_call)
        return plain(inputs, window, tokens_per_call, *rest, **named)

    monkeypatch.setattr(engine, "choose_batches", seen)
    monkeypatch.setattr(caller, "find_budget", lambda *_: 300)
    score(**{**alone, "out": str(out)})
    journal = cut_off(alone, monkeypatch, batches=1)
    assert 0 < Index(journal).count < 7
    assert json.loads((journal / "settings.json").read_text())["tokens_per_call"] == 300
    monkeypatch.setattr(caller, "find_budget", lambda *_: 150)
    score(**alone)
    assert Path(asked["out"]).read_bytes() == out.read_bytes()
    assert set(budgets) == {300}
    cut_off(alone, monkeypatch, batches=1)
    score(**alone, restart=True)
    assert set(budgets) == {300, 150}


def test_another_model_is_another_question(
    asked: dict[str, Any], scorer: HarmonyIQA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(asked, monkeypatch)
    assert scorer.score_head is not None
    next(scorer.score_head.parameters()).data[0] += 0.01
    scorer.save_pretrained(tmp_path / "other" / "tiny")
    with pytest.raises(UserError, match=r"model_hash '\w{16}', now '\w{16}'"):
        score(**{**asked, "model": str(tmp_path / "other" / "tiny")})


def test_two_runs_into_one_file(asked: dict[str, Any], whole: bytes) -> None:
    running = Journal(asked["out"])
    running.begin({})
    with pytest.raises(UserError, match="another run writes"):
        score(**asked)
    running.remove()
    score(**asked)
    assert Path(asked["out"]).read_bytes() == whole


def test_a_full_disk_costs_no_row(
    asked: dict[str, Any], whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = cut_off(asked, monkeypatch, batches=1)
    rows = journal / "00000.rows"
    kept = rows.rename(journal / "00001.rows")  # as if another process had written them
    rows.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"No space left on device; rows written before are safe"):
        score(**asked)
    assert Index(journal).count == 2
    rows.unlink()
    assert kept.stat().st_size > 0
    with monkeypatch.context() as patch:
        patch.setattr(
            resume, "write_predictions", lambda rows, _: Path("/dev/full").write_text(str(list(rows)))
        )
        with pytest.raises(UserError, match=r"No space left on device; every score is safe in .*\.journal"):
            score(**asked)
    assert Index(journal).count == 7
    score(**asked)
    assert Path(asked["out"]).read_bytes() == whole


def test_nothing_is_journaled_without_a_file(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert score(**{**asked, "out": None}) == 1
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UserError, match="restart goes with out"):
        score(**{**asked, "out": None, "restart": True})


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_any_format_is_the_same_after_a_cut(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    out, whole = tmp_path / f"out{suffix}", tmp_path / f"whole{suffix}"
    score(**{**asked, "out": str(whole)})
    cut_off({**asked, "out": str(out)}, monkeypatch)
    score(**{**asked, "out": str(out)})
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("batch_size", [2, None])
def test_scores_do_not_depend_on_windows_and_the_shares_of_processes_make_one_whole(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int | None
) -> None:
    scorer.inputs.image_processor = image_processor(32, 4)  # one tile, or several
    paths = sorted(pictures.iterdir())
    for path in paths[::2]:
        Image.open(path).resize((96, 40)).save(path)
    items = [Item(f"{i}", None, paths[i % 7], paths[0] if i % 3 else None) for i in range(23)]
    items[5] = Item("5", None, paths[0], None, "known to be bad")
    monkeypatch.setattr(engine, "WINDOW", 8)
    whole = engine.predict(scorer, items, batch_size=batch_size)
    for processes in (2, 3):
        found: dict[int, float | str] = {}
        work, largest = [], 0
        for rank in range(processes):
            monkeypatch.setattr(engine, "place", lambda rank=rank, n=processes: (rank, n))
            batches = list(
                engine.stream(
                    Caller(scorer),
                    iter(items),
                    total=None,
                    batch_size=batch_size,
                    workers=0,
                    max_pixels=10**6,
                )
            )
            share = [each for batch in batches for each in batch]
            assert not found.keys() & {each.position for each in share}
            found |= {each.position: each.outcome for each in share}
            costs = [cost(scorer, [each.item for each in batch]) for batch in batches]
            work.append(sum(costs))
            largest = max(largest, *costs)
        assert [found[i] for i in range(23)] == [
            row.score if row.error is None else row.error for row in whole
        ]
        assert max(work) - min(work) <= largest


def cost(model: HarmonyIQA, items: list[Item]) -> int:
    """Tokens of a call."""
    pairs = [(item.image_path, item.reference_path) for item in items if item.error is None]
    return tokens(model.inputs, shapes(model.inputs, pairs))


def launch(asked: dict[str, Any], processes: int) -> "subprocess.Popen[str]":
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = ["--model", asked["model"], "--out", asked["out"], "--batch_size", str(asked["batch_size"])]
    return subprocess.Popen(
        [
            *torchrun,
            "--nproc_per_node",
            str(processes),
            str(SCRIPTS / "score_folder.py"),
            *asked["paths"],
            *words,
        ],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_a_dead_process_costs_the_others_nothing(
    asked: dict[str, Any], pictures: Path, tmp_path: Path
) -> None:
    for path in list(pictures.iterdir()):
        for copy in range(240):
            os.link(path, pictures / f"{path.stem}{copy}.png")
    whole = tmp_path / "whole.csv"
    score(**{**asked, "out": str(whole)})
    journal = Path(f"{asked['out']}.journal")
    run = launch(asked, 2)
    rows = [journal / f"{rank:05}.rows" for rank in range(2)]
    while run.poll() is None and not all(path.exists() and path.stat().st_size > 2000 for path in rows):
        time.sleep(0.02)
    assert run.poll() is None, run.communicate()[1]
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    assert run.wait(120) != 0
    saved = Index(journal).count
    assert saved > 20
    assert not Path(asked["out"]).exists()
    again = launch(asked, 3)
    _, said = again.communicate(timeout=1800)
    assert again.returncode == 1, said  # some images are broken
    assert f"{saved:,} images are scored already, going on" in said
    assert Path(asked["out"]).read_bytes() == whole.read_bytes()
    assert not journal.exists()
