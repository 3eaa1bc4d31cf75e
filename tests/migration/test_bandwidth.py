"""Limits of bandwidth by time of day, and how those share one who run at once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest_framework.exceptions import ValidationError

from migration_app.bandwidth import (
    Limit,
    TimetableField,
    ZoneField,
    timetable_of_steps,
    timetable_of_text,
    timetable_text,
)
from migration_app.runners.shares import STALE_S, Shares, Use, share

MB = 10**6
DAY = {"from": "08:00", "to": "18:00", "limit": 2}
NIGHT = {"from": "22:00", "to": "06:00", "limit": 0, "days": ["fri"]}


def at(limit: Limit, text: str) -> float:
    """MB/s at an instant, in UTC unless it says otherwise."""
    instant = datetime.fromisoformat(text)
    return limit.at(instant if instant.tzinfo else instant.replace(tzinfo=UTC)) / MB


@pytest.mark.parametrize(
    ("clock", "allowed"),
    [("07:59:59", 9), ("08:00:00", 2), ("17:59:59.9", 2), ("18:00:00", 9), ("00:00:00", 9)],
)
def test_entry_holds_from_its_first_minute_to_before_its_last(clock: str, allowed: float) -> None:
    assert at(Limit(9, [DAY]), f"2026-11-27T{clock}") == allowed


@pytest.mark.parametrize(
    ("instant", "allowed"),
    [
        ("2026-11-26T23:00", 9),
        ("2026-11-27T05:00", 9),
        ("2026-11-27T22:00", 0),
        ("2026-11-28T05:59", 0),
        ("2026-11-28T06:00", 9),
        ("2026-11-28T22:00", 9),
    ],
)
def test_entry_over_midnight_belongs_to_the_day_on_which_it_begins(instant: str, allowed: float) -> None:
    assert at(Limit(9, [NIGHT]), instant) == allowed


def test_entry_that_ends_when_it_begins_lasts_a_day() -> None:
    limit = Limit(9, [{"from": "12:00", "to": "12:00", "limit": 1, "days": ["sat"]}])
    found = [at(limit, f"2026-11-{day}T{hour}:00") for day, hour in [(28, 11), (28, 12), (29, 11), (29, 12)]]
    assert found == [9, 1, 1, 9]


def test_first_entry_that_fits_holds() -> None:
    lunch = {"from": "12:00", "to": "13:00", "limit": 5}
    assert at(Limit(9, [lunch, DAY]), "2026-11-27T12:30") == 5
    assert at(Limit(9, [DAY, lunch]), "2026-11-27T12:30") == 2


@pytest.mark.parametrize(
    ("instant", "allowed"),
    [
        # Winter, one hour before UTC; summer, two.
        ("2026-01-15T06:59+00:00", 9),
        ("2026-01-15T07:00+00:00", 2),
        ("2026-07-15T05:59+00:00", 9),
        ("2026-07-15T06:00+00:00", 2),
        ("2026-07-15T15:59+00:00", 2),
        ("2026-07-15T16:00+00:00", 9),
    ],
)
def test_times_are_those_of_the_zones_clock(instant: str, allowed: float) -> None:
    assert at(Limit(9, [DAY], "Europe/Berlin"), instant) == allowed


def test_hour_that_comes_twice_counts_twice_and_one_that_is_left_out_never() -> None:
    limit = Limit(9, [{"from": "02:00", "to": "03:00", "limit": 1}], "Europe/Berlin")

    def minutes(day: str) -> int:
        begin = datetime.fromisoformat(f"{day}T00:00+00:00") - timedelta(hours=2)
        return sum(limit.at(begin + timedelta(minutes=number)) == MB for number in range(20 * 60))

    assert [minutes(day) for day in ("2026-03-29", "2026-03-30", "2026-10-25")] == [0, 60, 120]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("08:00,2", "Must be a list"),
        ([DAY] * 51, "more than 50"),
        (["08:00"], "Entry 1 must be an object"),
        ([DAY, DAY | {"until": "19:00"}], "Entry 2 has no field “until”"),
        ([DAY | {"from": "8:00"}], "“from” of entry 1"),
        ([DAY | {"to": "24:00"}], "“to” of entry 1"),
        ([{"from": "08:00", "to": "18:00"}], "“limit” of entry 1"),
        ([DAY | {"limit": "2"}], "“limit” of entry 1: Must be a number."),
        ([DAY | {"limit": -1}], "“limit” of entry 1: Must not be less than 0."),
        ([DAY | {"days": []}], "“days” of entry 1"),
        ([DAY | {"days": ["monday"]}], "“days” of entry 1"),
        ([DAY | {"days": [["mon"]]}], "“days” of entry 1"),
    ],
)
def test_timetable_that_means_nothing_is_refused(data: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TimetableField().run_validation(data)


def test_zone_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValidationError, match="no time zone"):
        ZoneField().run_validation("Europe/Atlantis")


def test_days_are_put_in_order_and_left_out_when_they_are_all() -> None:
    every = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
    data = [DAY | {"days": every}, DAY | {"days": ["sun", "mon", "mon"]}, DAY | {"days": None}]
    assert TimetableField().run_validation(data) == [DAY, DAY | {"days": ["mon", "sun"]}, DAY]


@pytest.mark.parametrize(
    "text", ["08:00-18:00 2", "mon-fri 08:00-18:00 0.25\nsat,sun 00:00-00:00 off", "wed 22:00-06:00 1000000"]
)
def test_text_of_a_timetable_reads_as_the_same_one(text: str) -> None:
    assert timetable_text(timetable_of_text(text)) == text


def test_days_may_go_over_the_weeks_end_and_lines_hold_blanks() -> None:
    assert timetable_of_text("\n  Fri-Mon   08:00-18:00  2 \r\n") == [
        DAY | {"days": ["mon", "fri", "sat", "sun"]}
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("08:00", "08:00-18:00", "8-18 2", "08:00-18:00 fast", "08:00-18:00 -1", "08:00-18:00 nan"),
        *("mo-fr 08:00-18:00 2", "mon fri 08:00-18:00 2", "2"),
    ],
)
def test_line_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        timetable_of_text(text)


def test_steps_hold_until_the_next_one() -> None:
    assert timetable_of_steps("18:00,off 08:00,2 12:00,0.5") == [
        {"from": "08:00", "to": "12:00", "limit": 2},
        {"from": "12:00", "to": "18:00", "limit": 0.5},
        {"from": "18:00", "to": "08:00", "limit": 0},
    ]
    assert at(Limit(9, timetable_of_steps("08:00,2")), "2026-11-27T03:00") == 2


@pytest.mark.parametrize("text", ["fast", "08:00", "08:00,", "8:00,2", "08:00,2 18:00,fast"])
def test_steps_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        timetable_of_steps(text)


class Sharers:
    """Who takes part, each of whom could use so much and says every half second what it used."""

    def __init__(self, **could_use: float) -> None:
        self.could_use = could_use
        self.shares: Shares = {}
        self.given: dict[str, float] = {}
        self.now = 1000.0

    def using(self, who: str) -> float:
        return min(self.could_use[who], self.given.get(who, 0.0))

    def sums(self, limit: float, *, seconds: float) -> list[float]:
        """What all of them use together, step by step, as one after the other says so."""
        found = []
        for _ in range(int(seconds * 2)):
            for who in self.could_use:
                self.now += 0.5 / len(self.could_use)
                use = Use(self.using(who), self.given[who]) if who in self.given else None
                self.given[who] = share(self.shares, who, limit=limit, use=use, now=self.now)
                found.append(sum(map(self.using, self.could_use)))
        return found


def test_sum_is_the_limit_while_anybody_would_take_more() -> None:
    them = Sharers(idle=0, slow=10, fast=1000, faster=1000)
    them.sums(100, seconds=5)
    assert them.sums(100, seconds=10) == [pytest.approx(100, rel=0.01)] * 80
    assert (them.using("slow"), them.using("fast")) == (10, pytest.approx(45, rel=0.01))


def test_what_all_can_use_is_theirs() -> None:
    them = Sharers(one=10, other=20)
    them.sums(100, seconds=3)
    assert them.sums(100, seconds=3)[-1] == 30


def test_one_who_comes_gets_his_part_and_the_sum_never_gets_above_the_limit() -> None:
    them = Sharers(one=1000)
    them.sums(100, seconds=3)
    them.could_use |= {"two": 1000, "three": 1000}
    assert max(them.sums(100, seconds=5)) < 103
    assert [them.using(who) for who in them.could_use] == [pytest.approx(100 / 3, rel=0.01)] * 3


def test_limit_that_is_changed_holds_when_all_have_heard_of_it() -> None:
    them = Sharers(one=1000, two=1000, three=1000)
    them.sums(100, seconds=3)
    assert max(them.sums(20, seconds=5)[3:]) < 24
    assert them.sums(20, seconds=1)[-1] == pytest.approx(20, rel=0.01)
    assert them.sums(300, seconds=2)[-1] == pytest.approx(300, rel=0.01)


def test_part_of_one_who_is_gone_goes_to_the_others() -> None:
    them = Sharers(one=1000, gone=1000)
    them.sums(100, seconds=3)
    del them.could_use["gone"]
    assert them.sums(100, seconds=STALE_S + 1)[-1] == pytest.approx(100, rel=0.01)


def test_one_who_used_little_grows_to_an_even_share() -> None:
    them = Sharers(one=1000, other=1)
    them.sums(100, seconds=3)
    them.could_use["other"] = 1000
    them.sums(100, seconds=3)
    assert them.using("other") == pytest.approx(50, rel=0.01)


def test_one_who_had_to_wait_gets_an_even_share_however_little_he_used() -> None:
    shares: Shares = {"other": (50.0, True, 1000.0)}
    assert share(shares, "late", limit=100, use=Use(0.0, 1.0, held=0.9), now=1000.0) == 50
    assert share(shares, "idle", limit=100, use=Use(0.0, 1.0, held=0.1), now=1000.0) < 5
