"""The line of long work: what it says, and that it says nothing where nobody watches."""

import io

from edge.cli.progress import Progress, line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_the_line_says() -> None:
    assert line("cloning", 250, 1000, unit="blocks", size_bytes=5_000_000, rate=125.0, seconds=2.0) == (
        "cloning 250 of 1,000 blocks (25 %), 2.5 MB/s, 0:00:06 left"
    )
    assert (
        line("cloning", 1000, 1000, unit="blocks", size_bytes=0, rate=125.0, seconds=2.0)
        == "cloning 1,000 of 1,000 blocks (100 %)"
    )
    assert line("following", 12, None, unit="blocks", size_bytes=0, rate=0.0, seconds=0.0) == "following 12 blocks"
    assert line("cloning", 0, 0, unit="blocks", size_bytes=0, rate=0.0, seconds=0.0) == "cloning 0 of 0 blocks"
    assert line("x", 1, 7201, unit="files", size_bytes=0, rate=1.0, seconds=1.0).endswith("2:00:00 left")


def test_it_writes_on_a_terminal_now_and_then_and_cleans_up() -> None:
    out, now = Terminal(), 0.0
    with Progress("cloning", out=out, clock=lambda: now) as progress:
        for step in range(10):
            now = step * 0.1
            progress.update(step, 10, step * 1000)
    written = out.getvalue()
    assert written.count("cloning") == 4
    assert written.endswith("\r\033[K")


def test_it_is_silent_elsewhere() -> None:
    out = io.StringIO()
    with Progress("cloning", out=out, clock=iter(range(9)).__next__) as progress:
        progress.update(1, 2)
    assert out.getvalue() == ""
