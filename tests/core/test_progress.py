"""What a log shows of long work."""

import re

from kuleshov.core.progress import progress_bar


def test_a_log_gets_a_line_at_every_tenth(capsys):
    with progress_bar("movies", 40) as advance:
        for _ in range(40):
            advance()
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"  \d+ s$", "", line) for line in lines] == [f"movies {n}/40" for n in range(4, 41, 4)]


def test_it_counts_on_from_what_was_done_before(capsys):
    with progress_bar("movies", 10, done=8) as advance:
        advance()
    assert capsys.readouterr().err.startswith("movies 9/10  ")


def test_nothing_is_shown_where_nothing_is_wanted(capsys):
    with progress_bar("movies", 1, shown=False) as advance:
        advance()
    assert capsys.readouterr().err == ""
