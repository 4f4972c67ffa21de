"""Weights & Biases: one run per seed, so that dashboards draw bands over seeds. Offline unless asked otherwise.

Online, the network may be slow, broken or absent: no run waits for it for long, and nothing is lost, because W&B keeps
all it sends in files as well, which ``python -m selector sync`` sends later.

Shape legend: R seeds trained side by side.
"""

import glob
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, WandbLogger

from selector.account import check_account, import_wandb
from selector.errors import InvalidInput, check_at_least, check_choice
from selector.recording import Record

# Seconds: W&B itself waits 90 for a server that does not answer, and without end for the last of what it sends.
_START_WITHIN = 5.0
_ALL_START_WITHIN = 10.0  # the runs of all seeds, one after the other
_FINISH_WITHIN = 8.0
UNSENT = "unsent"  # a file in the folder of an online run whose end W&B does not have

Mode = Literal["offline", "online", "disabled"]


class SeedWandb(Logger):
    """A Lightning logger that keeps one W&B run per seed.

    Args:
        name: the run's name; run ids are ``<name>-seed<k>``, so they can be read in a list of folders.
        seeds: the R seeds.
        config: what W&B shows as the run's configuration.
        folder: its ``wandb`` subfolder gets the runs' files.
        mode: "offline" writes files alone; "online" sends them as well, or is "offline" where there is no account, no
            network or no answer; "disabled" does nothing.
        project: W&B project.
        entity: W&B user or team; None is the account's default.
        group: what dashboards group by: the strategy.
        job_type: W&B job type.
        tags: W&B tags.
        max_runs: above this number of seeds one aggregated run (mean and std over seeds) is kept instead. So it is
            for more than one seed under the agent of a W&B sweep, which allows one run per process.

    Attributes:
        say: gets one line when the runs cannot be sent; what follows "W&B".

    Raises:
        InvalidInput: for an unknown mode.
    """

    def __init__(
        self,
        name: str,
        seeds: Sequence[int],
        config: dict[str, Any],
        folder: str | Path = "outputs",
        mode: str = "offline",
        project: str = "selector",
        entity: str | None = None,
        group: str | None = None,
        job_type: str = "train",
        tags: Sequence[str] = (),
        max_runs: int = 32,
    ) -> None:
        super().__init__()
        check_choice(["offline", "online", "disabled"], mode=mode)
        check_at_least(1, max_runs=max_runs)
        self._name, self._seeds = name, tuple(seeds)
        # The agent of a W&B sweep gives every process one run id, whatever id is asked for here.
        self._aggregated = len(self._seeds) > (1 if "WANDB_SWEEP_ID" in os.environ else max_runs)
        self._runs: list[WandbLogger] | None = None
        self._init: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "group": group,
            "job_type": job_type,
            "tags": list(tags),
            "dir": str(Path(folder).resolve()),  # W&B's service process keeps the working directory it started in
            "mode": mode,
        }
        self._config = config
        self._over = False
        self.say: Callable[[str], None] = lambda _: None
        self._process = os.getpid()

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return self._name

    def start(self) -> None:
        """Start the W&B runs, one per seed or one for all of them; takes seconds if the network is not as it should."""
        import_wandb()  # takes a second; not needed where nothing is logged
        import wandb

        Path(self._init["dir"]).mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True,
            console="off",
            x_disable_stats=True,
            disable_git=True,
            x_disable_meta=True,
            init_timeout=_START_WITHIN,
            finish_timeout=_FINISH_WITHIN,
            finish_timeout_raises=True,
        )
        try:
            because = _no_account() if self._init["mode"] == "online" else None
        except Exception as error:  # W&B reads its settings here
            self._give_up(error)
            return
        if because is None:
            began = time.time()
            try:
                self._runs = self._start(settings, self._init["mode"])
                return
            except Exception as error:  # its own, pydantic's for its settings, and those of the sockets to its service
                if self._init["mode"] != "online":
                    self._give_up(error)
                    return
                because = " ".join(str(error).split())
                with suppress(Exception):
                    wandb.teardown()  # its service would hold on to the run ids
                self._remove_failed(began)
        try:
            self._runs = self._start(settings, "offline")
        except Exception as error:
            self._give_up(error)
            return
        self.say(f"is offline ({because})")

    def _give_up(self, error: Exception) -> None:
        """Train on without W&B: no number is lost, metrics.csv has them all."""
        because = " ".join(str(error).split()) or type(error).__name__
        self._runs, self._over = self._runs or [], True
        self.say(f"has failed and gets no more of this run ({because[:200]})")

    def _start(self, settings: Any, mode: str) -> list[WandbLogger]:
        import wandb

        runs: list[WandbLogger] = []
        identities, longest, began = self._identities(), 0.0, time.monotonic()
        for suffix, extra in identities:
            before = time.monotonic()
            left = began + _ALL_START_WITHIN - before
            if mode == "online" and left < 1.5 * longest:
                mode = "offline"
                self.say(f"is offline for {len(identities) - len(runs)} of {len(identities)} runs (it answers slowly)")
            elif mode == "online":
                settings.init_timeout = min(_START_WITHIN, left)
            run = wandb.init(
                id=readable_id(f"{self._name}-{suffix}"),
                name=f"{self._name}-{suffix}",
                config={**self._config, **extra},
                resume="allow",  # offline as well: else sending a resumed run would overwrite its beginning
                reinit="create_new",  # else all seeds of a process would share one run
                settings=settings,
                **{**self._init, "mode": mode},
            )
            run.define_metric("samples")
            run.define_metric("*", step_metric="samples")
            runs.append(WandbLogger(experiment=run))
            longest = max(longest, time.monotonic() - before)
        return runs

    def _remove_failed(self, began: float) -> None:
        """Remove the empty folders that runs leave which could not be started."""
        for suffix, _ in self._identities():
            run_id = readable_id(f"{self._name}-{suffix}")
            for folder in (Path(self._init["dir"]) / "wandb").glob(f"run-*-{glob.escape(run_id)}"):
                if folder.stat().st_mtime >= began - 1:
                    shutil.rmtree(folder, ignore_errors=True)

    def runs(self) -> list[WandbLogger]:
        """The W&B runs, started on first use."""
        if self._runs is None:
            self.start()
        assert self._runs is not None
        return self._runs

    def _identities(self) -> list[tuple[str, dict[str, Any]]]:
        if self._aggregated:
            return [("all-seeds", {"seeds": list(self._seeds)})]
        return [(f"seed{seed}", {"seed": seed}) for seed in self._seeds]

    def _per_run(self, values: dict[str, list[float]]) -> list[dict[str, float]]:
        if not self._aggregated:
            return [{key: v[r] for key, v in values.items()} for r in range(len(self._seeds))]
        means = {key: fmean(v) for key, v in values.items()}
        return [means | {f"{key}/std": pstdev(v) for key, v in values.items()}]

    def log_seeds(self, record: Record) -> None:
        """Log one record, each seed to its run."""
        extra = {"samples": record.samples, "step": record.step}
        self._tell(record.values, lambda logger, values: logger.log_metrics({**values, **extra}))

    def summarize(self, final: dict[str, list[float]]) -> None:
        """Put the final metrics into each run's summary as ``final/<metric>``."""
        self._tell(final, lambda logger, v: logger.experiment.summary.update({f"final/{key}": v[key] for key in v}))

    def _tell(self, values: dict[str, list[float]], tell: Callable[[WandbLogger, dict[str, float]], None]) -> None:
        """Tell each run its values, until W&B fails: its service process may have died."""
        runs = self.runs()
        if self._over:
            return
        per_run = self._per_run(values)
        try:
            for logger, own in zip(runs, per_run, strict=True):
                tell(logger, own)
        except Exception as error:
            self._give_up(error)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Lightning's own scalars (mean over seeds) are in the records already."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration is given when the runs start."""

    def finalize(self, status: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Finish the runs of a forked process as it ends: nobody else can, and their ids would stay in use."""
        if os.getpid() != self._process:
            self.close()

    def close(self) -> None:
        """Finish all runs. Without it the next run of the process would be mixed up with these."""
        runs, self._runs = [logger.experiment for logger in self._runs or []], None
        if runs:
            with ThreadPoolExecutor(len(runs)) as pool:  # all of them wait for the same server: at the same time
                unsent = sum(pool.map(_finish, runs))
            if self._over:
                import wandb

                with suppress(Exception):
                    wandb.teardown()  # else it fails when the process exits, with a traceback
            elif unsent:
                self.say(f"does not answer ({unsent} of {len(runs)} runs not sent in full)")


def _finish(run: Any) -> bool:
    """Finish one run; whether W&B does not have all of it: no answer in time, say. Its folder is marked."""
    try:
        run.finish()
    except Exception:
        with suppress(OSError):
            (Path(run.dir).parent / UNSENT).touch()
        return True
    return False


def _no_account() -> str | None:
    """Why W&B cannot be asked at all; None if there is an account."""
    try:
        check_account("mode", "online")
    except InvalidInput as error:
        return error.allowed
    return None


def readable_id(name: str) -> str:
    """The run id of a run's name: W&B forbids some characters, and ids above 128 of them."""
    return re.sub(r"[^\w.-]+", "-", name)[-128:]
