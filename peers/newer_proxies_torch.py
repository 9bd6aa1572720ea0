#!/usr/bin/env python3
"""SWAP, ConJS, CRoZe's forms and grasp in PyTorch, in f64, on networks of NAS-Bench-201 and of DARTS cells.

    python3 newer_proxies_torch.py                # writes tests/golden/newer_proxies.json
    python3 newer_proxies_torch.py --case CASE    # prints what there is of one golden case
    python3 newer_proxies_torch.py --weights FILE --batch FILE --genotype JSON [--channels 16] [--cells 8]
                                                  # of a DARTS network with these tensors
    python3 newer_proxies_torch.py --beside ALTIPLANO [--out FILE] [--population 8] [--threads 2] [--repeats 3] [--batch-size 16]
                                   [--proxies synflow,naswot,croze_mean,swap]   # seconds of both for random DARTS networks

--beside runs `altiplano score` and PyTorch in turns on the same random networks, on as many cores: first one network with the same
weights and images, whose scores must agree to 1e-3, then a population with weights of each one's own. The population before it, in
which the program compiles shaders, is not counted. Building networks and drawing weights is counted in both. CRoZe and synflow run in
f64 here, as released, and patterns of SWAP are told apart by sorting them, which takes minutes.

Networks are those of golden cases, with their weights and images; formulas are those of the released code (CRoZe and TRNAS), and
features those that it takes: stem, stages and average of NAS-Bench-201, stem, cells and average of DARTS. Batch norms are all
left out of the copies, as the released code does where it has no network of its own without them.

`swap` is the count for the given weights, one draw. `near` counts units whose input is within 1e-5 of their tensor's root mean
square of zero: f32 may find each of them on its other side.
"""

import argparse, copy, json, os, pathlib, random, statistics, subprocess, sys, tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F

from proxies_torch import ROOT, cpu_name, grads, grasp, layers, load_case, naswot, positive_copy, renamed, parse
from proxies_torch import swap, synflow, timed, weights

CASES = ["proxies_tiny/1_mixed", "darts/0_genas_flat_c10"]
IMAGES = "proxies_tiny/1_mixed/batch.safetensors"  # of both: the other case's own are too few to tell patterns apart
GAMMA, EPSILON = 2.0, 0.01

# ---- networks of DARTS cells -----------------------------------------------------------------------------------------


def norm(c: int):
    return nn.BatchNorm2d(c)


class Sequence(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.op = nn.Sequential(*parts)

    def forward(self, x):
        return self.op(x)


def depthwise(c: int, kernel: int, stride: int, dilation: int = 1):
    padding = dilation * (kernel - 1) // 2
    wide = nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False)
    return [nn.ReLU(), wide, nn.Conv2d(c, c, 1, bias=False), norm(c)]


class FactorizedReduce(nn.Module):
    def __init__(self, cin: int, c: int):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(cin, c // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(cin, c // 2, 1, 2, bias=False)
        self.bn = norm(c)

    def forward(self, x):
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


def operation(name: str, c: int, stride: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    kernel = int(name[-1])
    if name.startswith("sep"):
        return Sequence(*depthwise(c, kernel, stride), *depthwise(c, kernel, 1))
    return Sequence(*depthwise(c, kernel, stride, 2))


def pointwise(cin: int, c: int) -> nn.Module:
    return Sequence(nn.ReLU(), nn.Conv2d(cin, c, 1, bias=False), norm(c))


class Cell(nn.Module):
    def __init__(self, genotype: dict, before: int, last: int, c: int, reduction: bool, was_reduction: bool):
        super().__init__()
        self.preprocess0 = FactorizedReduce(before, c) if was_reduction else pointwise(before, c)
        self.preprocess1 = pointwise(last, c)
        self.edges = genotype["reduce" if reduction else "normal"]
        stride = lambda source: 2 if reduction and source < 2 else 1
        self._ops = nn.ModuleList(operation(name, c, stride(source)) for name, source in self.edges)

    def forward(self, before, last):
        states = [self.preprocess0(before), self.preprocess1(last)]
        for node in range(4):
            pair = [(self._ops[i], self.edges[i][1]) for i in (2 * node, 2 * node + 1)]
            states.append(sum(op(states[source]) for op, source in pair))
        return torch.cat(states[2:], 1)


class Darts(nn.Module):
    """NetworkCIFAR without its auxiliary branch."""

    tiny = True  # no norm stays in copies without norms

    def __init__(self, genotype: dict, c: int, cells: int, classes: int, inputs: int = 3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(inputs, 3 * c, 3, padding=1, bias=False), norm(3 * c))
        before, last, was_reduction, parts = 3 * c, 3 * c, False, []
        for i in range(cells):
            reduction = i in (cells // 3, 2 * cells // 3)
            c *= 2 if reduction else 1
            parts.append(Cell(genotype, before, last, c, reduction, was_reduction))
            before, last, was_reduction = last, 4 * c, reduction
        self.cells = nn.ModuleList(parts)
        self.classifier = nn.Linear(last, classes)

    def features(self, x):
        before = last = self.stem(x)
        features = [last]
        for cell in self.cells:
            before, last = last, cell(before, last)
            features.append(last)
        pooled = last.mean((2, 3))
        return self.classifier(pooled), [*features, pooled]

    def forward(self, x):
        return self.features(x)[0]


# ---- measures ----------------------------------------------------------------------------------------------------------


def feature_indices(net: nn.Module) -> dict[str, int]:
    """Of each layer, as the released code counts cells entered so far, this one included."""
    cells, indices = {}, {}
    for name, layer in layers(net).items():
        if isinstance(net, Darts):
            number = int(name.split(".")[1]) + 1 if name.startswith("cells.") else 0
            indices[name] = len(net.cells) + 1 if isinstance(layer, nn.Linear) else number
            continue
        if name.startswith("stack"):
            cells[".".join(name.split(".")[:2])] = True
        indices[name] = len(cells) // net.cells + isinstance(layer, nn.Linear)
    return indices


def released(net: nn.Module, x, y) -> dict:
    """Network and copy of the released CRoZe, in f64, with gradients and features."""
    clean, x = positive_copy(net), x.double()
    adv = copy.deepcopy(clean)
    g = grads(F.cross_entropy(adv(x), y), adv)
    with torch.no_grad():
        for w, slope in zip(weights(adv), g):
            if slope is not None:
                step = (w + 1e-3 * slope) - w
                w.add_(step * (GAMMA * w.norm() / (step.norm() + 1e-30)))
    x.requires_grad_()
    slope, *first = torch.autograd.grad(F.cross_entropy(adv(x), y), [x, *weights(adv)], allow_unused=True)
    x = x.detach()
    x_adv = (x - EPSILON * slope.sign()).clamp(0, 1)
    logits, feats = clean.features(x)
    logits_adv, feats_adv = adv.features(x_adv)
    g = grads(F.cross_entropy(logits, y), clean)
    last = grads(F.cross_entropy(logits_adv, y), adv)
    both = [None if a is None else a + b for a, b in zip(first, last)]
    feats, feats_adv = ([f.detach() for f in own] for own in (feats, feats_adv))
    return {"clean": clean, "adv": adv, "g": g, "g_adv": both, "feats": feats, "feats_adv": feats_adv}


def js_divergence(p, q, eps: float = 1e-8) -> float:
    """As released: the divergences from the mean to both, after a softmax over all values."""
    p, q = (F.softmax(v.reshape(1, -1), dim=1) + eps for v in (p, q))
    m = 0.5 * (p + q)
    div = lambda p: F.kl_div(p.log(), m, reduction="batchmean")
    return float(0.5 * (div(p) + div(q)))


def terms(net: nn.Module, x, y) -> dict[str, dict]:
    """Per layer: P, G and Z of the released form and of means, and w and f of ConJS."""
    own, rows = released(net, x, y), {}
    indices = feature_indices(own["clean"])
    similar = lambda a, b: F.cosine_similarity(a, b, dim=0, eps=1e-8)
    with torch.no_grad():
        pairs = list(zip(own["feats_adv"], own["feats"]))
        z = [1 + similar(a, b) for a, b in pairs]
        f = [1 / (1 + js_divergence(b, a)) for a, b in pairs]
        for i, (name, layer) in enumerate(layers(own["clean"]).items()):
            if own["g"][i] is None:
                continue
            moved, at = own["adv"].get_submodule(name).weight, indices[name]
            p, g = 1 + similar(moved, layer.weight), similar(own["g_adv"][i], own["g"][i]).abs()
            rows[name] = {
                "compat": [float(v.sum()) for v in (p, g, z[at])],
                "mean": [float(v.mean()) for v in (p, g, z[at])],
                "conjs": [1 / (1 + js_divergence(layer.weight, moved)), f[at]],
            }
    return rows


def patterns(net: nn.Module, x) -> tuple[int, int]:
    """Distinct patterns of rectified units, and how many units are near zero, in f64."""
    net, signs, near = copy.deepcopy(net).double(), [], {}

    def hook(_, inputs):
        v = inputs[0].detach()
        signs.append((v > 0).flatten(1))
        size = v.square().mean().sqrt()
        # Several rectifiers may read one tensor.
        near[v.data_ptr(), v.shape] = int(((v.abs() < 1e-5 * size) & (v != 0)).sum())

    hooks = [m.register_forward_pre_hook(hook) for m in net.modules() if isinstance(m, nn.ReLU)]
    with torch.no_grad():
        net(x.double())
    for own in hooks:
        own.remove()
    return torch.unique(torch.cat(signs, 1), dim=1).shape[1], sum(near.values())


def answers(net: nn.Module, x, y) -> dict:
    rows = terms(net, x, y)
    swap, near = patterns(net, x)
    product = lambda v: abs(v[0] * v[1] * v[2])
    return {
        "swap": swap,
        "near": near,
        "layers": len(rows),
        "grasp": grasp(copy.deepcopy(net).double(), x.double(), y)[0],
        "conjs": sum(row["conjs"][0] * row["conjs"][1] for row in rows.values()),
        "croze_compat": sum(product(row["compat"]) for row in rows.values()),
        "croze_mean": sum(product(row["mean"]) for row in rows.values()),
        "terms": rows,
    }


def of_case(folder: pathlib.Path) -> dict:
    from safetensors.torch import load_file

    case = json.loads((folder / "case.json").read_text())
    if "genotype" in case:
        net = Darts(case["genotype"], case["C"], case["layers"], case["num_classes"]).train()
        state = {k: v for k, v in load_file(folder / "weights.safetensors").items() if not k.startswith("auxiliary")}
        net.load_state_dict(state, strict=False)
        batch = load_file(folder.parents[1] / IMAGES)
        return answers(net, batch["x"], batch["y"])
    net, x, y, _ = load_case(folder)
    found = answers(net, x, y)
    # Names of the benchmark's own network.
    own = (key.removesuffix(".weight") for key in load_file(folder / case["weights"]) if key.endswith(".weight"))
    names = {renamed(f"{name}.weight", parse(case["arch"]), case["N"]).removesuffix(".weight"): name for name in own}
    return found | {"terms": {names[name]: row for name, row in found["terms"].items()}}


# ---- beside the program --------------------------------------------------------------------------------------------------


def random_genotype(draw: random.Random) -> dict:
    names = "max_pool_3x3 skip_connect sep_conv_3x3 sep_conv_5x5 dil_conv_3x3 dil_conv_5x5 avg_pool_3x3".split()
    node = lambda n: [[draw.choice(names), source] for source in sorted(draw.sample(range(2 + n), 2))]
    return {kind: [edge for n in range(4) for edge in node(n)] for kind in ("normal", "reduce")}


def program(args, genotypes: list[dict], proxies: str, *more) -> list[dict]:
    threads = {key: str(args.threads) for key in ("LP_NUM_THREADS", "RAYON_NUM_THREADS")}
    command = [args.beside, "score", "--json", "--quiet", "--space", "darts", "--proxies", proxies]
    command += ["--build", f"channels={args.channels},cells={args.cells}", *map(str, more), "--arch"]
    command += map(json.dumps, genotypes)
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | threads)
    return json.loads(run.stdout)


def beside(args) -> dict:
    from safetensors.torch import save_file

    torch.set_num_threads(args.threads)
    draw, generator = random.Random(42), torch.Generator().manual_seed(42)
    genotypes = [random_genotype(draw) for _ in range(2 * args.population)]
    counted = genotypes[args.population :]
    x = torch.randn(args.batch_size, 3, 32, 32, generator=generator)
    y = torch.randint(10, (args.batch_size,), generator=generator)
    make = lambda genotype: Darts(genotype, args.channels, args.cells, 10).train()
    measures = {
        "synflow": lambda net: synflow(net, x, y),
        "naswot": lambda net: naswot(net, x, y, once=True),
        "croze_mean": lambda net: terms(net, x, y),
        "swap": lambda net: swap(net, x, y),
    }
    report = {"torch": torch.__version__, "cpu": cpu_name()}
    report |= {key: getattr(args, key) for key in ("channels", "cells", "batch_size", "threads", "repeats", "population")}
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / name for name in ("weights.safetensors", "batch.safetensors")]
        torch.manual_seed(42)
        net = make(counted[0])
        save_file(net.state_dict(), files[0])
        save_file({"x": x, "y": y}, files[1])
        given = ("--weights", files[0], "--batch", files[1])
        rows, ours = terms(net, x, y), program(args, counted[:1], "layers,croze_mean,conjs", *given)[0]
        theirs = {
            "layers": len(rows),
            "croze_mean": sum(abs(row["mean"][0] * row["mean"][1] * row["mean"][2]) for row in rows.values()),
            "conjs": sum(row["conjs"][0] * row["conjs"][1] for row in rows.values()),
        }
        # CRoZe is 0 where a network of absolute weights gives every image its label.
        apart = {key: abs(ours[key] / theirs[key] - 1) for key in theirs if theirs[key]}
        assert apart and max(apart.values()) < 1e-3, apart
        report |= {"scores_apart": apart, "proxies": []}
        for name, of in ((name, measures[name]) for name in args.proxies.split(",")):
            seconds = {"torch": [], "program": []}
            of(make(counted[0]))  # loads and allocates what is done lazily
            for _ in range(args.repeats):
                work = lambda: [of(make(genotype)) for genotype in counted]
                seconds["torch"].append(timed(work)[0] / len(counted))
                rows = program(args, genotypes, name, "--population", args.population, *given[2:])
                seconds["program"].append(sum(row["seconds"] for row in rows[args.population :]) / len(counted))
            ours, theirs = (statistics.median(seconds[key]) for key in ("program", "torch"))
            rounded = {key: [round(v, 4) for v in values] for key, values in seconds.items()}
            report["proxies"].append({"proxy": name, "seconds": rounded, "torch_over_program": round(theirs / ours, 3)})
            print(report["proxies"][-1], file=sys.stderr, flush=True)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=pathlib.Path)
    parser.add_argument("--weights", type=pathlib.Path)
    parser.add_argument("--batch", type=pathlib.Path)
    parser.add_argument("--genotype")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--beside", metavar="PROGRAM")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--proxies", default="synflow,naswot,croze_mean,swap")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", dest="batch_size", type=int, default=16)
    args = parser.parse_args()
    if args.beside:
        text = json.dumps(beside(args), indent=1)
        return args.out.write_text(text + "\n") if args.out else print(text)
    if args.case:
        return print(json.dumps(of_case(args.case), indent=1))
    if args.genotype:
        from safetensors.torch import load_file

        batch = load_file(args.batch)
        state, x = load_file(args.weights), batch["x"]
        classes = state["classifier.weight"].shape[0]
        net = Darts(json.loads(args.genotype), args.channels, args.cells, classes, x.shape[1]).train()
        net.load_state_dict(state, strict=False)
        return print(json.dumps(answers(net, x, batch["y"].long()), indent=1))
    golden = ROOT / "tests/golden"
    written = {"origin": f"peers/newer_proxies_torch.py, torch {torch.__version__}, f64"}
    written |= {case: of_case(golden / case) for case in CASES}
    short = lambda v: float(f"{v:.9g}")
    text = json.dumps(json.loads(json.dumps(written), parse_float=lambda v: short(float(v))))
    (golden / "newer_proxies.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
