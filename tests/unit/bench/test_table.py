from tests.bench.table import Record, Row, Spread, dumps, loads, merged, rendered, shown


def a_record(**fields: object) -> Record:
    row = {
        "benchmark": "bus: publish",
        "unit": "messages/s",
        "ours": Spread(90.0, 100.0, 120.0),
        "peer": Spread(180.0, 200.0, 210.0),
        "peer_name": "sqlite3",
    }
    return Record(row=Row(**row | fields), commit="abc123", date="2025-01-31", cpu="A CPU", cores=2)


def cells(record: Record) -> list[str]:
    line = rendered([record]).splitlines()[2]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_spread_is_minimum_median_and_maximum():
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == (1.0, 2.5, 10.0)


def test_the_ratio_is_above_one_when_ours_does_more_a_second():
    assert a_record(ours=Spread(1.0, 300.0, 900.0)).row.ratio == 1.5


def test_the_ratio_is_above_one_when_ours_takes_less_time():
    assert a_record(lower_is_better=True).row.ratio == 2.0


def test_a_line_shows_every_column():
    record = a_record(
        limit=Spread(400.0, 400.0, 400.0),
        limit_name="the disk",
        goal="not slower",
        met=False,
        threads=2,
    )
    assert cells(record) == [
        "bus: publish",
        "100 messages/s (90 to 120)",
        "200 messages/s (180 to 210), sqlite3",
        "0.50",
        "400 messages/s (400 to 400), the disk",
        "not slower",
        "**no**",
        "abc123",
        "2025-01-31",
        "A CPU",
        "2",
        "2",
    ]


def test_a_row_without_goal_and_limit_says_so():
    assert cells(a_record())[4:7] == ["the peer", "none", "-"]


def test_a_bar_in_a_cell_does_not_end_it():
    assert r"a \| b" in rendered([a_record(goal="a | b", met=True)])


def test_notes_stand_below_the_table_under_the_name():
    table = rendered([a_record(notes="equal bits")])
    assert table.endswith("\n\n- **bus: publish**: equal bits\n")


def test_figures_keep_three_digits():
    assert shown(Spread(0.012345, 12.345, 1234567.8), "s") == "12.3 s (0.0123 to 1,234,568)"


def test_records_survive_their_file():
    records = [a_record(), a_record(benchmark="other", limit=Spread(1.0, 2.0, 3.0), met=True)]
    assert loads(dumps(records)) == records


def test_a_new_record_takes_the_place_of_the_old_one():
    old = [a_record(), a_record(benchmark="other")]
    new = [a_record(ours=Spread(1.0, 1.0, 1.0)), a_record(benchmark="third")]
    assert merged(old, new) == [new[0], old[1], new[1]]
