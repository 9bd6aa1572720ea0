#!/usr/bin/env python3
"""Networks of the elastic MobileNetV3 by PyTorch, written from its description. It writes golden cases.

    pip install torch numpy safetensors           # tested with torch 2.15.0, Python 3.11
    python3 mobilenet_v3_torch.py ../tests/golden/mobilenet_v3

Weights, statistics and images are those of `darts_torch.py`, from a hash of name and place; a case holds results alone, computed in f64
on weights that f32 can hold. Of some seeds a case has the one whose activations see the fewest values near a kink.
"""

import argparse, json, pathlib

import torch
import torch.nn.functional as F
from torch import nn

from darts_torch import batch, fill, gradients

# Of each stage: channels, stride, hard swish, squeeze and excitation.
STAGES = [(24, 2, False, False), (40, 2, False, True), (80, 2, True, False), (112, 1, True, True), (160, 2, True, True)]


def divisible(channels: float) -> int:
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def parse(text: str) -> dict[str, list[int]]:
    return {part[0]: [int(number) for number in part[2:].split(",")] for part in text.split(";")}


class Swish(nn.Module):
    def forward(self, x):
        return x * F.relu6(x + 3) / 6


class Excite(nn.Module):
    """Squeeze and excitation, with the authors' names: `fc.reduce` and `fc.expand`."""

    def __init__(self, channels: int):
        super().__init__()
        middle = divisible(channels // 4)
        self.fc = nn.ModuleDict({"reduce": nn.Conv2d(channels, middle, 1), "relu": nn.ReLU(), "expand": nn.Conv2d(middle, channels, 1)})

    def forward(self, x):
        gates = self.fc["expand"](self.fc["relu"](self.fc["reduce"](x.mean((2, 3), keepdim=True))))
        return x * F.relu6(gates + 3) / 6


def layer(c: int, k: int, kernel: int, stride: int, groups: int, act, excites=False, norm=True) -> nn.Sequential:
    parts = nn.Sequential()
    parts.add_module("conv", nn.Conv2d(c, k, kernel, stride, kernel // 2, groups=groups, bias=False))
    if norm:
        parts.add_module("bn", nn.BatchNorm2d(k))
    if act is not None:
        parts.add_module("act", act)
    if excites:
        parts.add_module("se", Excite(k))
    return parts


class Bottleneck(nn.Module):
    def __init__(self, c, middle, k, kernel, stride, swishes, excites):
        super().__init__()
        act = lambda: Swish() if swishes else nn.ReLU()
        self.conv = nn.Sequential()
        if middle != c:
            self.conv.add_module("inverted_bottleneck", layer(c, middle, 1, 1, 1, act()))
        self.conv.add_module("depth_conv", layer(middle, middle, kernel, stride, middle, act(), excites))
        self.conv.add_module("point_linear", layer(middle, k, 1, 1, 1, None))
        self.residual = stride == 1 and c == k

    def forward(self, x):
        return self.conv(x) + x if self.residual else self.conv(x)


class Net(nn.Module):
    def __init__(self, arch: str, width: float, classes: int):
        super().__init__()
        genes, times = parse(arch), lambda channels: divisible(channels * width)
        c = times(16)
        self.first_conv = layer(3, c, 3, 2, 1, Swish())
        self.blocks = nn.ModuleList([Bottleneck(c, c, times(16), 3, 1, False, False)])
        c, place = times(16), 0
        for (channels, first, swishes, excites), depth in zip(STAGES, genes["d"]):
            for number in range(depth):
                k, middle = times(channels), divisible(c * genes["e"][place])
                self.blocks.append(Bottleneck(c, middle, k, genes["k"][place], 1 if number else first, swishes, excites))
                c, place = k, place + 1
        self.final_expand_layer = layer(c, times(960), 1, 1, 1, Swish())
        self.feature_mix_layer = layer(times(960), times(1280), 1, 1, 1, Swish(), norm=False)
        self.classifier = nn.ModuleDict({"linear": nn.Linear(times(1280), classes)})

    def forward(self, x):
        x = self.first_conv(x)
        for block in self.blocks:
            x = block(x)
        x = self.final_expand_layer(x).mean((2, 3), keepdim=True)
        return self.classifier["linear"](self.feature_mix_layer(x).flatten(1))


def margin(net: Net, x: torch.Tensor) -> float:
    """How far the nearest input of an activation lies from its kinks in training, of the deviation of all of its inputs."""
    seen = []

    def look(part, inputs, _):
        kinks = (0.0,) if isinstance(part, nn.ReLU) else (-3.0, 3.0)
        z = inputs[0]
        seen.append(min((z - kink).abs().min() for kink in kinks).item() / z.square().mean().sqrt().item())

    hooks = [part.register_forward_hook(look) for part in net.modules() if isinstance(part, (nn.ReLU, Swish))]
    with torch.no_grad():
        net.train()(x)
    [hook.remove() for hook in hooks]
    return min(seen)


CASES = {
    "mixed": dict(arch="r=64;d=2,3,2,2,2;k=3,5,7,5,3,7,3,5,7,5,3;e=3,4,6,3,6,4,6,3,4,6,3", width=0.25),
    "wide": dict(arch="r=44;d=2,2,2,3,2;k=7,3,5,5,3,7,3,7,5,5,3;e=4,6,3,3,4,6,3,4,4,3,6", width=0.5),
}


def golden(folder: pathlib.Path, seeds: int):
    for tag, info in CASES.items():
        size, side = 4, parse(info["arch"])["r"][0]
        case = {"kind": "mobilenet_v3", **info, "side": side, "classes": 5, "batch": size, "torch": torch.__version__}
        net = Net(info["arch"], info["width"], 5)
        tried = []
        for seed in range(seeds):
            fill(net, seed)
            tried.append((margin(net, batch(size, side, 5, seed)[0]), seed))
        case["margin"], case["seed"] = max(tried)
        fill(net, case["seed"])
        x, y = batch(size, side, 5, case["seed"])
        with torch.no_grad():
            logits = net.eval()(x)
        case["eval"] = {"logits": logits.flatten().tolist(), "loss": F.cross_entropy(logits, y).item()}
        logits = net.train()(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        case["train"] = {"logits": logits.flatten().tolist(), "loss": loss.item(), "total_loss": loss.item()}
        case["gradients"], case["without_gradient"] = gradients(net)
        states = [tensor for name, tensor in net.state_dict().items() if "running_" in name]
        case["statistics_norm"] = sum(tensor.square().sum().item() for tensor in states) ** 0.5
        path = folder / tag / "case.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(case, allow_nan=False).replace('], "', '],\n "').replace('}, "', '},\n "')
        path.write_text(text + "\n")
        print(f"{path}: {len(text)} bytes, seed {case['seed']}, margin {case['margin']:.1e}, loss {loss.item():.6f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where golden cases go")
    parser.add_argument("--seeds", type=int, default=40, help="of which a case has the best")
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    golden(args.folder, args.seeds)


if __name__ == "__main__":
    main()
