"""Commands beside training: ``python -m selector <command>``."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

from selector.allocation import keep_memory
from selector.bench import SECTIONS
from selector.errors import InvalidInput, check_at_least
from selector.stopping import Stopped, TerminateAsStopped

if TYPE_CHECKING:
    from selector.search import Search

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 not all runs could be sent or not every metric was the same again, 2 bad input,
        3 training failed, 130 interrupted, 143 stopped by SIGTERM.
    """
    parser = argparse.ArgumentParser(prog="python -m selector", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    evaluating = commands.add_parser("evaluate", help="measure a finished run again and print its table")
    evaluating.add_argument("run", type=Path, help="a run folder, such as outputs/<name>")
    evaluating.add_argument("--checkpoint", choices=["last", "best"], default="last")
    evaluating.add_argument("--figure", type=Path, metavar="PNG", help="draw the S x N logits of one held-out list")
    evaluating.add_argument("--trust", nargs="+", default=[], metavar="PACKAGE", help="as the key trust of train.py")
    _add_search(evaluating)
    evaluating.set_defaults(do=_evaluate)
    predicting = commands.add_parser("predict", help="let a trained selector choose from lists in a file")
    _add_trained(predicting)
    predicting.add_argument("items", type=Path, help="a .npy, .npz, .csv or .parquet file, as for items=file")
    predicting.add_argument("--out", type=Path, required=True, metavar="NPZ", help="where the picks go")
    predicting.add_argument("--list-id", help="tables: the column of list ids (default: as trained)")
    predicting.add_argument("--features", nargs="+", help="tables: the feature columns (default: as trained)")
    predicting.add_argument("--context", nargs="+", help="tables: the context columns (default: as trained)")
    _add_search(predicting)
    predicting.set_defaults(do=_predict)
    exporting = commands.add_parser("export", help="write a trained selector to a file that runs without this package")
    _add_trained(exporting)
    exporting.add_argument("--format", choices=["torch", "onnx"], required=True)
    exporting.add_argument("--out", type=Path, help="default: selector.pt2 or selector.onnx in the run folder")
    exporting.set_defaults(do=_export)
    reproducing = commands.add_parser("reproduce", help="run a run again, and say whether every metric is the same")
    reproducing.add_argument("run", type=Path, help="a finished run's folder")
    reproducing.add_argument("--out", type=Path, help="the new run's folder (default: <run>-again)")
    reproducing.add_argument("--trust", nargs="+", default=[], metavar="PACKAGE", help="as the key trust of train.py")
    reproducing.set_defaults(do=_reproduce)
    probing = commands.add_parser("probe", help="bias and variance of gradient estimators on a problem")
    probing.add_argument("overrides", nargs="*", help="as for train.py: problem=sum_target strategy=st_sampled,reinmax")
    probing.add_argument("--tau", type=float, nargs="+", default=[], help="default: first and last of the schedule")
    probing.add_argument("--lists", type=int, default=32, help="item lists (default: 32)")
    probing.add_argument("--draws", type=int, default=1000, help="gradients drawn for every list (default: 1000)")
    probing.add_argument("--logit-std", type=float, default=1.0, help="spread of random logits (default: 1)")
    probing.add_argument("--run", type=Path, help="take problem and logits from this run's trained network instead")
    probing.add_argument("--figure", type=Path, default=Path("outputs/probe.png"), metavar="PNG")
    probing.set_defaults(do=_probe)
    features = commands.add_parser("features", help="choose columns of a table; compare with other methods")
    features.add_argument("overrides", nargs="*", help="as for train.py: problem=breast_cancer problem.S=5 seeds=10")
    features.add_argument("--figure", type=Path, default=Path("outputs/features.png"), metavar="PNG")
    features.set_defaults(do=_features)
    reporting = commands.add_parser("report", help="compare runs: a page, figures and a table")
    reporting.add_argument("folders", type=Path, nargs="+", help="run folders, or folders that hold some")
    reporting.add_argument("--out", type=Path, default=Path("outputs/report"), help="where to (default: %(default)s)")
    reporting.set_defaults(do=_report)
    dashboard = commands.add_parser("dashboard", help="create the W&B workspace that compares strategies")
    dashboard.add_argument("--entity", required=True, help="W&B user or team")
    dashboard.add_argument("--project", required=True, help="W&B project, such as logger.project")
    dashboard.add_argument("--problem", help="show only runs of this problem (default: all)")
    dashboard.add_argument("--json", action="store_true", help="print the workspace instead; needs no network, no key")
    dashboard.set_defaults(do=_dashboard)
    syncing = commands.add_parser("sync", help="send runs to W&B that were logged offline")
    syncing.add_argument("runs", type=Path, nargs="*", help="run folders, or folders that hold some (default: all)")
    syncing.add_argument("--wandb", type=Path, default=Path("outputs/wandb"), help="W&B's files (default: %(default)s)")
    syncing.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    syncing.set_defaults(do=_sync)
    tuning = commands.add_parser("tune", help="search for hyper-parameters; run again to go on, twice for two workers")
    tuning.add_argument("file", type=Path, help="a yaml as in sweeps/tune/")
    tuning.add_argument("--trials", type=int, help="in all, over all times it is run (default: the file's n_trials)")
    tuning.add_argument("--out", type=Path, help="the study's folder (default: outputs/tune/<name of the file>)")
    tuning.set_defaults(do=_tune)
    benching = commands.add_parser("bench", help="time and memory against hand-written PyTorch, as ratios")
    benching.add_argument("--only", nargs="+", choices=SECTIONS, default=[], help="sections (default: all)")
    benching.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    benching.add_argument("--json", type=Path, help="write the rows to this file")
    benching.add_argument("--figure", type=Path, metavar="PNG", help="draw how the cost of a step grows")
    benching.set_defaults(do=_bench)
    arguments = parser.parse_args(argv)
    arguments.argv = sys.argv[1:] if argv is None else argv
    keep_memory()  # before torch is imported, as train.py does
    try:
        do: Command = arguments.do
        return do(arguments)
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("interrupted", file=sys.stderr)
        return stop.exit_code if isinstance(stop, Stopped) else 130


def _explained(do: Command) -> Command:
    """For a command that composes configurations: what Hydra finds wrong with them is one line, exit code 2."""

    @wraps(do)
    def command(arguments: argparse.Namespace) -> int:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        try:
            return do(arguments)
        except (HydraException, OmegaConfBaseException) as error:
            from selector.composing import CONFIGS
            from selector.explain import explain

            print(f"error: {explain(error, CONFIGS)}", file=sys.stderr)
            return 2

    return command


def _add_trained(parser: argparse.ArgumentParser) -> None:
    """The options by which a trained selector is named."""
    parser.add_argument("run", type=Path, help="a run folder, such as outputs/<name>")
    parser.add_argument("--seed", type=int, help="which of its seeds (default: that of the lowest held-out regret)")
    parser.add_argument("--checkpoint", choices=["last", "best"], default="best", help="default: best")
    parser.add_argument("--trust", nargs="+", default=[], metavar="PACKAGE", help="as the key trust of train.py")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def _add_search(parser: argparse.ArgumentParser) -> None:
    """The options by which the critic improves what the network chose."""
    sweeps = "improve every choice with the critic: go over all slots so often, and try every item in each"
    parser.add_argument("--search", type=int, metavar="SWEEPS", help=sweeps)
    parser.add_argument("--width", type=int, help="choices that the search keeps for every list (default: 4)")


def _search(arguments: argparse.Namespace) -> "Search | None":
    if arguments.search is None:
        if arguments.width is not None:
            raise InvalidInput("--width", arguments.width, "goes with --search SWEEPS")
        return None
    check_at_least(1, **{"--search": arguments.search, "--width": arguments.width})
    from selector.search import Search

    return Search(arguments.search) if arguments.width is None else Search(arguments.search, arguments.width)


def _check_out(out: Path, suffix: str, force: bool) -> None:
    if out.suffix != suffix:
        raise InvalidInput("--out", out, f"must end in {suffix}")
    if out.is_dir():
        raise InvalidInput("--out", out, "is a folder")
    if out.exists() and not force:
        raise InvalidInput("--out", out, "is there already; --force replaces it")


def _predict(arguments: argparse.Namespace) -> int:
    _check_out(arguments.out, ".npz", arguments.force)
    search = _search(arguments)
    from rich.console import Console

    from selector.predict import Columns, predict
    from selector.trained import load

    selector = load(arguments.run, seed=arguments.seed, checkpoint=arguments.checkpoint, trust=arguments.trust)
    columns = Columns(arguments.list_id, arguments.features, arguments.context)
    predict(selector, arguments.items, arguments.out, columns, Console(), search)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    suffix = {"torch": ".pt2", "onnx": ".onnx"}[arguments.format]
    out = arguments.out or arguments.run / f"selector{suffix}"
    _check_out(out, suffix, arguments.force)
    from rich.console import Console

    from selector.export import export
    from selector.trained import load

    selector = load(arguments.run, seed=arguments.seed, checkpoint=arguments.checkpoint, trust=arguments.trust)
    export(selector, arguments.format, out, Console())
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    search = _search(arguments)
    from selector.stored import load_run

    cfg = load_run(arguments.run, needs=f"checkpoints/{arguments.checkpoint}.ckpt", trust=arguments.trust)
    from rich.console import Console

    from selector.run import evaluate_run

    evaluate_run(cfg, arguments.run, arguments.checkpoint, Console(), arguments.figure, search)
    return 0


def _reproduce(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from selector.reproduce import reproduce

    with TerminateAsStopped():
        try:
            return reproduce(arguments.run, arguments.out, Console(), arguments.trust)
        except (FloatingPointError, OSError) as error:
            print(f"failed: {arguments.run}: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
            return 3


@_explained
def _probe(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from selector.laboratory import run_probe

    run_probe(
        arguments.overrides,
        taus=arguments.tau,
        lists=arguments.lists,
        draws=arguments.draws,
        logit_std=arguments.logit_std,
        run=arguments.run,
        figure=arguments.figure,
        console=Console(),
    )
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from selector.bench.command import bench

    bench(arguments.only, arguments.device, arguments.json, arguments.figure, Console())
    return 0


@_explained
def _features(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from selector.features.command import run_features

    run_features(arguments.overrides, figure=arguments.figure, console=Console())
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from selector.report.command import report

    command = shlex.join(["python", "-m", "selector", *arguments.argv])
    report(arguments.folders, arguments.out, Console(), command)
    return 0


def _dashboard(arguments: argparse.Namespace) -> int:
    from selector.dashboard import save, spec, workspace

    made = workspace(arguments.entity, arguments.project, arguments.problem)
    print(spec(made) if arguments.json else f"dashboard  {save(made)}")
    return 0


def _sync(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from selector.sync import sync

    return sync(arguments.runs, arguments.wandb, Console(), dry_run=arguments.dry_run)


@_explained
def _tune(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from rich.console import Console

    from selector.tuning.question import read_question

    try:
        from selector.tuning.study import tune
    except ModuleNotFoundError as error:
        raise InvalidInput("tune", error.name, 'is not installed; pip install "selector[tune]"') from None
    check_at_least(1, **{"--trials": arguments.trials})
    question = read_question(arguments.file)
    if arguments.trials is not None:
        question = replace(question, n_trials=arguments.trials)
    try:
        return tune(question, arguments.out or Path("outputs/tune") / arguments.file.stem, Console())
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
