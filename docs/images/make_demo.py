"""Make ``demo.svg``: two tracks in a terminal, drawn by the command's own display from a real run of its demo.

Run it from the project's folder: ``python docs/images/make_demo.py``. It needs the local model and no key.
"""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from rxstream.cli._demo import demo_tracks
from rxstream.cli._show import Live, leave

PROMPT = "Explain in two sentences why the sky is blue."
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
HERE = Path(__file__).parent


def main() -> None:
    """Run the demo, and write the picture beside this file."""
    tracks = demo_tracks(PROMPT, None)
    for track in tracks:
        track.preload()
    asyncio.run(Live(Console(file=io.StringIO(), force_terminal=True)).follow(tracks))
    console = Console(file=io.StringIO(), record=True, force_terminal=True, width=100, highlight=False)
    console.print(Text.assemble(("$ ", "dim"), ("rxstream demo ", "bold"), (f'"{PROMPT}"', "green")))
    leave(tracks, console)
    for track in tracks:
        console.print(Text(track.note, style="dim"), end="")
    svg = console.export_svg(title="rxstream demo", theme=MONOKAI, unique_id="demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # no font is fetched from anywhere
    svg = re.sub(r"font-family: [^;]+;", f"font-family: {FONTS};", svg)
    (HERE / "demo.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
