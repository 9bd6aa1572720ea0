#!/usr/bin/env python3
"""Networks of DARTS cells by PyTorch: those for small images and for ImageNet, with their auxiliary heads, and those of the cells with
14 inputs that CRoZe searches. It writes golden cases, and compares a program's losses with its own.

    pip install torch numpy safetensors           # tested with torch 2.15.0, Python 3.11
    python3 darts_torch.py ../tests/golden/darts_heads
    python3 darts_torch.py --published ../target/release/altiplano
    python3 darts_torch.py --parameters

Weights, statistics and images come from a hash of name and place (`hashed`), so a case holds results alone: logits, losses, and of each
gradient its norm, its product with hashed numbers, and some entries. All is computed in f64 on weights that f32 can hold. Of some
seeds a case has the one whose rectifiers see the fewest values near zero, where rounding decides on a side.
"""

import argparse, json, pathlib, subprocess, tempfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

OPS = ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"]
OPS14 = ["none", "avg_pool_3x3", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "dil_conv_3x3",
         "dil_conv_5x5", "conv_7x1_1x7"]
SOURCES14 = [0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4]
GENAS = {
    "flat_c10": "3,6,0,4,4,0,6,6,0,0,0,0,4,3,5,2,0,6,4,0,3,0,6,0,0,5,0,7",
    "angle_flat_c10": "5,4,4,4,0,4,5,0,0,4,0,0,0,4,7,7,2,3,0,4,1,0,0,0,0,0,5,6",
    "flat_c100": "3,5,0,4,4,0,0,4,5,0,4,0,0,7,6,3,2,0,5,0,5,0,7,0,1,1,0,0",
    "angle_flat_c100": "3,5,1,4,0,0,4,0,4,0,4,0,0,5,6,4,0,7,2,1,3,0,0,0,4,0,0,7",
}
CROZE = {
    "cifar10": "17872413758436.4534-15955967776974.3255",
    "cifar100": "26162177564343.2245-48411675172181.3455",
    "imagenet": "81341734147436.2534-61573725639271.3345",
}
# The weight of an auxiliary loss, as f32 has it.
AUXILIARY = float(np.float32(0.4))


def parse(text: str) -> list[tuple[list[tuple[str, int]], list[int]]]:
    """Of the normal and the reduction cell: operations and earlier nodes, two of each node, and the joined nodes."""
    cells = []
    if "." in text:
        for cell in text.split("-"):
            codes, joined = cell.split(".")
            cells.append(([(OPS14[int(c)], source) for c, source in zip(codes, SOURCES14)], [int(n) for n in joined]))
        return cells
    codes = [int(code) for code in text.split(",")]
    for part in (codes[:14], codes[14:]):
        inputs = [(OPS[part[node * (node + 3) // 2 + source]], source) for node in range(4) for source in range(node + 2)]
        cells.append(([pair for pair in inputs if pair[0] != "none"], [2, 3, 4, 5]))
    return cells


def conv(c: int, k: int, kernel, stride=1, padding=0, dilation=1, groups=1) -> nn.Conv2d:
    return nn.Conv2d(c, k, kernel, stride, padding, dilation, groups, bias=False)


class Sequence(nn.Module):
    """Modules under the name `op`."""

    def __init__(self, *parts):
        super().__init__()
        self.op = nn.Sequential(*parts)

    def forward(self, x):
        return self.op(x)


def depthwise(c: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel - 1) // 2
    return [nn.ReLU(), conv(c, c, kernel, stride, padding, dilation, c), conv(c, c, 1), nn.BatchNorm2d(c)]


class Halved(nn.Module):
    """Half of the channels from even places, half from odd ones."""

    def __init__(self, c: int, k: int):
        super().__init__()
        self.relu, self.bn = nn.ReLU(), nn.BatchNorm2d(k)
        self.conv_1, self.conv_2 = conv(c, k // 2, 1, 2), conv(c, k // 2, 1, 2)

    def forward(self, x):
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


def operation(name: str, c: int, stride: int) -> nn.Module:
    kind, size = name.rsplit("_", 1)
    kernel = int(size.split("x")[0]) if kind not in ("skip", "conv_7x1") else 0
    if kind == "avg_pool":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if kind == "max_pool":
        return nn.MaxPool2d(3, stride, 1)
    if kind == "skip":
        return nn.Identity() if stride == 1 else Halved(c, c)
    if kind == "sep_conv":
        return Sequence(*depthwise(c, kernel, stride, 1), *depthwise(c, kernel, 1, 1))
    if kind == "dil_conv":
        return Sequence(*depthwise(c, kernel, stride, 2))
    assert name == "conv_7x1_1x7", name
    rows, columns = conv(c, c, (1, 7), (1, stride), (0, 3)), conv(c, c, (7, 1), (stride, 1), (3, 0))
    return nn.Sequential(nn.ReLU(), rows, columns, nn.BatchNorm2d(c))


class Cell(nn.Module):
    def __init__(self, cell, channels: tuple[int, int, int], reduction: bool, after_reduction: bool):
        super().__init__()
        before, last, c = channels
        self.inputs, self.joined = cell
        self.preprocess0 = Halved(before, c) if after_reduction else Sequence(nn.ReLU(), conv(before, c, 1), nn.BatchNorm2d(c))
        self.preprocess1 = Sequence(nn.ReLU(), conv(last, c, 1), nn.BatchNorm2d(c))
        stride = lambda source: 2 if reduction and source < 2 else 1
        self._ops = nn.ModuleList(operation(name, c, stride(source)) for name, source in self.inputs)
        self.channels = c * len(self.joined)

    def forward(self, before, last):
        states = [self.preprocess0(before), self.preprocess1(last)]
        for node in range(len(self.inputs) // 2):
            pair = [self._ops[at](states[self.inputs[at][1]]) for at in (2 * node, 2 * node + 1)]
            states.append(pair[0] + pair[1])
        return torch.cat([states[node] for node in self.joined], 1)


class AuxiliaryHead(nn.Module):
    def __init__(self, c: int, classes: int, imagenet: bool):
        super().__init__()
        parts = [nn.ReLU(), nn.AvgPool2d(5, 2 if imagenet else 3, count_include_pad=False)]
        parts += [conv(c, 128, 1), nn.BatchNorm2d(128), nn.ReLU(), conv(128, 768, 2)]
        parts += [nn.ReLU()] if imagenet else [nn.BatchNorm2d(768), nn.ReLU()]
        self.features, self.classifier = nn.Sequential(*parts), nn.Linear(768, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Net(nn.Module):
    def __init__(self, genotype: str, c: int, cells: int, classes: int, imagenet=False, auxiliary=False):
        super().__init__()
        self.imagenet, self.reductions = imagenet, (cells // 3, 2 * cells // 3)
        if imagenet:
            half = [conv(3, c // 2, 3, 2, 1), nn.BatchNorm2d(c // 2), nn.ReLU()]
            self.stem0 = nn.Sequential(*half, conv(c // 2, c, 3, 2, 1), nn.BatchNorm2d(c))
            self.stem1 = nn.Sequential(nn.ReLU(), conv(c, c, 3, 2, 1), nn.BatchNorm2d(c))
            before = last = c
        else:
            self.stem = nn.Sequential(conv(3, 3 * c, 3, 1, 1), nn.BatchNorm2d(3 * c))
            before = last = 3 * c
        normal, reduce = parse(genotype)
        self.cells, after = nn.ModuleList(), imagenet
        for number in range(cells):
            reduction = number in self.reductions
            c *= 2 if reduction else 1
            self.cells.append(Cell(reduce if reduction else normal, (before, last, c), reduction, after))
            before, last, after = last, self.cells[-1].channels, reduction
            if auxiliary and number == self.reductions[1]:
                self.auxiliary_head = AuxiliaryHead(last, classes, imagenet)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x):
        before = self.stem0(x) if self.imagenet else self.stem(x)
        last = self.stem1(before) if self.imagenet else before
        auxiliary = None
        for number, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if number == self.reductions[1] and self.training and hasattr(self, "auxiliary_head"):
                auxiliary = self.auxiliary_head(last)
        return self.classifier(last.mean((2, 3))), auxiliary


def hashed(name: str, shape) -> np.ndarray:
    """Numbers of 24 bits between -1 and 1: the name by FNV-1a, its places by SplitMix64."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).reshape(tuple(shape))


def filled(name: str, shape, seed: int) -> torch.Tensor:
    """A weight, statistic or image of a case, rounded to f32."""
    values = hashed(f"{seed}:{name}", shape)
    if name == "x":
        values = 1.5 * values
    elif len(shape) > 1:
        values = np.sqrt(6.0 / np.prod(shape[1:])) * values
    elif name.endswith("running_var"):
        values = 1.0 + 0.5 * values
    elif name.endswith(("bias", "running_mean")):
        values = 0.2 * values
    else:
        values = 1.0 + 0.3 * values
    return torch.from_numpy(values.astype(np.float32).astype(np.float64))


def fill(net: Net, seed: int):
    state = net.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            tensor.zero_()
        else:
            tensor.copy_(filled(name, tensor.shape, seed))


def batch(size: int, side: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return filled("x", (size, 3, side, side), seed), (torch.arange(size) * 3 + 1) % classes


def margin(net: Net, x: torch.Tensor) -> float:
    """The smallest input of a rectifier in training, of the deviation of all of its inputs."""
    seen = []
    look = lambda _, inputs, __: seen.append((inputs[0].abs().min() / inputs[0].square().mean().sqrt()).item())
    hooks = [part.register_forward_hook(look) for part in net.modules() if isinstance(part, nn.ReLU)]
    with torch.no_grad():
        net.train()(x)
    [hook.remove() for hook in hooks]
    return min(seen)


CASES = {
    "cifar": dict(genotype=GENAS["flat_c10"], form="cifar", C=4, layers=4, side=32),
    "cifar_last": dict(genotype=GENAS["angle_flat_c100"], form="cifar", C=4, layers=3, side=40),
    "imagenet": dict(genotype=GENAS["angle_flat_c10"], form="imagenet", C=4, layers=4, side=224),
    "fourteen": dict(genotype=CROZE["cifar10"], form="cifar", C=4, layers=4, side=32),
    "fourteen_imagenet": dict(genotype=CROZE["imagenet"], form="imagenet", C=4, layers=3, side=224),
}


def gradients(net: nn.Module) -> tuple[dict[str, list[float]], list[str]]:
    """Of each gradient its norm, its product with hashed numbers, and three entries; and names of those that nothing reads."""
    found, none = {}, []
    for name, parameter in net.named_parameters():
        if parameter.grad is None:
            none.append(name)
            continue
        g = parameter.grad.flatten()
        probe = torch.from_numpy(hashed(f"probe:{name}", g.shape))
        entries = [g[place].item() for place in (0, len(g) // 3, 2 * len(g) // 3)]
        results = [g.norm().item(), (g * probe).sum().item(), *entries]
        found[name] = [float(f"{value:.12g}") for value in results]
    return found, none


def golden(folder: pathlib.Path, seeds: int):
    for tag, info in CASES.items():
        # The last norm of a head for small images sees one position of each image: of two, it would leave their signs alone.
        size = 2 if info["form"] == "imagenet" else 5
        case = {"kind": "darts_heads", **info, "classes": 5, "batch": size, "auxiliary": AUXILIARY, "torch": torch.__version__}
        net = Net(info["genotype"], info["C"], info["layers"], 5, info["form"] == "imagenet", True)
        tried = []
        for seed in range(seeds):
            fill(net, seed)
            tried.append((margin(net, batch(size, info["side"], 5, seed)[0]), seed))
        case["margin"], case["seed"] = max(tried)
        fill(net, case["seed"])
        x, y = batch(size, info["side"], 5, case["seed"])
        with torch.no_grad():
            logits, _ = net.eval()(x)
        case["eval"] = {"logits": logits.flatten().tolist(), "loss": F.cross_entropy(logits, y).item()}
        logits, auxiliary = net.train()(x)
        losses = F.cross_entropy(logits, y), F.cross_entropy(auxiliary, y)
        total = losses[0] + AUXILIARY * losses[1]
        total.backward()
        case["train"] = {
            "logits": logits.flatten().tolist(),
            "auxiliary_logits": auxiliary.flatten().tolist(),
            "loss": losses[0].item(),
            "auxiliary_loss": losses[1].item(),
            "total_loss": total.item(),
        }
        case["gradients"], case["without_gradient"] = gradients(net)
        states = {name: tensor for name, tensor in net.state_dict().items() if "running_" in name}
        used = [tensor for name, tensor in states.items() if name.rsplit(".", 1)[0] + ".weight" in case["gradients"]]
        case["statistics_norm"] = sum(tensor.square().sum().item() for tensor in used) ** 0.5
        path = folder / tag / "case.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(case, allow_nan=False).replace('], "', '],\n "').replace('}, "', '},\n "')
        path.write_text(text + "\n")
        print(f"{path}: {len(text)} bytes, seed {case['seed']}, margin {case['margin']:.1e}, loss {total.item():.6f}")


def published(program: str):
    """Losses of the published cells at their authors' sizes, here and by a program, on equal weights.

    They are those of an evaluation, with the statistics of other images, and norms shift by one, so that rectifiers let most values pass.
    Networks as deep as these with other random weights make so much of rounding that PyTorch's own loss in f32 is up to 4e-3 from that in
    f64."""
    from safetensors.torch import save_file

    worst = 0.0
    for tag, genotype in GENAS.items():
        net = Net(genotype, 36, 20, 10)
        fill(net, 1)
        with torch.no_grad():
            for part in net.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.momentum = 1.0
                    part.bias += 1.0
            net.train()(batch(16, 32, 10, 2)[0])
            # As f32 has them.
            net.float().double().eval()
            x, y = batch(2, 32, 10, 1)
            want = F.cross_entropy(net(x)[0], y).item()
            single = F.cross_entropy(net.float()(x.float())[0], y).item()
        with tempfile.TemporaryDirectory() as folder:
            place = lambda name: str(pathlib.Path(folder) / f"{name}.safetensors")
            save_file({k: v.float() for k, v in net.state_dict().items() if "num_batches" not in k}, place("weights"))
            save_file({"x": x.float(), "y": y}, place("batch"))
            options = f"step --space darts --build form=cifar --channels 36 --cells 20 --arch {genotype} --mode eval".split()
            files = ["--weights", place("weights"), "--batch", place("batch"), "--out", place("out")]
            answer = subprocess.run([program, "--json", *options, *files], check=True, stdout=subprocess.PIPE)
        got = json.loads(answer.stdout)["loss"]
        worst = max(worst, abs(got / want - 1.0))
        print(f"{tag}: PyTorch {want:.7f}, in f32 {single / want - 1.0:+.1e} beside that, altiplano {got / want - 1.0:+.1e}", flush=True)
    raise SystemExit(worst > 1e-4)


def parameters():
    for tag, genotype in {**GENAS, **CROZE}.items():
        count = lambda net: sum(parameter.numel() for parameter in net.parameters())
        print(f"{tag}: {count(Net(genotype, 36, 20, 10))} parameters with 36 channels, 20 cells and 10 classes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, nargs="?", help="where golden cases go")
    parser.add_argument("--seeds", type=int, default=40, help="of which a case has the best")
    parser.add_argument("--published", metavar="PROGRAM", help="compare losses of published cells with those of altiplano")
    parser.add_argument("--parameters", action="store_true", help="count those of published cells")
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    if args.parameters:
        parameters()
    if args.folder:
        golden(args.folder, args.seeds)
    if args.published:
        published(args.published)


if __name__ == "__main__":
    main()
