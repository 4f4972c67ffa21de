"""Malformed command lines: a list of hand-picked ones, and every key with values that do not fit it."""

# ruff: noqa: E501 - a table
from collections.abc import Iterator
from functools import cache

from selector.same_run import flatten
from tests.support import compose

VALUES = (
    "null", "''", "[]", "{}", "[1,2]", "{a: 1}", "abc", "-1", "0", "1.5", "1e999", "nan", "-inf", "true",
    "1" + "0" * 30, "${nothing}", "${oc.env:HOME}", "../../etc/passwd", "os.system", "'a\\'b'", "ü€", "???", "a=b",
)  # fmt: skip

# Every one must be refused.
HAND_PICKED = [
    # not key=value
    "max_steps", "=3", "max_steps=[1", "max_steps={", "max_steps=}", "max_steps=\"", "max_steps='", "=", "==", "[]",
    "a b=c", "max_steps = 3 4 [", "max_steps=$(id)", "max_steps=`id`", "\x00=1", "max_steps=1\n2]", "+", "~", "++",
    "++=1", "~=", "max_steps=${", "max_steps=${}", "max_steps=$}{", "@=1", "strategy@=1", "strategy@x=st_gumbel",
    # keys that are not there
    "stratgy=st_gumbel", "Max_steps=3", "max_steps.x=3", "problem.N.x=3", "problem.M=3", "tau.valu=1", "hydra.no=1",
    "+max_step=3", "+problem.K=2", "+strategy.x=1", "+x=1", "+x.y=1", "__class__=1", "problem.__init__=1", ".=1", "..=1",
    "problem..N=1", "problem.=1", ".problem.N=1", "problem/N=1", "strategy/x=1",
    # choices that are not there
    "strategy=no", "strategy=../../etc/passwd", "strategy=/etc/passwd", "problem=..", "tau=.",
    "critic=''", "strategy=[st_gumbel,st_argmax]", "sweeps=none", "experiment=no", "accelerator=tpu",
    "hydra/launcher=no", "hydra/launcher=../../x", "hydra/sweeper=no", "hydra/job_logging=no", "+strategy=st_gumbel",
    "+problem=seed_question", "strategy=st_gumbel,st_argmax", "seeds=1,2", "seeds=range(1,3)", "seeds=choice(1,2)",
    "strategy=glob(*)", "~strategy", "~problem", "~max_steps", "~tau.value", "~hydra", "~hydra.run", "~no", "~problem.N",
    "~problem.N=9", "~hydra.run.dir",
    # things that look like code
    *[
        f"{group}._target_={target}"
        for group in ("strategy", "critic", "items", "network", "tau", "optimizer", "logger")
        for target in (
            "os.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "pickle.loads", "torch.load",
            "torch.nn.Linear", "selector.run.run", "selector", "__main__.train", "os", "os.", ".os", "", "a b", "1",
            "[1]", "null.x", "{}", "true", "/etc/passwd", "..", "selector.networks.MLP.forward",
        )
    ],
    "+problem._target_=os.system", "+accelerator._target_=os.system", "+_target_=os.system", "trainer._target_=os.system",
    "+trainer.profiler={_target_:os.system}", "+trainer.callbacks=[{_target_:os.system}]", "+entropy._target_=os.system",
    "+strategy._args_=[1]", "+critic._partial_=true", "+critic._convert_=all", "+critic._recursive_=false",
    "+critic.x={_target_:os.system}", "critic.target={_target_:os.system}",
    # Hydra's own configuration as a way in
    "hydra.launcher._target_=os.system", "hydra.sweeper._target_=os.system", "hydra.sweeper.max_batch_size=x",
    "+hydra.callbacks.x._target_=os.system", "hydra.callbacks={x:{_target_:os.system}}",
    "+hydra.job_logging.handlers.x.class=os.system", "hydra.job_logging={version:1,handlers:{x:{'()':os.system}}}",
    "hydra.hydra_logging={version:1,handlers:{x:{'()':os.system}}}",
    "+hydra.job_logging.filters.x={\\(\\):logging.io.open,file:PWNED,mode:w}", "++hydra.job_logging.root={level:INFO}",
    "~hydra.job_logging.version", "hydra/job_logging=null", "hydra/hydra_logging=hydra_debug", "hydra.job.name=../x",
    "+hydra.job.env_set.GIT_CONFIG_COUNT='1'", "hydra.job.env_set={A: b}", "hydra.job.env_copy=[PATH]", "hydra.mode=no", "hydra.run.dir=null",
    "hydra.run.dir=''", "hydra.run.dir=${nothing}", "hydra.job.chdir=maybe",
    "hydra.output_subdir=null", "hydra.output_subdir=..",
    "hydra.run.dir=/etc/passwd", "hydra.run.dir=/etc/passwd/x",
    # names and folders that lead away
    "name=..", "name=../x", "name=/etc/x", "name=a/../../b", "name=''", "name=' '", "name='a b'", "name='a\\nb'",
    "name=null", "name=.", "name='~'", "name='$HOME'", "name='a;b'", "name='a|b'", "name=[a]", "name={a: 1}",
    "name='<x>'", "name='*'", "name=" + "x" * 300, "name=a//b", "name=a/", "name=/", "name=./x", "name=${name}",
    "name=${oc.env:NOTHING}", "name=${hydra:no}", "name=${no:1}", "name=${oc.decode:1]}",
    "resume=/etc/passwd", "resume=..", "resume=/", "resume=~", "resume=/proc/self", "resume=''", "resume=[auto]",
    "resume=https://x.y/z", "resume=nowhere", "resume=${nothing}", "resume=true",
    "items=fixed,", "+items.path=/etc/passwd", "items.low=abc", "items.values=1",
    "logger.folder=5", "logger.folder=null", "logger.mode=of", "logger.project=[]", "logger.entity={}", "logger.tags=5",
    # numbers
    "max_steps=0", "max_steps=-1", "max_steps=1.5", "max_steps=1e3", "max_steps=nan", "max_steps=1_0_", "max_steps=0x",
    "max_steps=null", "seeds=0", "seeds=1000000000000", "seed=-1", "seed=1e30", "seed=null", "batch_size=0",
    "batch_size=nan", "batch_size=100000000000000", "held_out=-5", "held_out=1000000000000000", "val_every=0",
    "problem.N=0", "problem.N=-1", "problem.N=1000000000000", "problem.S=0", "problem.S=1000000000000", "problem.D=0",
    "problem.D=nan", "problem.eligible=0", "problem.eligible=2", "problem.eligible=nan", "problem.max_enumeration=-1",
    "problem.max_enumeration=x", "network.width=0", "network.width=100000000000", "network.width=1.5", "tau.start=0",
    "tau.end=-1", "tau.start=inf", "tau.steps=0", "tau.warmup=-1", "optimizer.lr=0", "optimizer.lr=inf",
    "optimizer.lr=nan", "optimizer.lr=-1", "optimizer.clip=0", "optimizer.clip=nan", "optimizer.beta1=2",
    "entropy.start=nan", "entropy.end=-1", "entropy.steps=0", "probe.every=0", "probe.every=x", "patience=0",
    "stop_at_regret=nan", "stop_at_regret=-1", "critic.target=nan", "critic.target=[]", "items.high=nan",
    "items.high=-5", "accelerator.devices=0", "accelerator.devices=1.5", "accelerator.devices=auto",
    "accelerator.devices=[0]", "accelerator.precision=7", "accelerator.strategy=no", "accelerator.strategy=''",
    "trainer=5", "trainer=[]", "trainer=null.x", "+trainer.num_nodes=0", "+trainer.num_nodes=x",
    "trainer.accumulate_grad_batches=0", "+trainer.max_time=5", "+trainer.profiler=no", "+trainer.default_root_dir=[]",
    "+trainer.limit_val_batches=-1", "+trainer.fast_dev_run=x", "+trainer.detect_anomaly=5",
]  # fmt: skip


@cache
def keys() -> tuple[str, ...]:
    """Every key of the default configuration."""
    return tuple(key for key in flatten(compose()) if not key.startswith("hydra."))


def with_other_values() -> Iterator[str]:
    """Every key with every value; some fit."""
    for key in keys():
        for value in VALUES:
            yield f"{key}={value}"
