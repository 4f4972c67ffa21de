"""``python -m selector export``: a trained selector as one file that runs without this package.

Shape legend: B lists at once · S slots · N items · D features per item · C features per list.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from selector.batch import Batch
from selector.errors import InvalidInput
from selector.files import write_atomically
from selector.noise import Noise
from selector.quiet import quiet_export
from selector.scaling import Scale
from selector.search import margins
from selector.trained import Selector

TOLERANCE = 1e-5  # of a logit, relative to 1 + the largest of its slot: what float32 can hold

Run = Callable[..., tuple[Tensor, ...]]


class Exported(nn.Module):
    """What the file computes: ``items [B, N, D]``, ``mask [B, N]``, ``context [B, C]`` (only where C > 0) ->
    ``logits [B, S, N]``, ``index [B, S]``.

    Standardisation is inside. Without replacement there is no ``index``: the best assignment is no part of the file.
    """

    def __init__(self, selector: Selector) -> None:
        super().__init__()
        self.network, self.argmax = selector.network, not selector.without_replacement

    def forward(self, items: Tensor, mask: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        # What stands where nothing may be chosen must not matter, standardised or not.
        items = torch.where(mask.unsqueeze(-1), items, 0.0)
        one_seed = Batch(items[None], mask[None, :, None], None if context is None else context[None])
        logits = one_seed.masked(self.network(one_seed))[0]
        return (logits, logits.argmax(-1)) if self.argmax else (logits,)


def export(selector: Selector, form: str, out: Path, console: Console) -> None:
    """Write a selector to a file, after checking that the file computes what the selector does.

    The number of lists is free, and so is that of items where the network reads any.

    Args:
        selector: what to export.
        form: "torch": a program of torch.export, which needs only torch; "onnx": for onnxruntime.
        out: the file.
        console: where to say what was written.

    Raises:
        InvalidInput: when ``out`` cannot be written, the extra is not installed, or the network cannot be exported.
    """
    exported = Exported(selector).eval()
    N = selector.N or 5
    example = _example(selector, 3, N, Noise(0, "export"))
    lists = torch.export.Dim("lists", min=1)
    shapes: dict[str, Any] = {"items": {0: lists}, "mask": {0: lists}}
    if selector.N is None:
        items = torch.export.Dim("items", min=1)
        shapes = {"items": {0: lists, 1: items}, "mask": {0: lists, 1: items}}
    if selector.C:
        shapes["context"] = {0: lists}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with quiet_export(), write_atomically(out) as temporary:
            try:
                program = torch.export.export(exported, example, dynamic_shapes=shapes)
                for node in program.graph.nodes:  # file names of this machine, line by line
                    node.meta.pop("stack_trace", None)
                run = _write_torch(program, temporary) if form == "torch" else _write_onnx(program, temporary)
            except (InvalidInput, OSError):
                raise
            except Exception as error:  # whatever torch cannot trace in a network of the user's own
                because = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise InvalidInput("run", selector.network.title, f"cannot be exported: {because[:200]}") from None
            worst = _check(selector, run)
    except OSError as error:
        raise InvalidInput("--out", out, f"cannot be written ({error.strerror})") from None
    names = ["items [lists, N, D]", "mask [lists, N]", *["context [lists, C]"] * bool(selector.C)]
    sizes = f"N {'any' if selector.N is None else N}, D {selector.D}" + f", C {selector.C}" * bool(selector.C)
    gives = "logits [lists, S, N]" + (", index [lists, S]" if exported.argmax else "")
    console.print(f"exported  {out}", highlight=False, soft_wrap=True)
    shapes_line = f"{', '.join(names)} -> {gives}; {sizes}, S {selector.S}"
    console.print(shapes_line, highlight=False, soft_wrap=True, markup=False)
    checked = f"checked: its logits are those of the selector to {worst:.1e}"
    console.print(f"seed {selector.seed} of step {selector.step}; {checked}", highlight=False, soft_wrap=True)
    if not exported.argmax:
        note = "Without replacement the file gives logits alone: the best assignment is left to you."
        console.print(note, highlight=False, soft_wrap=True)


def _write_torch(program: Any, path: Path) -> Run:
    with path.open("wb") as f:
        torch.export.save(program, f)
    with path.open("rb") as f:
        loaded: Run = torch.export.load(f).module()
    return loaded


def _write_onnx(program: Any, path: Path) -> Run:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - what torch.onnx writes with
    except ModuleNotFoundError as error:
        raise InvalidInput("--format", "onnx", f'{error.name} is missing; pip install "selector[export]"') from None
    outputs = ["logits", "index"][: len(program.graph_signature.user_outputs)]
    onnx_program = torch.onnx.export(program, output_names=outputs, dynamo=True, verbose=False)
    assert onnx_program is not None
    for node in onnx_program.model.graph.all_nodes():  # names of modules and traces, of use to nobody
        node.metadata_props.clear()
    onnx_program.save(path)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return tuple(map(torch.from_numpy, session.run(outputs, given)))

    return run


@torch.no_grad()
def _check(selector: Selector, run: Run) -> float:
    """Compare a file with the selector, for other numbers of lists and items than it was traced with.

    Returns:
        The largest error of a logit, relative to 1 + the largest logit of its slot.

    Raises:
        InvalidInput: when a logit is off by more than ``TOLERANCE``, or another item is chosen although its logit is
            further from the best than that.
    """
    noise, worst = Noise(0, "export check"), 0.0
    for lists, items in ((1, 1), (2, 3), (64, 8), (257, 33)):
        given = _example(selector, lists, selector.N or max(items, selector.S), noise)
        ours = selector(*given)
        logits, *index = run(*given)
        allowed = ours.logits > float("-inf")
        if not torch.equal(allowed, logits > float("-inf")):
            raise InvalidInput("run", selector.network.title, "the exported file allows other items")
        scale = 1 + ours.logits.abs().masked_fill(~allowed, 0.0).amax(-1)
        error = (logits - ours.logits).abs().masked_fill(~allowed, 0.0).amax(-1) / scale
        worst = float(torch.maximum(error.max(), torch.tensor(worst)))  # NaN stays NaN
        clear = margins(ours.logits) > 2 * TOLERANCE * scale
        if not worst <= TOLERANCE or (index and not torch.equal(index[0][clear], ours.index[clear])):
            raise InvalidInput("run", selector.network.title, f"the exported file differs: {worst:.1e} of a logit")
    return worst


def _example(selector: Selector, lists: int, N: int, noise: Noise) -> tuple[Tensor, ...]:
    """Random items of a size that the network knows, half of them allowed (S at least), and context."""
    scale = getattr(selector.network, "scale", None)
    scale = scale if isinstance(scale, Scale) else Scale.none(selector.D, selector.C)
    items = noise.normal([lists, N, selector.D]) * scale.std.cpu() + scale.mean.cpu()
    luck = noise.uniform([lists, N])
    mask = (luck < 0.5) | (luck <= luck.kthvalue(min(N, selector.S), dim=-1, keepdim=True).values)
    if not selector.C:
        return items, mask
    return items, mask, noise.normal([lists, selector.C]) * scale.context_std.cpu() + scale.context_mean.cpu()
