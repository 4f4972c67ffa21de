"""What runs are called."""

from collections.abc import Callable
from pathlib import Path

from selector.report.labels import Names, by_problem, natural
from selector.report.runs import Run, read_run

RunFolder = Callable[..., Path]


def named(runs: Path) -> tuple[Names, dict[str, Run]]:
    """What the runs in a folder are called, and the runs by their labels, in the order of these."""
    found = [read_run(folder) for folder in sorted(runs.iterdir())]
    names = Names(by_problem(found))
    return names, {names.label(run): run for run in sorted(found, key=lambda run: natural(names.label(run)))}


def test_labels_are_strategies_when_nothing_else_differs(run_folder: RunFolder, runs: Path) -> None:
    # The temperature follows from the strategy's yaml: no news.
    run_folder("a", strategy="st_gumbel", choices={"tau": "exponential"})
    run_folder("b", strategy="softmax")
    run_folder("c", strategy="st_argmax", choices={"tau": "argmax"}, settings={"tau": {"value": 0.6}})
    assert list(named(runs)[1]) == ["softmax", "st_argmax", "st_gumbel"]


def test_labels_name_the_network_and_settings_that_differ(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a")
    run_folder("b", settings={"network": {"width": 32}})
    run_folder("c", choices={"network": "pointer"}, settings={"network": {"width": 64}})
    run_folder("d", strategy="softmax", settings={"optimizer": {"lr": 0.1}})
    assert set(named(runs)[1]) == {
        "st_gumbel · network=mlp · network.width=16 · optimizer.lr=0.002",
        "st_gumbel · network=mlp · network.width=32 · optimizer.lr=0.002",
        "st_gumbel · network=pointer · network.width=64 · optimizer.lr=0.002",
        "softmax · network=mlp · network.width=16 · optimizer.lr=0.1",
    }


def test_labels_name_tau_where_one_strategy_had_several(run_folder: RunFolder, runs: Path) -> None:
    for value in (0.5, 10.0, 2.0):
        run_folder(f"g{value}", settings={"tau": {"value": value}}, overrides=[f"tau.value={value}"])
    run_folder("softmax", strategy="softmax")
    names, found = named(runs)
    taus = ["tau.value=0.5", "tau.value=2.0", "tau.value=10.0"]  # by size, not by letters
    assert list(found) == ["softmax", *(f"st_gumbel · {tau}" for tau in taus)]
    assert {names.family(found[f"st_gumbel · {tau}"]) for tau in taus} == {"st_gumbel"}


def test_titles_name_what_sets_problems_of_one_name_apart(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a")
    run_folder("b", settings={"problem": {"N": 16}})
    run_folder("c", choices={"problem": "sum_target"})
    found = [read_run(runs / name) for name in ("a", "b", "c")]
    assert by_problem(found) == [[run] for run in found]
    titles = [Names(by_problem(found)).title(run) for run in found]
    assert titles == ["seed_question · problem.N=8", "seed_question · problem.N=16", "sum_target · problem.N=8"]
