from datetime import UTC, datetime

import pytest

from sessions_app.timetable import BadCron, BadZone, Timetable, zone_names


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def runs(cron: str, zone: str, after: str, count: int) -> list[str]:
    return [f"{run:%m-%d %H:%M}" for run in Timetable(cron, zone).runs(at(after), count)]


def test_runs_are_those_of_the_zone():
    assert runs("0 3 * * *", "Europe/Berlin", "2026-11-27T12:00Z", 2) == ["11-28 02:00", "11-29 02:00"]
    assert runs("0 3 * * *", "America/New_York", "2026-11-27T12:00Z", 1) == ["11-28 08:00"]
    assert runs("30 22 * * mon-fri", "UTC", "2026-11-27T23:00Z", 2) == ["11-30 22:30", "12-01 22:30"]
    assert runs("0 4 L * *", "UTC", "2026-01-31T12:00Z", 2) == ["02-28 04:00", "03-31 04:00"]


def test_time_that_does_not_exist_is_the_next_one_that_does():
    # In Berlin 02:00 to 03:00 is left out on 29 March 2026; 03:00 there is 01:00 UTC.
    expected = ["03-28 01:30", "03-29 01:00", "03-30 00:30"]
    assert runs("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00Z", 3) == expected
    assert runs("30 2 * * *", "America/New_York", "2026-03-08T06:00Z", 2) == ["03-08 07:00", "03-09 06:30"]


def test_several_times_that_do_not_exist_are_one_run():
    assert runs("0,15,30 2 * * *", "Europe/Berlin", "2026-03-29T00:00Z", 2) == ["03-29 01:00", "03-30 00:00"]


def test_time_that_exists_twice_is_the_first_one_only():
    # In Berlin 02:00 to 03:00 comes twice on 25 October 2026: from 00:00 and from 01:00 UTC.
    expected = ["10-25 00:30", "10-26 01:30"]
    assert runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", 2) == expected
    # Asked for within the second one, too: there is no way back into the first.
    for minute in ("00:31", "00:59", "01:00", "01:29", "01:31", "01:59"):
        assert runs("30 2 * * *", "Europe/Berlin", f"2026-10-25T{minute}Z", 1) == ["10-26 01:30"]


def test_every_hour_has_its_turn_however_often_the_clock_shows_it():
    expected = ["10-24 23:00", "10-25 00:00", "10-25 01:00", "10-25 02:00"]
    assert runs("0 * * * *", "Europe/Berlin", "2026-10-24T22:30Z", 4) == expected
    expected = ["03-29 00:00", "03-29 01:00", "03-29 02:00"]
    assert runs("0 * * * *", "Europe/Berlin", "2026-03-28T23:30Z", 3) == expected


def test_runs_never_go_back_or_repeat_in_a_year_of_odd_zones():
    for zone in ("Australia/Lord_Howe", "Europe/Dublin", "Africa/Casablanca", "Pacific/Apia"):
        for cron in ("*/20 1-3 * * *", "15,45 2 * * *", "0 */3 * * *"):
            found = Timetable(cron, zone).runs(at("2026-01-01T00:00Z"), 1500)
            assert found == sorted(set(found))


def test_last_run_is_at_or_before_an_instant():
    table = Timetable("0 3 * * *", "Europe/Berlin")
    assert table.last(at("2026-11-28T02:00:00.5Z")) == at("2026-11-28T02:00Z")
    assert table.last(at("2026-11-28T02:00Z")) == at("2026-11-28T02:00Z")
    assert table.last(at("2026-11-28T01:59:59Z")) == at("2026-11-27T02:00Z")


def test_words_say_when():
    assert Timetable("0 3 * * *", "UTC").words == "At 03:00 every day"
    assert Timetable("0 22 * * 1-5", "UTC").words == "At 22:00 on Monday through Friday"


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("", "five fields"),
        ("@daily", "five fields"),
        ("* * * * * *", "five fields"),
        ("0 3 * *", "this has 4"),
        ("60 * * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 3 0 * *", "day of month"),
        ("0 3 * 13 *", "month"),
        ("0 3 * * 8", "day of week"),
        ("*/0 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("٣ * * * *", "minute"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("0 0 30 2 */7", "never comes"),
        ("0 3 * * *" + " " * 200, "five fields"),
    ],
)
def test_expression_that_means_nothing_is_refused(cron, said):
    with pytest.raises(BadCron, match=said):
        Timetable(cron, "UTC")


@pytest.mark.parametrize("zone", ["", "Europe/Berln", "../../etc/passwd", "europe/berlin", "CEST", "UTC\0"])
def test_unknown_zone_is_refused(zone):
    with pytest.raises(BadZone, match="is no time zone"):
        Timetable("0 3 * * *", zone)


def test_zones_to_choose_from_are_all_known():
    assert {"UTC", "Europe/Berlin", "America/Argentina/Ushuaia"} <= set(zone_names())
    for name in zone_names():
        Timetable("0 3 * * *", name)
