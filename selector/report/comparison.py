"""From the seeds of every label to all that the figures, the page and the table show of one problem."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selector.report.collect import Collection, Group, Section
from selector.report.curves import gradient_over, regret_over, spread_over
from selector.report.plots import Plot, Standing
from selector.report.ranking import FEW_SEEDS, final_regret, profile, rank_labels, sensitivity, sentences_of
from selector.report.runs import GRADIENT
from selector.report.statistics import Floats


@dataclass(frozen=True)
class Comparison:
    """One problem (or all of them together), compared.

    Attributes:
        title: the problem.
        facts: oracle, budgets and seeds, in words.
        warnings: what a reader must know before believing a figure.
        standings: best first.
        sentences: the ranking in words.
        plots: the figures that have data.
    """

    title: str
    facts: Sequence[str]
    warnings: Sequence[str]
    standings: Sequence[Standing]
    sentences: Sequence[str]
    plots: Sequence[Plot]


def compare(collection: Collection) -> list[Comparison]:
    """One comparison per problem; with several problems, first one over those labels that all of them have."""
    parts = [_compare_section(section) for section in collection.sections]
    if len(parts) > 1:
        common = _across(collection.sections)
        parts = [*([common] if common is not None else []), *parts]
    return parts


def _compare_section(section: Section) -> Comparison:
    strata = {group.label: [np.array([seed.final for seed in group.seeds])] for group in section.groups}
    standings, matrix = rank_labels(section.groups, strata)
    rank = {standing.label: standing.rank for standing in standings}
    groups = sorted(section.groups, key=lambda group: rank[group.label])
    seeds = [seed for group in groups for seed in group.seeds]
    plots: list[Plot | None] = [
        regret_over(groups, "samples"),
        regret_over(groups, "seconds"),
        final_regret(standings),
        profile(standings, strata),
        matrix,
        spread_over(groups),
        *(gradient_over(groups, key) for key in GRADIENT),
        sensitivity(groups, standings),
    ]
    budgets = sorted({seed.planned for seed in seeds})
    facts = [
        _oracle(section.oracles),
        "budget " + " or ".join(f"{budget:,}" for budget in budgets) + " samples per seed",
        f"{len(groups)} {'labels' if len(groups) > 1 else 'label'}, {len(seeds)} seeds",
    ]
    warnings = [*_few(standings), *_failed(standings), *section.notes]
    return Comparison(
        section.title,
        facts,
        warnings,
        standings,
        sentences_of(standings),
        [plot for plot in plots if plot is not None],
    )


def _oracle(kinds: Sequence[str]) -> str:
    words = {
        "separable": "exact oracle (slot by slot)",
        "enumerated": "exact oracle (all choices tried)",
        "best-known": "best-known oracle: the true regret may be higher",
        "estimated": "estimated oracle of a noisy reward: the true regret may be higher or lower",
    }
    return "; ".join(words.get(kind, kind) for kind in kinds) if kinds else "kind of oracle unknown (no run ended)"


def _few(standings: Sequence[Standing]) -> list[str]:
    few = [f"{s.label} ({len(s.seeds)})" for s in standings if len(s.seeds) < FEW_SEEDS]
    if not few:
        return []
    return [f"Fewer than five seeds: {', '.join(few)}. Bands and probabilities say little; train more seeds."]


def _failed(standings: Sequence[Standing]) -> list[str]:
    lines = []
    for s in standings:
        reasons: dict[str, list[int]] = {}
        for seed, reason in s.failures:
            reasons.setdefault(reason, []).append(seed)
        for reason, seeds in reasons.items():
            numbers = ", ".join(map(str, seeds))
            lines.append(f"{s.label}, seed{'s' if len(seeds) > 1 else ''} {numbers}: {reason}; counted as worst.")
    return lines


def _across(sections: Sequence[Section]) -> Comparison | None:
    """All problems together, over the labels that each of them has; seeds are resampled within each problem."""
    counts = [{group.label: len(group.seeds) for group in section.groups} for section in sections]
    # A label with more seeds on one problem than on another would be judged mostly on the one: pooled means and pooled
    # probabilities could then contradict each other (Simpson's paradox).
    common = {label for label, n in counts[0].items() if all(count.get(label) == n for count in counts)}
    if len(common) < 2:
        return None
    groups = []
    strata: dict[str, list[Floats]] = {}
    for first in (group for group in sections[0].groups if group.label in common):
        same = [group for section in sections for group in section.groups if group.label == first.label]
        seeds = [seed for group in same for seed in group.seeds]
        groups.append(Group(first.label, first.strategy, first.family, None, seeds))
        strata[first.label] = [np.array([seed.final for seed in group.seeds]) for group in same]
    standings, matrix = rank_labels(groups, strata)
    left = sorted({group.label for section in sections for group in section.groups} - common)
    warnings = (
        [f"Without the same number of seeds on every problem, so not compared: {', '.join(left)}."] if left else []
    )
    few = sorted(label for label in common if counts[0][label] < FEW_SEEDS)
    if few:
        warnings.append(f"Fewer than five seeds on each problem: {', '.join(few)}. Intervals say little.")
    warnings += [f"{section.title}: {note}" for section in sections for note in section.notes]
    failed = sorted({group.label for group in groups for seed in group.seeds if seed.failure is not None})
    if failed:
        warnings.append(f"With failed seeds, counted as worst (see each problem): {', '.join(failed)}.")
    plots: list[Plot | None] = [final_regret(standings), profile(standings, strata), matrix]
    facts = [f"{len(sections)} problems, regret of each on its own scale", "seeds resampled within each problem"]
    found = [plot for plot in plots if plot is not None]
    sentences = sentences_of(standings, len(sections))
    return Comparison("All problems together", facts, warnings, standings, sentences, found)
