"""What the command writes: the page, the figures, the table."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from selector.__main__ import main
from selector.report import figures, page
from selector.report.collect import collect
from selector.report.command import report
from selector.report.comparison import Comparison, compare
from selector.report.palette import Style, assign
from selector.report.plots import LinePlot, MatrixPlot, StripPlot, drawn

RunFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def everything(write_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that give every figure: two strategies, temperatures, gradients, a failed seed, an unfinished run."""
    runs = tmp_path_factory.mktemp("runs")
    extra = {
        key: lambda seed, step: 0.1 + 0.01 * seed + 1e-4 * step for key in ("grad/bias", "grad/std", "grad/cosine")
    }
    write_run(runs / "a", settings={"tau": {"value": 0.5}}, extra=extra, overrides=["tau.value=0.5"])
    write_run(runs / "b", settings={"tau": {"value": 2.0}}, nan={1: 50}, overrides=["tau.value=2.0"])
    write_run(runs / "c", strategy="st_argmax", value=lambda seed, _: 1 + 0.001 * seed)
    write_run(runs / "d", strategy="<b>soft</b>&max", steps=(0, 25), finished=False, seeds=range(3))
    return runs


@pytest.fixture(scope="module")
def out(everything: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on them; its folder is for reading only."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "printed.txt").write_text(write(everything, folder / "out"))
    return folder / "out"


def write(folder: Path, out: Path) -> str:
    printed = io.StringIO()
    report([folder], out, Console(file=printed, width=100), "python -m selector report x")
    return printed.getvalue()


def styled(folder: Path) -> tuple[Comparison, dict[str, Style]]:
    (comparison,) = compare(collect([folder]))
    return comparison, assign((s.label, s.strategy) for s in comparison.standings)


def test_everything_is_written(out: Path) -> None:
    printed = (out.parent / "printed.txt").read_text()
    names = ["regret_samples", "regret_seconds", "final_regret", "performance_profile", "probability", "logit_spread"]
    names += ["gradient_bias", "gradient_std", "gradient_cosine", "sensitivity_tau"]
    expected = {"report.html", "summary.csv", *(f"figures/{name}.{e}" for name in names for e in ("png", "pdf"))}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == expected
    assert (out / "figures" / "probability.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "figures" / "probability.pdf").read_bytes().startswith(b"%PDF")
    assert "seed 1: failed: val/soft_loss is nan from sample 500 on; counted as worst." in printed
    assert "Fewer than five seeds" in printed
    assert str(out / "report.html") in printed


def test_the_page_loads_nothing(out: Path) -> None:
    text = (out / "report.html").read_text(encoding="utf-8")
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # Plotly's own text names sites it may link to
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", ours)
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=(?!\"data:)", text)
    assert "default-src 'none'" in text


def test_the_page_escapes_names(out: Path) -> None:
    text = re.sub(r"<script.*?</script>", "", (out / "report.html").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "<b>soft</b>" not in text
    assert "&lt;b&gt;soft&lt;/b&gt;&amp;max" in text


def test_the_page_says_what_matters(out: Path) -> None:
    text = (out / "report.html").read_text(encoding="utf-8")
    for words in (
        "python -m selector report x",
        "exact oracle (slot by slot)",
        "budget 1,000 samples per seed",
        "Fewer than five seeds",
        "unfinished: 250 of 1,000 samples",
        "torch 2.13.0",
        "beats",
    ):
        assert words in text


def test_figures_on_the_page_are_valid_and_equal_the_statistics(out: Path, everything: Path) -> None:
    text = (out / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, flags=re.DOTALL)
    assert found is not None
    specs: dict[str, Any] = json.loads(found[1])
    for spec in specs.values():
        go.Figure(spec)  # refuses what Plotly does not know
        assert not spec["layout"]["showlegend"]
    comparison, _ = styled(everything)
    for plot in comparison.plots:
        if isinstance(plot, LinePlot):
            lines = [trace for trace in specs[f"s0-{plot.name}"]["data"] if "name" in trace]
            assert [trace["meta"] for trace in lines] == [curve.label for curve in plot.curves]
            for trace, curve in zip(lines, plot.curves, strict=True):
                shown = np.array([np.nan if y is None else y for y in trace["y"]])
                finite = np.isfinite(curve.y.estimate)
                np.testing.assert_allclose(shown[finite], drawn(curve.y.estimate, plot.y)[finite], rtol=1e-5)
                assert np.isnan(shown[~finite]).all()
        if isinstance(plot, StripPlot):
            dots = [t for t in specs[f"s0-{plot.name}"]["data"] if t.get("marker", {}).get("opacity")]
            assert sum(len(trace["x"]) for trace in dots) == sum(np.isfinite(s.finals).sum() for s in plot.standings)


def test_matplotlib_figures_equal_the_statistics(everything: Path) -> None:
    comparison, styles = styled(everything)
    for plot in comparison.plots:
        figure = figures.draw(plot, comparison.title, styles)
        assert isinstance(figure, Figure)
        axes = figure.axes[0]
        if isinstance(plot, LinePlot):
            by_label = {line.get_label(): line for line in axes.lines}
            for curve in plot.curves:
                line = by_label[curve.label]
                shown, finite = np.asarray(line.get_ydata()), np.isfinite(curve.y.estimate)
                np.testing.assert_array_equal(shown[finite], drawn(curve.y.estimate, plot.y)[finite])
                assert line.get_color() == styles[curve.label].color
        if isinstance(plot, MatrixPlot):
            assert len(axes.texts) == len(plot.labels) * (len(plot.labels) - 1)


def test_every_label_has_one_look_everywhere() -> None:
    several = assign([("a · x=1", "a"), ("a · x=2", "a"), ("b", "b")])
    assert len({(style.color, style.dash, style.marker) for style in several.values()}) == 3
    many = assign([(str(i), str(i)) for i in range(20)])
    assert len({(style.color, style.dash, style.marker) for style in many.values()}) == 20
    assert assign([("b", "b"), ("a", "a")]) == assign([("a", "a"), ("b", "b")])


def test_summary_holds_the_ranking(out: Path, everything: Path) -> None:
    with (out / "summary.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    comparison, _ = styled(everything)
    assert [row["label"] for row in rows] == [s.label for s in comparison.standings]
    for row, standing in zip(rows, comparison.standings, strict=True):
        assert float(row["regret_iqm"]) == float(standing.regret.estimate)
        assert float(row["regret_high"]) == float(standing.regret.high)
        assert (int(row["seeds"]), int(row["failed"])) == (len(standing.seeds), len(standing.failures))
    assert float(rows[-1]["regret_worst"]) == np.inf
    assert rows[0]["next"] == rows[1]["label"]
    assert rows[-1]["next"] == ""


def test_the_same_input_gives_the_same_files(out: Path, everything: Path, tmp_path: Path) -> None:
    write(everything, tmp_path)
    for path in (p for p in out.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(out)).read_bytes(), path


def test_other_files_in_the_folder_stay(run_folder: RunFolder, runs: Path, tmp_path: Path) -> None:
    run_folder()
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    (out / "figures" / "mine.png").write_text("mine")
    (out / "summary.csv").write_text("old")
    write(runs, out)
    assert (out / "notes.txt").read_text() == (out / "figures" / "mine.png").read_text() == "mine"
    assert (out / "summary.csv").read_text() != "old"
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]


def test_several_problems_have_figures_of_their_own(run_folder: RunFolder, runs: Path, tmp_path: Path) -> None:
    for problem in ("seed_question", "teacher"):
        for strategy in ("st_gumbel", "softmax"):
            run_folder(f"{problem}-{strategy}", strategy=strategy, choices={"problem": problem})
    write(runs, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {f"{prefix}-final_regret.pdf" for prefix in ("All_problems_together", "seed_question", "teacher")} <= names


def test_without_plotly_the_rest_is_written(
    run_folder: RunFolder, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder()
    monkeypatch.setattr(page, "can_write", lambda: False)
    printed = write(runs, tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "out" / "summary.csv").exists()
    assert (tmp_path / "out" / "figures" / "final_regret.png").exists()
    assert printed.splitlines()[-1] == 'The page report.html needs plotly: pip install "selector[report]"'


def test_bad_input_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error == f"error: folder={tmp_path / 'empty'}: no run is here or below it\n"
    assert not (tmp_path / "out").exists()


def test_an_unreadable_file_writes_nothing(
    run_folder: RunFolder, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder("a")
    (run_folder("b") / "result.json").write_text("{")
    assert main(["report", str(runs), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_out_that_is_a_file_is_refused(
    run_folder: RunFolder, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder()
    (tmp_path / "out").write_text("mine")
    assert main(["report", str(runs), "--out", str(tmp_path / "out")]) == 2
    assert "--out" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_the_command_quotes_itself(run_folder: RunFolder, runs: Path, tmp_path: Path) -> None:
    run_folder()
    out = tmp_path / "my report"
    assert main(["report", str(runs), "--out", str(out)]) == 0
    text = (out / "report.html").read_text(encoding="utf-8")
    assert f"python -m selector report {runs} --out &#x27;{out}&#x27;" in text


def test_a_run_that_only_just_began(run_folder: RunFolder, runs: Path, tmp_path: Path) -> None:
    run_folder("a", steps=(0,), finished=False, seeds=[0])
    printed = write(runs, tmp_path / "out")
    assert "unfinished: 0 of 1,000 samples" in printed
    assert (tmp_path / "out" / "figures" / "regret_samples.pdf").exists()
