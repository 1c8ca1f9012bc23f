"""What a world says of itself."""

import json

from kuleshov.synthetic.truth import off_screen_flags, read_stories


def test_off_screen_flags_are_those_of_the_stories_and_of_the_segments_file(tiny_world):
    flags = off_screen_flags(tiny_world)
    stories = {story["id"]: story for story in read_stories(tiny_world) if story["kind"] == "lvu"}
    segments = json.loads((tiny_world / "truth" / "vidsitu_offscreen.json").read_text())
    assert flags.keys() == stories.keys() | segments.keys()
    assert all(flags[name] == [event["off_screen"] for event in story["events"]] for name, story in stories.items())
    assert all(flags[name] == segments[name] for name in segments)


def test_what_is_no_world_has_no_flags(tmp_path):
    assert off_screen_flags(tmp_path) == {}
