"""Pages in a real browser: no console message, nothing blank, banner in place."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine to open the pages in"
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=1200,1600",
]


def _open(page, folder):
    """(pixels, console lines) of a page."""
    shot = folder / "shot.png"
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", f"--screenshot={shot}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    with Image.open(shot) as image:
        return np.asarray(image.convert("RGB")).astype(int), console


@pytest.mark.parametrize("name", ["index.html", "rsa.html"])
def test_page_renders_without_a_word_on_the_console(name, small_pages, tmp_path):
    pixels, console = _open(small_pages / name, tmp_path)
    assert console == []
    assert abs(pixels[5, 5] - [0xB0, 0x00, 0x20]).max() < 8  # the banner of a simulated study
    below = pixels[80:]
    inked = (below.min(axis=2) < 200).mean()
    assert 0.01 < inked < 0.6
    blue = (abs(below - [0x00, 0x72, 0xB2]).max(axis=2) < 30).sum()
    assert blue > 200  # a figure is drawn: the colour of the first network


def test_the_browser_would_have_told(tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<!DOCTYPE html><title>x</title><script>nowhere()</script>", encoding="utf-8")
    pixels, console = _open(page, tmp_path)
    assert any("nowhere" in line for line in console)
    assert (pixels == 255).all()
