"""A folder of 1,000 files that want to do harm: 1,000 rows with a reason, and a page on which nothing runs."""

import io
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.data.predictions import read_predictions
from harmonyiqa.pipelines.score import score

NAMES = (
    b"%04d",
    b"%04d\nnew\r\nline",
    b"%04d \"quoted\" 'twice', and; commas",
    b"%04d<script>alert(1)<&script>",
    b'%04d"><img src=x onerror=alert(1)>',
    b"%04d{{ 7 * 7 }}{%% raw %%}",
    b"%04d \xff\xfe caf\xe9",
    b"%04d\x1b[31m\x07\x7f",
    "%04d ‮gpj.evil 照片 é".encode(),
    b"-%04d --out=x",
    b"%04d=cmd|' !A0'",
    b"%04d" + b"n" * 230,
)
KINDS: dict[bytes, bytes] = {
    b"png": b"PNG",
    b"jpg": b"JPEG",
    b"webp": b"WEBP",
    b"bmp": b"BMP",
    b"tif": b"TIFF",
}


def whole(kind: str) -> bytes:
    """An image of noise, which no decoder can finish before its last bytes."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims side x side pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def harmful(rng: random.Random, number: int) -> bytes:
    """Bytes that no decoder can make an image of."""
    kind = rng.choice(list(KINDS.values())).decode()
    image = whole(kind)
    match number % 6:
        case 0:  # cut off
            return image[: rng.randrange(len(image) // 2)]
        case 1:  # the magic number, then noise
            return image[:4] + rng.randbytes(rng.randrange(200))
        case 2:
            return bomb(rng.choice([20_000, 100_000, 2**31 - 1]))
        case 3:  # other types
            return rng.choice(
                [b"GIF89a" + image, b"%PDF-1.7\n", b"<svg onload='alert(1)'/>", b"\x7fELF", b"PK\x03\x04"]
            )
        case 4:  # a header with a wrong byte in what its checksum covers
            png = bytearray(whole("PNG"))
            png[rng.randrange(16, 29)] ^= 1 << rng.randrange(8)
            return bytes(png)
        case _:
            return rng.randbytes(rng.randrange(2000))


def fill(folder: Path, outside: Path, count: int) -> None:
    rng = random.Random(0)
    special: list[Callable[[Path], object]] = [
        lambda path: path.symlink_to(outside / "secret.png"),
        lambda path: path.symlink_to("../outside/secret.png"),
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nowhere"),
        os.mkfifo,
    ]
    for number in range(count):
        name = NAMES[number % len(NAMES)] % number + b"." + rng.choice(list(KINDS))
        path = folder / os.fsdecode(name)
        if number < len(special):
            special[number](path)
        else:
            path.write_bytes(harmful(rng, number))


class Page(HTMLParser):
    """The tags and attributes that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.filterwarnings("ignore")  # Pillow says what it thinks of such files
def test_a_thousand_hostile_files_are_a_thousand_rows(
    tiny_scorer_folder: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    Image.new("RGB", (40, 40)).save(outside / "secret.png")
    fill(folder, outside, 1000)
    out, report = tmp_path / f"out{suffix}", tmp_path / "page.html"
    done = score([str(folder)], model=str(tiny_scorer_folder), out=str(out), report=str(report), workers=1)
    assert done == 1
    rows = read_predictions(out)
    assert len({row.image for row in rows}) == 1000
    assert [row.image for row in rows if row.error is None] == []
    links = [row.error for row in rows if "is a link that leads out of" in str(row.error)]
    assert len(links) == 5  # four out, one in a circle
    assert "\x1b" not in capsys.readouterr().out
    page = Page(report.read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not {name for name in page.attributes if name.startswith("on")}


def test_what_is_no_file_is_never_opened(tiny_scorer_folder: Path, tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s.png"))
    os.mkfifo(tmp_path / "p.png")
    (tmp_path / "d.png").mkdir()
    out = tmp_path / "out.csv"
    assert score([str(tmp_path)], model=str(tiny_scorer_folder), out=str(out)) == 1
    assert [row.error for row in read_predictions(out)] == [
        f"{tmp_path / name} is not a file" for name in ("p.png", "s.png")
    ]
    listening.close()
