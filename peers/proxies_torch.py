#!/usr/bin/env python3
"""Zero-cost proxies in PyTorch on the CPU, one architecture at a time: the peer of altiplano's proxy engine.

    pip install torch numpy safetensors          # tested with torch 2.15.0, Python 3.11
    python3 proxies_torch.py --check FOLDER      # against the golden cases there
    python3 proxies_torch.py --forms CASE        # the forms of croze that were not released, written into a golden case
    python3 proxies_torch.py --exact FOLDER      # grasp of all golden cases in f64, written into tests/golden/grasp_f64.json
    python3 proxies_torch.py --time [--archs 333333,333132,211111] [--batch 16] [--cells 5] [--threads 1]
                             [--repeats 3] [--proxies croze,synflow,snip,grad_norm,naswot,grasp,swap] [--ops all|selected]
    python3 proxies_torch.py --beside ALTIPLANO [--out FILE] [--batch 16] [--cells 5] [--threads 1] [--repeats 3]
                             [--proxies croze,synflow,...] [--population 8]

The network is the NAS-Bench-201 network of zero-cost-nas: over-complete cells (`--ops all`, as in the authors' code:
each of the six edges holds all five operations, a mask selects one; `--ops selected` builds only the selected ones),
convolutions of cells with bias, their batch norm without parameters. An architecture is six digits in string order,
0..4 = none, skip, 1x1, 3x3, average pool, or the usual string `|nor_conv_3x3~0|+|...`.

croze is the released code's form (croze-compat); it and synflow run in f64 on a copy without batch norm except in the
two reduction blocks, the others in f32. All run in training mode with the mean cross-entropy.

--time prints seconds per architecture and proxy: median and least wall time, and least processor time (`cpu_min`),
which other programs disturb less. The batch is noise. Each proxy runs once uncounted on the first architecture.
Building the network is not counted (`build_s` says what it takes), copies that a measure makes are. Work of the
released code that changes no score is left out, so the released code is slower than this: grasp takes the first
gradient once and not twice, naswot is one forward pass without a backward pass, croze copies the network instead of
rebuilding it and computes its five feature similarities once and not per layer, and gradients of biases and batch
norm, which nothing reads, are not asked for.

--beside runs the program `altiplano score` in turns with PyTorch, on the same architectures, weights and batch and on
as many processor cores, one network at a time and as a population, and prints seconds per architecture, ratios of their
medians, and how far the scores are apart. Architectures are random; the program's first ones, in which it compiles
shaders, are not counted. Building the networks is counted in both.

swap is of fresh weights, eight draws, which the program draws otherwise: scores differ by what draws differ.

--check exits with 1 where a score, or one layer's P, G or Z of croze, differs by more than 1e-3. The golden values
known as ill-conditioned, jacob_cov and ZiCo, are not among those computed here. The f32 measures have one more weak
spot: a ReLU whose input is zero but for rounding may be on the other side in the golden run. So an f32 score beyond the
limit is computed again in f64 with one of the units nearest to zero (below 1e-6) switched, and passes as "kink" if that
gives the golden score to 2e-5. grasp is a signed sum and shows such a unit most. Layers of the f32 measures are
compared relative to the case's largest layer, since some gradients are zero but for rounding.
"""

import argparse, copy, json, math, os, pathlib, platform, statistics, subprocess, sys, tempfile, time

import torch
import torch.nn as nn
import torch.nn.functional as F

NAMES = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]  # by digit
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # CIFAR-10
SLOTS = [0, 1, 3, 2, 4]  # a digit's place among the five options of an edge
EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]  # from, to; string order
LIMIT = 1e-3  # of --check
ROOT = pathlib.Path(__file__).resolve().parents[1]
Result = tuple[float, dict]  # score, and what there is per layer


def parse(arch: str) -> list[int]:
    """The six digits of an architecture."""
    if "~" in arch:
        digits = [NAMES.index(edge.split("~")[0]) for edge in arch.replace("+", "|").split("|") if edge]
    else:
        digits = [int(digit) for digit in arch]
    if len(digits) != 6 or max(digits) > 4:
        raise ValueError(f"not an architecture: {arch}")
    return digits


# ---- network -------------------------------------------------------------------------------------------------------


class Zero(nn.Module):
    def forward(self, x):
        return x.mul(0.0)


class ReLUConvBN(nn.Module):
    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, bias: bool = False, affine: bool = True):
        super().__init__()
        conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=bias)
        norm = nn.BatchNorm2d(cout, affine=affine, track_running_stats=affine)
        self.op = nn.Sequential(nn.ReLU(), conv, norm)

    def forward(self, x):
        return self.op(x)


class Cell(nn.Module):
    def __init__(self, arch: list[int], c: int, every: bool, tiny: bool):
        super().__init__()
        conv = {"cin": c, "cout": c, "bias": not tiny, "affine": tiny}
        make = [
            Zero,
            nn.Identity,
            lambda: ReLUConvBN(kernel=3, **conv),
            lambda: ReLUConvBN(kernel=1, **conv),
            lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        ]
        self.selected = [str(5 * edge + SLOTS[digit]) for edge, digit in enumerate(arch)]
        keys = [str(i) for i in range(30) if every or str(i) in self.selected]
        self.options = nn.ModuleDict({key: make[int(key) % 5]() for key in keys})

    def forward(self, x):
        nodes = [x]
        for node in (1, 2, 3):
            terms = [(key, start) for key, (start, end) in zip(self.selected, EDGES) if end == node]
            nodes.append(sum(self.options[key](nodes[start]) for key, start in terms))
        return nodes[3]


class Reduction(nn.Module):
    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.residual = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(cin, cout, 1, bias=False))
        self.conv_a = ReLUConvBN(cin, cout, 3, stride=2)
        self.conv_b = ReLUConvBN(cout, cout, 3)

    def forward(self, x):
        return self.residual(x) + self.conv_b(self.conv_a(x))


class Net(nn.Module):
    """`every`: cells hold all operations. `tiny`: affine batch norm in cells and no bias, as the benchmark trains."""

    def __init__(self, arch: str, cells: int, classes: int = 10, c: int = 16, every: bool = True, tiny: bool = False):
        super().__init__()
        digits, self.cells, self.tiny = parse(arch), cells, tiny
        stack = lambda c: nn.Sequential(*(Cell(digits, c, every, tiny) for _ in range(cells)))
        self.stem = nn.ModuleDict({"net": nn.Sequential(nn.Conv2d(3, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c))})
        self.stack_cell1, self.reduction1 = stack(c), Reduction(c, 2 * c)
        self.stack_cell2, self.reduction2 = stack(2 * c), Reduction(2 * c, 4 * c)
        self.stack_cell3 = stack(4 * c)
        last = nn.Sequential(nn.BatchNorm2d(4 * c), nn.ReLU(inplace=True))
        self.top = nn.ModuleDict({"lastact": last, "classifier": nn.Linear(4 * c, classes)})

    def features(self, x):
        """Logits and croze's five features. The ReLU in place makes the fourth one non-negative if the last batch
        norm is gone, as in the released code."""
        f0 = self.stem["net"](x)
        f1 = self.reduction1(self.stack_cell1(f0))
        f2 = self.reduction2(self.stack_cell2(f1))
        f3 = self.stack_cell3(f2)
        f4 = self.top["lastact"](f3).mean((2, 3))
        return self.top["classifier"](f4), [f0, f1, f2, f3, f4]

    def forward(self, x):
        return self.features(x)[0]


def layers(net: Net) -> dict[str, nn.Module]:
    """All that is scored, in the order of modules."""
    return {name: m for name, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}


def weights(net: Net) -> list[torch.Tensor]:
    return [m.weight for m in layers(net).values()]


def positive_copy(net: Net) -> Net:
    """A copy in f64 without batch norm except in the reductions of over-complete networks, every tensor replaced by its
    absolute value."""
    net = copy.deepcopy(net)
    for name, part in net.named_children():
        for parent in () if name.startswith("reduction") and not net.tiny else list(part.modules()):
            for key, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(parent, key, nn.Identity())
    net.double()
    for tensor in net.state_dict().values():
        tensor.abs_()
    return net


# ---- measures ------------------------------------------------------------------------------------------------------


def total(net: Net, values) -> Result:
    """Sums one tensor per layer; None is a layer that takes no part."""
    parts = {n: v.sum() for n, v in zip(layers(net), values) if v is not None}
    return float(sum(parts.values())), {n: float(v) for n, v in parts.items()}


def grads(loss, net: Net, **options):
    return torch.autograd.grad(loss, weights(net), allow_unused=True, **options)


def grad_norm(net: Net, x, y) -> Result:
    return total(net, [None if g is None else g.norm() for g in grads(F.cross_entropy(net(x), y), net)])


def snip(net: Net, x, y) -> Result:
    pairs = zip(weights(net), grads(F.cross_entropy(net(x), y), net))
    return total(net, [None if g is None else (w.detach() * g).abs() for w, g in pairs])


def grasp(net: Net, x, y) -> Result:
    """Sum of -w * (H g)."""
    g = grads(F.cross_entropy(net(x), y), net, create_graph=True)
    products = grads(sum((v.detach() * v).sum() for v in g if v is not None), net)
    return total(net, [None if h is None else -w.detach() * h for w, h in zip(weights(net), products)])


def synflow(net: Net, x, y) -> Result:
    net = positive_copy(net)
    flow = net(torch.ones(1, *x.shape[1:], dtype=torch.float64)).sum()
    return total(net, [None if g is None else (w.detach() * g).abs() for w, g in zip(weights(net), grads(flow, net))])


def naswot(net: Net, x, y, once: bool = False) -> Result:
    """log |det K| of the binary codes of all ReLUs. The released code counts a ReLU of a ReLUConvBN twice, as here
    unless `once`."""
    kernel = torch.zeros(len(x), len(x), dtype=torch.float64)

    def add(times):
        def hook(_, inputs):
            code = (inputs[0].detach() > 0).flatten(1).float()
            kernel.add_((code @ code.t() + (1 - code) @ (1 - code).t()).double() * times)

        return hook

    hooks = []
    for name, m in net.named_modules():
        if isinstance(m, nn.ReLU):
            hooks.append(m.register_forward_pre_hook(add(1 if once or name.startswith("top") else 2)))
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return float(torch.linalg.slogdet(kernel)[1]), {}


def swap(net: Net, x, y, draws: int = 8) -> Result:
    """Mean number of distinct patterns of rectified units, over draws of weights from N(0, 1); norms 1 and 0, biases 0."""
    net, counts = copy.deepcopy(net), []
    for _ in range(draws):
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(m.weight)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, nn.BatchNorm2d):
                m.reset_parameters()
        signs = []
        hook = lambda _, inputs: signs.append((inputs[0] > 0).flatten(1))
        hooks = [m.register_forward_pre_hook(hook) for m in net.modules() if isinstance(m, nn.ReLU)]
        with torch.no_grad():
            net(x)
        for own in hooks:
            own.remove()
        columns = torch.cat(signs, 1)
        if len(x) <= 62:  # a column as a number: many times as fast as `unique` of columns
            columns = (columns.long() << torch.arange(len(x)).unsqueeze(1)).sum(0, keepdim=True)
        counts.append(torch.unique(columns, dim=1).shape[1])
    return statistics.mean(counts), {}


def croze(net: Net, x, y, gamma: float = 2.0, eps: float = 0.01) -> Result:
    """Sum over layers of |P G Z|. Per layer: P, G, Z. Also under "loss_clean" and "loss_adv" the two losses."""
    clean = positive_copy(net)
    adv, x = copy.deepcopy(clean), x.double()
    # Weights: each tensor moves by gamma times its norm along the difference that a step of ascent makes.
    g = grads(F.cross_entropy(adv(x), y), adv)
    with torch.no_grad():
        for w, slope in zip(weights(adv), g):
            if slope is not None:
                step = (w + 1e-3 * slope) - w
                w.add_(step * (gamma * w.norm() / (step.norm() + 1e-30)))
    # Input: the released signs and limits. Its gradients of the weights stay and add to those of the next pass.
    x.requires_grad_()
    slope, *first = torch.autograd.grad(F.cross_entropy(adv(x), y), [x, *weights(adv)], allow_unused=True)
    x = x.detach()
    x_adv = (x - eps * slope.sign()).clamp(0, 1)
    logits, feats = clean.features(x)
    logits_adv, feats_adv = adv.features(x_adv)
    losses = F.cross_entropy(logits, y), F.cross_entropy(logits_adv, y)
    both = torch.autograd.grad(sum(losses), weights(clean) + weights(adv), allow_unused=True)
    g, g_adv = both[: len(first)], both[len(first) :]

    parts, score, cells = {}, 0.0, {}
    with torch.no_grad():
        similar = lambda a, b: F.cosine_similarity(a, b, dim=0, eps=1e-8)
        z = [float((1 + similar(a, b)).sum()) for a, b in zip(feats_adv, feats)]
        for i, (name, layer) in enumerate(layers(clean).items()):
            if name.startswith("stack"):
                cells[".".join(name.split(".")[:2])] = True  # cells entered so far, this one included
            if g[i] is None:
                continue
            p = float((1 + similar(adv.get_submodule(name).weight, layer.weight)).sum())
            q = float(similar(first[i] + g_adv[i], g[i]).abs().sum())
            index = len(cells) // net.cells + isinstance(layer, nn.Linear)
            parts[name] = {"P": p, "G": q, "Z": z[index]}
            score += abs(p * q * z[index])
    return score, parts | {"loss_clean": losses[0].item(), "loss_adv": losses[1].item()}


def perturbed(net: Net, x, y, gamma: float) -> Net:
    """A copy whose weights moved by gamma times their norm along their gradient."""
    copied = copy.deepcopy(net)
    slopes = grads(F.cross_entropy(copied(x), y), copied)
    with torch.no_grad():
        for w, slope in zip(weights(copied), slopes):
            if slope is not None and slope.norm() > 0:
                w.add_(slope * (gamma * w.norm() / slope.norm()))
    return copied


def signs(net: Net, x, y) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(net(x), y), x)[0].sign()


def croze_paper(net: Net, x, y, gamma=2.0, eps=0.01, rate=1e-3, low=None, high=None) -> Result:
    """The reconstruction of the paper's equations 2 to 10 in f64: weights and batch norms as they are, each layer's own
    output, whole tensors, gradients of the moved images alone. `low` and `high`: range of normalised pixels by channel."""
    clean, x = copy.deepcopy(net).double(), x.double()
    adv = perturbed(clean, x, y, gamma)
    x_adv = x + eps * signs(adv, x, y)
    if low is not None:
        x_adv = torch.maximum(torch.minimum(x_adv, high.double()), low.double())
    outputs = ({}, {})

    def look(net, x, into):
        hooks = [m.register_forward_hook(lambda _, i, o, n=n: into.update({n: o.detach()})) for n, m in layers(net).items()]
        slopes = grads(F.cross_entropy(net(x), y), net)
        for hook in hooks:
            hook.remove()
        return slopes

    g, g_adv = look(clean, x, outputs[0]), look(adv, x_adv, outputs[1])
    parts, score = {}, 0.0
    with torch.no_grad():
        similar = lambda a, b: float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0, eps=1e-8))
        for i, (name, layer) in enumerate(layers(clean).items()):
            if g[i] is None:
                continue
            w, w_adv = layer.weight - rate * g[i], adv.get_submodule(name).weight - rate * g_adv[i]
            p, q = similar(w_adv, w), abs(similar(g_adv[i], g[i]))
            a, b = outputs[0][name].flatten(1), outputs[1][name].flatten(1)
            z = float(F.cosine_similarity(b, a, dim=1, eps=1e-8).mean())
            parts[name] = {"P": p, "G": q, "Z": z}
            score += (1 + z) * (1 + p) * q
    return score, parts


def croze_mean(net: Net, x, y, gamma: float = 2.0, eps: float = 0.01) -> Result:
    """The released form with means in place of sums over cosines."""
    sums, parts = croze(net, x, y, gamma, eps)
    clean, score, means = positive_copy(net), 0.0, {}
    with torch.no_grad():
        features = clean.features(x.double())[1]
    cells = {}
    for name, layer in layers(clean).items():
        if name.startswith("stack"):
            cells[".".join(name.split(".")[:2])] = True
        if name not in parts:
            continue
        index = len(cells) // net.cells + isinstance(layer, nn.Linear)
        each, area = layer.weight[0].numel(), features[index][0].numel()
        own = parts[name]
        means[name] = {"P": own["P"] / each, "G": own["G"] / each, "Z": own["Z"] / area}
        score += abs(means[name]["P"] * means[name]["G"] * means[name]["Z"])
    return score, means


MEASURES = {f.__name__: f for f in (croze, synflow, snip, grad_norm, naswot, grasp, swap)}


# ---- check ---------------------------------------------------------------------------------------------------------


def renamed(key: str, arch: list[int], n: int) -> str:
    """The name here of a tensor of the trained benchmark's network (TinyNetwork)."""
    head, *rest = key.split(".")
    if head != "cells":
        return ".".join([{"stem": "stem.net"}.get(head, f"top.{head}"), *rest])
    stage, place = divmod(int(rest[0]), n + 1)
    if place == n:
        return ".".join([f"reduction{stage + 1}", rest[1].replace("downsample", "residual"), *rest[2:]])
    edge = int(rest[2])
    return ".".join([f"stack_cell{stage + 1}.{place}.options.{5 * edge + SLOTS[arch[edge]]}", *rest[3:]])


def load_case(folder: pathlib.Path):
    """Network with the golden weights, strictly, and the batch. Weights of operations that are not selected are left
    out of both where the case leaves them out."""
    from safetensors.torch import load_file

    case = json.loads((folder / "case.json").read_text())
    tiny = case["kind"] == "proxies_TinyNetwork"
    state = load_file(folder / case.get("weights", "weights.safetensors"))
    if tiny:
        state = {renamed(key, parse(case["arch"]), case["N"]): tensor for key, tensor in state.items()}
    every = case.get("weights_complete", False)
    net = Net(case["arch"], case["N"], case["num_classes"], case["C"], every, tiny).train()
    net.load_state_dict(state, strict=True)
    batch = load_file(folder / "batch.safetensors")
    return net, batch["x"], batch["y"], tiny


def relative(ours: float, golden: float, scale: float = 0.0) -> float:
    return abs(ours - golden) / max(abs(golden), scale, 1e-12)


def kink(net: Net, x, y, measure, golden: float) -> str:
    """Looks for one unit close to zero which, on its other side, makes the f64 run give the golden score."""
    net, x = copy.deepcopy(net).double(), x.double()
    relus = {name: m for name, m in net.named_modules() if isinstance(m, nn.ReLU)}
    values = {}
    hooks = [m.register_forward_pre_hook(lambda _, i, n=n: values.update({n: i[0].clone()})) for n, m in relus.items()]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    close = lambda v: map(tuple, (v.abs() < 1e-6).nonzero().tolist())
    near = sorted((abs(v[place].item()), name, place) for name, v in values.items() for place in close(v))
    for size, name, place in near[:8]:
        shift = torch.zeros_like(values[name])
        shift[place] = -2 * values[name][place]
        # Several ReLUs may read the same node: all of them switch.
        same = [m for n, m in relus.items() if torch.equal(values[n], values[name])]
        hooks = [m.register_forward_pre_hook(lambda _, i: (i[0] + shift,)) for m in same]
        score = measure(net, x, y)[0]
        for hook in hooks:
            hook.remove()
        if relative(score, golden) < 2e-5:
            return f"kink: {score:.9g} with unit {place} of {name}, |input| {size:.1e}, switched"
    return ""


def check_case(folder: pathlib.Path):
    """Yields (measure, ours, golden, relative difference of the score, largest difference of a layer, explanation)."""
    net, x, y, tiny = load_case(folder)
    read = lambda name: json.loads((folder / name).read_text())
    golden = read("proxies.json" if tiny else "zerocost.json")
    for name in ("grad_norm", "snip", "grasp") + (() if tiny else ("synflow",)):
        want = golden["measures"][name]
        score, parts = MEASURES[name](net, x, y)
        expect = want["per_layer_sum"]
        size = max(abs(v) for v in expect.values())
        off = max(relative(parts.get(n, 0.0), v, size) for n, v in expect.items()) if not tiny else None
        diff = relative(score, want["score"])
        why = kink(net, x, y, MEASURES[name], want["score"]) if diff > LIMIT else ""
        yield name, score, want["score"], diff, off, why
    if tiny:  # golden croze of this form has no batch norm at all, which the networks scored here never are
        for name, key in (("naswot", "hook_logdet"), ("naswot once", "hook_logdet_relu_only")):
            score, want = naswot(net, x, y, "once" in name)[0], golden["naswot"][key]
            yield name, score, want, relative(score, want), None, ""
        return
    want = read("croze.json")
    score, parts = croze(net, x, y)
    yield "croze", score, want["score"], relative(score, want["score"]), None, ""
    for key, wanted in (("P", "w_sim"), ("G", "grad_sim"), ("Z", "feat_sim")):
        off = max(relative(parts[row["layer"]][key], row[wanted]) for row in want["layers"])
        sums = sum(parts[row["layer"]][key] for row in want["layers"]), sum(row[wanted] for row in want["layers"])
        yield f"croze {key}", *sums, relative(*sums), off, ""
    for key in ("loss_clean", "loss_adv"):
        yield f"croze {key}", parts[key], want[key], relative(parts[key], want[key]), None, ""


def forms(folder: pathlib.Path):
    """Writes what the forms of croze that the authors did not release give for a golden case, in f64, into the case."""
    net, x, y, tiny = load_case(folder)
    case = json.loads((folder / "case.json").read_text())
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (MEAN, STD))
    low, high = (0 - mean) / std, (1 - mean) / std
    names = {name: name for name in layers(net)}
    if tiny:
        from safetensors.torch import load_file

        own = (key.removesuffix(".weight") for key in load_file(folder / case["weights"]) if key.endswith(".weight"))
        names = {renamed(f"{name}.weight", parse(case["arch"]), case["N"]).removesuffix(".weight"): name for name in own}

    def rows(result: Result) -> dict:
        score, parts = result
        return {"score": score, "layers": [{"layer": names[name]} | part for name, part in parts.items()]}

    written = {
        "origin": f"peers/proxies_torch.py --forms, torch {torch.__version__}, f64",
        "range": [[float(a), float(b)] for a, b in zip(low.flatten(), high.flatten())],
        "croze": rows(croze_paper(net, x, y, low=low, high=high)),
        "croze_mean": rows(croze_mean(net, x, y)),
    }
    (folder / "croze_forms.json").write_text(json.dumps(written, indent=1) + "\n")


def exact(root: pathlib.Path):
    """Writes grasp in f64 of the golden cases below `root` and of the repository's own."""
    own, scores = ROOT / "tests/golden", {}
    for folder in sorted(p.parent for top in (own, root) for p in top.glob("proxies*/*/case.json")):
        net, x, y, _ = load_case(folder)
        scores[f"{folder.parent.name}/{folder.name}"] = grasp(net.double(), x.double(), y)[0]
    origin = f"peers/proxies_torch.py --exact, torch {torch.__version__}, f64"
    text = json.dumps({"origin": origin, "grasp": dict(sorted(scores.items()))}, indent=1)
    (own / "grasp_f64.json").write_text(text + "\n")


def check(root: pathlib.Path) -> bool:
    folders = sorted(p.parent for kind in ("proxies", "proxies_tiny") for p in root.glob(f"**/{kind}/*/case.json"))
    if not folders:
        sys.exit(f"no golden cases below {root}")
    worst, notes, passed = {}, [], True
    print("| case | measure | here | golden | relative difference | largest of a layer |\n|---|---|--:|--:|--:|--:|")
    for folder in folders:
        place = folder.relative_to(root)
        for name, ours, golden, off, layer, why in check_case(folder):
            per = "" if layer is None else f"{layer:.1e}"
            print(f"| {place} | {name} | {ours:.9g} | {golden:.9g} | {off:.1e} | {per} |", flush=True)
            if why or off > LIMIT or (layer or 0.0) > LIMIT:
                notes.append(f"{place} {name}: {off:.1e}, {why or 'FAILED'}")
            passed &= (off <= LIMIT or bool(why)) and (layer or 0.0) <= LIMIT
            row = worst.setdefault(name, [0.0, 0.0, 0])
            row[:] = max(row[0], off), max(row[1], layer or 0.0), row[2] + 1
    print("\n| measure | cases | largest relative difference | largest of a layer |\n|---|--:|--:|--:|")
    for name, (off, layer, cases) in worst.items():
        print(f"| {name} | {cases} | {off:.1e} | {layer:.1e} |")
    print("", *notes, "passed" if passed else "failed", sep="\n")
    return passed


# ---- time ----------------------------------------------------------------------------------------------------------


def cpu_name() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def described(args) -> dict:
    """What figures were made with."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "batch": args.batch,
        "cells": args.cells,
        "repeats": args.repeats,
    }


def timed(work) -> tuple[float, float, object]:
    """Wall and processor seconds, and the result."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - start, time.process_time() - cpu, result


def measure_times(args) -> dict:
    archs, proxies = args.archs.split(","), args.proxies.split(",")
    generator = torch.Generator().manual_seed(42)
    x = torch.randn(args.batch, 3, 32, 32, generator=generator)
    y = torch.randint(10, (args.batch,), generator=generator)
    rows = []
    for index, arch in enumerate(archs):
        row = {"arch": arch, "seconds": {}}
        torch.manual_seed(42)
        build, _, net = timed(lambda: Net(arch, args.cells, every=args.ops == "all").train())
        row["build_s"] = round(build, 5)
        for name in proxies:
            work = lambda: MEASURES[name](net, x, y)
            if index == 0:
                work()  # loads and allocates what is done lazily
            runs = [timed(work) for _ in range(args.repeats)]
            seconds, score = [run[0] for run in runs], runs[-1][2][0]
            row["seconds"][name] = {
                "median": round(statistics.median(seconds), 5),
                "min": round(min(seconds), 5),
                "cpu_min": round(min(run[1] for run in runs), 5),
                "score": score if math.isfinite(score) else str(score),
            }
            print(f"{arch} {name} {statistics.median(seconds):.4f} s", file=sys.stderr, flush=True)
        rows.append(row)
    return described(args) | {"ops": args.ops, "building_counted": False, "archs": rows}


# ---- beside the program --------------------------------------------------------------------------------------------

# What the program calls the same score.
PROGRAM_NAMES = {"croze": "croze_compat", "naswot": "naswot_compat"}


def program_scores(args, folder: pathlib.Path, archs: list[str], name: str, population: int) -> list[dict]:
    cores = set(sorted(os.sched_getaffinity(0))[: args.threads])
    threads = {key: str(args.threads) for key in ("LP_NUM_THREADS", "RAYON_NUM_THREADS")}
    command = [args.beside, "score", "--json", "--quiet", "--arch", *archs, "--proxies", PROGRAM_NAMES.get(name, name)]
    command += ["--weights", folder / "weights.safetensors", "--batch", folder / "batch.safetensors"]
    command += ["--population", str(population)]
    confine = lambda: os.sched_setaffinity(0, cores)
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | threads, preexec_fn=confine)
    return json.loads(run.stdout)


def beside(args) -> dict:
    from safetensors.torch import save_file

    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: max(args.threads, 1)]))
    generator = torch.Generator().manual_seed(42)
    draw = lambda: "".join(str(int(d)) for d in torch.randint(5, (6,), generator=generator))
    archs = []
    while len(archs) < 2 * args.population:  # connected ones, each once
        arch = draw()
        node = [True] + [False] * 3
        for (start, end), digit in zip(EDGES, arch):
            node[end] |= node[start] and digit != "0"
        if node[3] and arch not in archs:
            archs.append(arch)
    counted = archs[args.population :]
    x = torch.randn(args.batch, 3, 32, 32, generator=generator)
    y = torch.randint(10, (args.batch,), generator=generator)
    torch.manual_seed(42)
    # Over-complete networks hold the weights of every architecture.
    state = Net(archs[0], args.cells).state_dict()

    def scored(arch: str, name: str) -> float:
        net = Net(arch, args.cells).train()
        net.load_state_dict(state)
        return MEASURES[name](net, x, y)[0]

    report = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file(state, folder / "weights.safetensors")
        save_file({"x": x, "y": y}, folder / "batch.safetensors")
        for name in args.proxies.split(","):
            scored(counted[0], name)  # loads and allocates what is done lazily
            seconds, off = {"torch": [], "one by one": [], "population": []}, 0.0
            for _ in range(args.repeats):
                runs = [timed(lambda: scored(arch, name)) for arch in counted]
                seconds["torch"].append(sum(run[0] for run in runs) / len(runs))
                for how, size in (("one by one", 1), ("population", args.population)):
                    rows = program_scores(args, folder, archs, name, size)[args.population :]
                    seconds[how].append(sum(row["seconds"] for row in rows) / len(rows))
                    for row, (_, _, score) in zip(rows, runs):
                        score = math.log(score) if name == "synflow" else score
                        off = max(off, relative(row[PROGRAM_NAMES.get(name, name)], score))
            median = {how: statistics.median(values) for how, values in seconds.items()}
            report.append({
                "proxy": name,
                "seconds": {how: [round(v, 5) for v in values] for how, values in seconds.items()},
                "median": {how: round(value, 5) for how, value in median.items()},
                "torch_over_one_by_one": round(median["torch"] / median["one by one"], 3),
                "torch_over_population": round(median["torch"] / median["population"], 3),
                "one_by_one_over_population": round(median["one by one"] / median["population"], 3),
                "largest_relative_difference": off,
            })
            print(f"{name} {median}", file=sys.stderr, flush=True)
    return described(args) | {"ops": "all", "building_counted": True, "archs": counted, "proxies": report}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forms", metavar="CASE", type=pathlib.Path)
    parser.add_argument("--exact", metavar="FOLDER", type=pathlib.Path)
    parser.add_argument("--check", metavar="FOLDER", type=pathlib.Path)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--beside", metavar="PROGRAM")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--archs", default="333333,333132,211111")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--proxies", default=",".join(MEASURES))
    parser.add_argument("--ops", choices=["all", "selected"], default="all")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.forms:
        return forms(args.forms)
    if args.exact:
        return exact(args.exact)
    if args.beside:
        text = json.dumps(beside(args), indent=1)
        return args.out.write_text(text + "\n") if args.out else print(text)
    if not args.check and not args.time:
        parser.error("say --check, --forms, --exact, --time or --beside")
    if args.check and not check(args.check):
        sys.exit(1)
    if args.time:
        print(json.dumps(measure_times(args), indent=1))


if __name__ == "__main__":
    main()
