"""A film's description as text, JSON, a table, subtitles, or annotations for ELAN."""

import csv
import io
import json
import mimetypes
from collections.abc import Callable
from html import escape
from xml.etree import ElementTree as xml

from kuleshov.report.describe import OUTSIDE, EventDescription, FilmDescription, clock

XSI = "http://www.w3.org/2001/XMLSchema-instance"
COLUMNS = ("video", "start", "end", "verb", "probability", "verbs", "roles", "next", "next_probability")
COLUMNS += ("surprise", "distance", "outside", "alike", "lost", "trained_on")


def formatted(films: list[FilmDescription], format: str) -> str:
    """Films in a format, one after another; subtitles and annotations are of one film."""
    return FORMATS[format](films)


def _text(films: list[FilmDescription]) -> str:
    """For reading: a line an event, and what belongs to it below."""
    lines: list[str] = []
    for film in films:
        # the networks are the same for all
        lines += [film.trained_on] * (film is films[0]) + [f"# {film.video}"] * (len(films) > 1)
        lines += [f"({film.remark})"] * bool(film.remark)
        lines += [line for event in film.events for line in _event_lines(event)]
    return "\n".join(lines) + "\n"


def _event_lines(event: EventDescription) -> list[str]:
    begin, indent = f"{clock(event.start)}-{clock(event.end)}  ", " " * 13
    if event.lost:
        return [f"{begin}lost: {event.lost}"]
    if event.outside:
        return [f"{begin}{OUTSIDE} ({event.distance:.1f} times as far off as 99 % of its own events)"]
    lines = [begin + ", ".join(f"{verb} {chance:.2f}" for verb, chance in event.verbs)]
    if event.roles:
        lines.append(indent + _roles(event))
    if event.next is not None:
        lines.append(f"{indent}-> next: {event.next[0]} {event.next[1]:.2f}")
    return lines


def _roles(event: EventDescription) -> str:
    return "; ".join(f"{role}: {text}" for role, text in (event.roles or {}).items())


def _json(films: list[FilmDescription]) -> str:
    plain = [film.to_dict() for film in films]
    return json.dumps(plain[0] if len(plain) == 1 else plain, ensure_ascii=False, indent=1) + "\n"


def _csv(films: list[FilmDescription]) -> str:
    """A row an event; what the networks say of events outside their training is in it, and marked."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for film in films:
        for event in film.events:
            (verb, chance), (following, likely) = (event.verbs or [("", "")])[0], event.next or ("", "")
            ranked = "; ".join(f"{name} {p:.3f}" for name, p in event.verbs)
            alike = "; ".join(f"{start:g} s {cosine:.3f}" for start, cosine in event.alike)
            numbers = [_number(value) for value in (chance, likely, event.surprise, event.distance)]
            row = [film.video, event.start, event.end, verb, numbers[0], ranked, _roles(event), following, numbers[1]]
            row += [numbers[2], numbers[3], str(event.outside).lower(), alike, event.lost, film.trained_on]
            table.writerow(dict(zip(COLUMNS, row, strict=True)))
    return text.getvalue()


def _number(value: float | str | None) -> str:
    return f"{value:.4f}" if isinstance(value, float) else ""


def _caption(event: EventDescription) -> str:
    """What a subtitle says of an event: its verb and the texts of its roles; nothing of a lost one."""
    if not event.said:
        return f"({OUTSIDE})" if event.outside else ""
    texts = "\n" + ", ".join(event.roles.values()) if event.roles else ""
    return f"{event.verbs[0][0]} {event.verbs[0][1]:.2f}{texts}"


def _stamp(seconds: float, comma: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{comma}{rest % 1000:03d}"


def _cues(film: FilmDescription, comma: str) -> list[tuple[str, str]]:
    told = [(event, caption) for event in film.events if (caption := _caption(event))]
    return [(f"{_stamp(event.start, comma)} --> {_stamp(event.end, comma)}", caption) for event, caption in told]


def _srt(films: list[FilmDescription]) -> str:
    """SubRip; it has no comments, so that the first event's cue begins with what the networks were trained on."""
    cues = _cues(films[0], ",")
    cues = [(time, f"{films[0].trained_on}\n{text}" if i == 0 else text) for i, (time, text) in enumerate(cues)]
    return "\n".join(f"{number}\n{time}\n{text}\n" for number, (time, text) in enumerate(cues, 1))


def _vtt(films: list[FilmDescription]) -> str:
    """WebVTT; what the networks were trained on is a note."""
    cues = "\n".join(f"{time}\n{escape(text, quote=False)}\n" for time, text in _cues(films[0], "."))
    return f"WEBVTT\n\nNOTE {films[0].trained_on.replace('-->', '->')}\n\n{cues}"


def _elan(films: list[FilmDescription]) -> str:
    """ELAN's EAF 3.0: a tier each of verbs, roles, relations, surprise, and what is wrong with an event."""
    film = films[0]
    root = xml.Element("ANNOTATION_DOCUMENT", AUTHOR="kuleshov", DATE="1970-01-01T00:00:00+00:00", FORMAT="3.0")
    root.set("VERSION", "3.0")
    # readers of the format look for its schema
    xml.register_namespace("xsi", XSI)
    root.set(f"{{{XSI}}}noNamespaceSchemaLocation", "http://www.mpi.nl/tools/elan/EAFv3.0.xsd")
    header = xml.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    kind = mimetypes.guess_type(film.video.name)[0] or "video/*"
    xml.SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=film.video.absolute().as_uri(), MIME_TYPE=kind)
    xml.SubElement(header, "PROPERTY", NAME="trained on").text = film.trained_on
    order = xml.SubElement(root, "TIME_ORDER")
    for number, event in enumerate(film.events):
        for place, seconds in (("a", event.start), ("b", event.end)):
            slot = {"TIME_SLOT_ID": f"{place}{number}", "TIME_VALUE": str(round(seconds * 1000))}
            xml.SubElement(order, "TIME_SLOT", slot)
    for name, value in _TIERS.items():
        tier = xml.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="event", TIER_ID=name)
        for number, event in enumerate(film.events):
            if text := value(event):
                ends = {"TIME_SLOT_REF1": f"a{number}", "TIME_SLOT_REF2": f"b{number}"}
                outer = xml.SubElement(tier, "ANNOTATION")
                inner = xml.SubElement(outer, "ALIGNABLE_ANNOTATION", ANNOTATION_ID=f"{name}-{number}", **ends)
                xml.SubElement(inner, "ANNOTATION_VALUE").text = text
    aligned = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "event", "TIME_ALIGNABLE": "true"}
    xml.SubElement(root, "LINGUISTIC_TYPE", aligned)
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


_TIERS: dict[str, Callable[[EventDescription], str]] = {
    "verb": lambda event: f"{event.verbs[0][0]} {event.verbs[0][1]:.2f}" if event.said else "",
    "roles": lambda event: _roles(event) if event.said else "",
    "next": lambda event: f"{event.next[0]} {event.next[1]:.2f}" if event.said and event.next else "",
    "surprise": lambda event: "" if event.surprise is None else f"{event.surprise:.2f}",
    "unknown": lambda event: event.lost or (f"{OUTSIDE} ({event.distance:.1f})" if event.outside else ""),
}
FORMATS: dict[str, Callable[[list[FilmDescription]], str]] = {
    "text": _text,
    "json": _json,
    "csv": _csv,
    "srt": _srt,
    "vtt": _vtt,
    "elan": _elan,
}
