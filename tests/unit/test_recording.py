"""metrics.csv: long format, exact numbers, and readable however it was cut off."""

from pathlib import Path

import pytest

from selector.recording import HEADER, History, Record, read_history

SEEDS = [3, 12]


def write(path: Path, steps: int = 3) -> History:
    history = History(SEEDS, path)
    history.start()
    for i in range(steps):
        values = {"val/regret": [1 / 3 + i, 0.1 * i], "seconds": [0.5 * i] * 2}
        history.append(Record(10 * i, 160 * i, values))
    return history


def test_what_was_written_is_read_back_exactly(tmp_path: Path) -> None:
    history = write(tmp_path / "metrics.csv")
    read = read_history(tmp_path / "metrics.csv")
    assert read.records == history.records
    assert list(read.seeds) == SEEDS
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == ",".join(HEADER)
    assert read.series("val/regret") == ([0, 160, 320], [r.values["val/regret"] for r in history.records])
    assert read.seconds_at(10) == 0.5


def test_every_cut_of_the_last_record_leaves_the_earlier_ones_whole(tmp_path: Path) -> None:
    """A crash may end the file at any byte: no shortened number may pass for a value."""
    path = tmp_path / "metrics.csv"
    whole = write(path).records
    content = path.read_bytes()
    start = content.index(b"20,320,")
    for end in range(start, len(content)):
        path.write_bytes(content[:end])
        records = read_history(path).records
        assert records[:2] == whole[:2]
        for record in records[2:]:
            for key, values in record.values.items():
                assert values == whole[2].values[key], content[start:end]


@pytest.mark.parametrize(
    "tail", [b"\x00\x00\x00", b"20,320,3,val/regret,0.\xff\xfe\n", b"20,\n", b"\n\n", b'20,320,3,"val']
)
def test_a_corrupt_tail_is_ignored(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    whole = write(path, steps=2).records
    path.write_bytes(path.read_bytes() + tail)
    assert read_history(path).records[:2] == whole


def test_resume_drops_what_came_after_the_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    whole = write(path).records
    path.write_bytes(path.read_bytes() + b"30,480,3,val/regret,0.2")
    history = History(SEEDS, path)
    history.resume(10)
    assert history.records == whole[:2]
    history.append(whole[2])
    assert read_history(path).records == whole


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="does not start with step,samples"):
        read_history(tmp_path / "other.csv")


def test_nan_and_infinity_are_kept(tmp_path: Path) -> None:
    history = History([0], tmp_path / "metrics.csv")
    history.start()
    history.append(Record(0, 0, {"a": [float("inf")], "b": [float("nan")]}))
    (record,) = read_history(tmp_path / "metrics.csv").records
    assert record.values["a"] == [float("inf")]
    assert record.values["b"][0] != record.values["b"][0]


def test_without_a_path_the_history_stays_in_memory() -> None:
    history = History([0])
    history.start()
    history.append(Record(0, 0, {"a": [1.0]}))
    assert history.series("a") == ([0], [[1.0]])
    assert history.series("missing") == ([], [])
