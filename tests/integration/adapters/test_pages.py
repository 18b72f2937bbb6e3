"""A page is one file that loads nothing; what others wrote is text in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from adapters.pages import page_html
from models.pages import Items, Lines, Page, Plot, PlotLine, Section, Table, Text

HOSTILE = '</pre></td><script>alert(1)</script><img src=x onerror="alert(2)">\x1b]52;c;AAAA\x07\u202e{{ 7 * 7 }}'


class Parsed(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(text: str) -> Page:
    table = Table(caption=text, head=(text, "n"), rows=((text, "1"), (text, "2")), numbers=frozenset({1}), omitted=3)
    plot = Plot(title=text, unit=text, labels=(text, text), lines=(PlotLine(name=text, values=(1.0, 2.0)),))
    folded = Table(caption=text, head=(text,), rows=((text,),), folded=True)
    return Page(
        title=text,
        subtitle=text,
        sections=(
            Section(heading="One", blocks=(Text(text=text), Items(items=(text,)), Lines(caption=text, lines=(text,)))),
            Section(heading="Two", blocks=(table, plot, plot, folded)),
        ),
    )


def test_hostile_text_is_shown_as_text() -> None:
    html = page_html(page(HOSTILE))
    parsed = Parsed(html)

    assert not parsed.all("script")
    assert not parsed.all("img")
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert "alert(1)" in "".join(parsed.texts)
    assert "{{ 7 * 7 }}" in "".join(parsed.texts)
    assert not re.search("[\x1b\x07\u202e]", html)


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = page_html(page("plain"))
    parsed = Parsed(html)

    assert not [one for one in parsed.tags if one[0] in ("link", "script", "iframe", "img", "object")]
    assert not any("src" in attributes for _, attributes in parsed.tags)
    assert all((attributes["href"] or "").startswith("#") for attributes in parsed.all("a"))
    assert "url(" not in html
    assert "@import" not in html
    policy = next(one["content"] for one in parsed.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_a_page_can_be_read_by_a_screen_reader() -> None:
    parsed = Parsed(page_html(page("plain")))

    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("h1")) == 1
    assert all(one.get("scope") in ("col", "row") for one in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table")) == 2
    ids = [one["id"] for _, one in parsed.tags if "id" in one]
    assert len(ids) == len(set(ids))
    named = [one["aria-labelledby"] or "" for _, one in parsed.tags if "aria-labelledby" in one]
    assert {name for names in named for name in names.split()} <= set(ids)
    assert {(one["href"] or "")[1:] for one in parsed.all("a")} <= set(ids)


def test_colours_follow_the_reader_and_the_page_fits_a_telephone_and_paper() -> None:
    html = page_html(page("plain"))

    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media print" in html
    assert 'content="width=device-width, initial-scale=1"' in html


def test_rows_that_are_left_out_are_counted() -> None:
    assert "3 more are not shown." in page_html(page("plain"))


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    brighter, darker = sorted((light(one), light(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_text_and_lines_stand_out_from_the_page_in_both_schemes() -> None:
    styles = re.findall(r":root \{(.*?)\}", page_html(page("plain")), flags=re.DOTALL)
    for style in styles[:2]:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", style))
        for name in ("text", "muted", "first", "second", "limit"):
            assert contrast(colours[name], colours["page"]) >= 4.5, name
