from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

from core.reporting.plots import describe_plot, draw
from models.pages import Plot, PlotLine

PLOT = Plot(
    title="Duration",
    unit="s",
    labels=("May", "June", "July"),
    lines=(PlotLine(name="mean", values=(2.0, None, 8.0)),),
)


def elements(svg: str, tag: str) -> list[ET.Element]:
    return [one for one in ET.fromstring(svg).iter() if one.tag == tag]


def test_a_plot_is_well_formed_and_named_for_screen_readers() -> None:
    svg = ET.fromstring(draw(PLOT, "plot-1"))

    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "plot-1-title plot-1-text"
    title, text = elements(draw(PLOT, "plot-1"), "title")[0], elements(draw(PLOT, "plot-1"), "desc")[0]
    assert (title.get("id"), title.text) == ("plot-1-title", "Duration")
    assert text.text == "mean: lowest 2 s (May), highest 8 s (July), last 8 s (July)."


def test_a_missing_value_is_a_gap_and_a_lone_point_is_a_dot() -> None:
    path = elements(draw(PLOT, "a"), "path")[0].get("d") or ""

    assert path.count("M") == 2
    assert "L" not in path
    assert len(elements(draw(PLOT, "a"), "circle")) == 2


def test_neighbours_are_joined() -> None:
    joined = replace(PLOT, lines=(PlotLine(name="mean", values=(2.0, 4.0, 8.0)),))
    path = elements(draw(joined, "a"), "path")[0].get("d") or ""

    assert (path.count("M"), path.count("L")) == (1, 2)


def test_the_axis_ends_at_a_round_number_above_all_values() -> None:
    ticks = [one.text for one in elements(draw(PLOT, "a"), "text")][:3]

    assert ticks == ["0", "5", "10"]


def test_a_given_axis_and_a_limit_are_drawn() -> None:
    plot = replace(PLOT, lowest=0.0, highest=100.0, limit=50.0)
    limit = next(one for one in elements(draw(plot, "a"), "line") if one.get("class") == "limit")

    assert [one.text for one in elements(draw(plot, "a"), "text")][:3] == ["0", "50", "100"]
    assert limit.get("y1") == limit.get("y2")


def test_hostile_words_stay_words() -> None:
    hostile = "</title><script>alert(1)</script>\x1b[2J\u202e"
    plot = replace(PLOT, title=hostile, labels=(hostile,) * 3, lines=(PlotLine(name=hostile, values=(1.0,) * 3),))
    svg = draw(plot, "a")

    assert "<script" not in svg
    assert "\x1b" not in svg
    assert "\u202e" not in svg
    assert not elements(svg, "script")


def test_nothing_to_draw_says_so() -> None:
    assert describe_plot(replace(PLOT, lines=())) == "No values."
    assert describe_plot(replace(PLOT, lines=(PlotLine(name="mean", values=(None,) * 3),))) == "mean: no values."
    assert not elements(draw(replace(PLOT, labels=(), lines=()), "a"), "path")


def test_equal_values_and_a_single_one_have_a_place() -> None:
    for values in ((0.0, 0.0, 0.0), (3.0, None, None)):
        for circle in elements(draw(replace(PLOT, lines=(PlotLine(name="mean", values=values),)), "a"), "circle"):
            assert 0 <= float(circle.get("cy") or -1) <= 170
    alone = replace(PLOT, labels=("May",), lines=(PlotLine(name="mean", values=(3.0,)),))
    assert len(elements(draw(alone, "a"), "circle")) == 1


def test_the_first_the_middle_and_the_last_label_are_below_the_axis() -> None:
    days = tuple("MTWXFSU")
    week = replace(PLOT, labels=days, lines=(PlotLine(name="mean", values=tuple(map(float, range(7)))),))

    shown = [text.text for text in elements(draw(week, "a"), "text") if text.text in days]

    assert sorted(shown) == sorted("MXU")
