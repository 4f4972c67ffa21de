"""Find finished and unfinished runs, and sort their seeds by what was compared.

Seeds trained side by side and seeds of separate jobs are treated alike: what counts is the *label*, the strategy and
every other setting that differs. Imports neither torch nor Lightning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selector.errors import InvalidInput
from selector.report.labels import Names, by_problem, natural
from selector.report.runs import Run, SeedRun, Tau, read_run, run_folders


@dataclass(frozen=True)
class Group:
    """All seeds of one label on one problem.

    Attributes:
        label: strategy and what else differs, such as "st_gumbel · network=pointer".
        strategy: the strategy's name in configs/strategy.
        family: the label without its tau settings: labels of one family differ in tau alone.
        tau: what the temperature was; None when no record says.
        seeds: one entry per seed, ascending.
    """

    label: str
    strategy: str
    family: str
    tau: Tau | None
    seeds: Sequence[SeedRun]


@dataclass(frozen=True)
class Section:
    """Everything that was run on one problem.

    Attributes:
        title: the problem's name and what sets it apart from the others.
        groups: in the order of their labels.
        oracles: the kinds of oracle that the runs name; "best-known" is not exact.
        notes: what a reader must know, one line each.
    """

    title: str
    groups: Sequence[Group]
    oracles: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class Collection:
    """What was found.

    Attributes:
        sections: one per problem.
        runs: number of run folders read.
        versions: package -> versions that the runs were made with.
        notes: what a reader must know beyond single sections, one line each.
    """

    sections: Sequence[Section]
    runs: int
    versions: Mapping[str, Sequence[str]]
    notes: Sequence[str]


def collect(folders: Sequence[Path]) -> Collection:
    """Read all runs below ``folders``.

    Raises:
        InvalidInput: when a folder is missing or holds no run, or a file in a run folder cannot be read.
    """
    runs, notes, seen = [], [], set()
    for folder in folders:
        if not folder.is_dir():
            raise InvalidInput("folder", folder, "no such folder; must be a run folder or one that holds runs")
        found = list(run_folders(folder))
        if not any(why is None for _, why in found):
            reason = f" ({found[0][0]}: {found[0][1]})" if found else ""
            raise InvalidInput("folder", folder, f"no run is here or below it{reason}")
        for path, why_not in found:
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            if why_not is None:
                runs.append(read_run(path))
            else:
                notes.append(f"{path} was left out: {why_not}.")
    sections = _sections(runs)
    names = sorted({name for run in runs for name in run.versions})
    versions = {name: sorted({run.versions[name] for run in runs if name in run.versions}) for name in names}
    different = [f"{name} {' and '.join(found)}" for name, found in versions.items() if len(found) > 1]
    if different:
        notes.append(f"The runs were made with different versions: {'; '.join(different)}.")
    return Collection(sections, len(runs), versions, notes)


def _sections(runs: Sequence[Run]) -> list[Section]:
    problems = by_problem(runs)
    names = Names(problems)
    return sorted((_section(same, names) for same in problems), key=lambda section: natural(section.title))


def _section(runs: Sequence[Run], names: Names) -> Section:
    notes: list[str] = []
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(names.label(run), []).append(run)
    groups = []
    for label in sorted(members, key=natural):
        one = members[label][0]
        tau = next((run.tau for run in members[label] if run.tau is not None), None)
        seeds = _without_repetitions(label, members[label], notes)
        groups.append(Group(label, one.choices["strategy"], names.family(one), tau, seeds))
    planned = sorted({seed.planned for group in groups for seed in group.seeds})
    if len(planned) > 1:
        each = ", ".join(f"{samples:,}" for samples in planned)
        notes.append(f"Budgets differ ({each} samples per seed): final regrets are those at each run's own end.")
    for key, what in (("held_out", "held-out lists"), ("stop_at_regret", "stop_at_regret"), ("patience", "patience")):
        values = sorted({str(run.settings.get(key)) for run in runs}, key=natural)
        if len(values) > 1:
            notes.append(f"The runs differ in {what}: {', '.join(values)}.")
    without = sorted({str(s.folder) for g in groups for s in g.seeds if not len(s.samples) and s.failure is None})
    if without:
        notes.append(f"No curve, final numbers only (no metrics.csv): {', '.join(without)}.")
    oracles = sorted({run.oracle for run in runs if run.oracle is not None})
    return Section(names.title(runs[0]), groups, oracles, notes)


def _without_repetitions(label: str, runs: Sequence[Run], notes: list[str]) -> list[SeedRun]:
    """One entry per seed. A repetition is no new evidence: one that ended counts rather than one that did not, a
    later one rather than an earlier one."""
    chosen: dict[int, SeedRun] = {}
    repeated: dict[tuple[Path, Path], list[int]] = {}
    found = [(seed.ended, run.written, str(run.folder), seed) for run in runs for seed in run.seeds]
    for *_, one in sorted(found, key=lambda entry: entry[:3]):
        if one.seed in chosen:
            repeated.setdefault((one.folder, chosen[one.seed].folder), []).append(one.seed)
        chosen[one.seed] = one
    for (used, left), seeds in repeated.items():
        numbers = ", ".join(map(str, sorted(seeds)))
        word = "seed" if len(seeds) == 1 else "seeds"
        notes.append(f"{label}: {word} {numbers} found twice; {used} counts, {left} does not.")
    return [chosen[seed] for seed in sorted(chosen)]
