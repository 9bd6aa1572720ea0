#!/usr/bin/env python3
"""A golden case of weight noise and loss profiles by PyTorch: FlatNAS's R with given draws, and the loss along
filter-normalised directions (Li et al. 2018), on a small network with random weights and synthetic images.

    pip install torch numpy safetensors           # tested with torch 2.15.0, Python 3.11
    python3 flatness_torch.py ../tests/golden/flatness/1

Noise: `p + sigma (p z)` for every parameter, in evaluation mode, statistics untouched. R: the mean of |A - A_m| over draws, in
percent points. Directions: each filter has the norm of the network's own, vectors do not move.
"""

import argparse, copy, json, pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from proxies_torch import Net, parse, renamed

NAMES = pathlib.Path(__file__).resolve().parents[1] / "tests/golden/nb201/1_mixed"
CHANNELS, SIDE, IMAGES, DRAWS = 4, 16, 64, 3
SIGMAS = [0.05, 0.2]
ALPHAS = [-1.0, -0.6, -0.2, 0.0, 0.3, 0.7, 1.0]
GRID = [-1.0, 0.0, 0.5, 1.0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    # The benchmark's names of this architecture's tensors.
    arch = json.loads((NAMES / "case.json").read_text())["arch"]
    names = {renamed(key, parse(arch), 1): key for key in load_file(NAMES / "weights.safetensors")}
    net = Net(arch, 1, c=CHANNELS, every=False, tiny=True).eval()
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            tensor.normal_(0.0, 0.2)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if tensor.dim() == 1 and "classifier" not in name:
                tensor.add_(0.2 * torch.randn_like(tensor))
            if tensor.dim() > 1:
                # Larger than fresh ones: logits must be apart for accuracies to mean something.
                tensor.mul_(2.0)
    smooth = F.interpolate(torch.randn(IMAGES, 3, 4, 4), size=SIDE, mode="bicubic", align_corners=False)
    x = smooth + 0.2 * torch.randn(IMAGES, 3, SIDE, SIDE)
    with torch.no_grad():
        y = net(x).argmax(1)
    # A quarter of the answers are wrong.
    y = torch.where(torch.arange(IMAGES) % 4 == 3, (y + 1 + torch.randint(9, (IMAGES,))) % 10, y)

    def judged(net) -> tuple[torch.Tensor, dict]:
        with torch.no_grad():
            logits = net(x)
        accuracy = 100.0 * (logits.argmax(1) == y).sum().item() / IMAGES
        return logits, {"ce": F.cross_entropy(logits, y).item(), "acc": accuracy}

    def moved(by) -> Net:
        other = copy.deepcopy(net)
        with torch.no_grad():
            for name, parameter in other.named_parameters():
                parameter.add_(by(name, parameter))
        return other

    def named(prefix: str, tensors: dict) -> dict:
        return {f"{prefix}{names[key]}": tensor.contiguous() for key, tensor in tensors.items()}

    logits, base = judged(net)
    tensors, scalars, noise = {"logits_base": logits}, {"base_ce": base["ce"], "base_acc": base["acc"], "R": {}}, {}
    draws = [{name: torch.randn_like(p) for name, p in net.named_parameters()} for _ in range(DRAWS)]
    for number, z in enumerate(draws):
        noise |= named(f"z{number}.", z)
    for sigma in SIGMAS:
        found = []
        for number, z in enumerate(draws):
            logits, score = judged(moved(lambda name, p: sigma * (p * z[name])))
            tensors[f"logits_sigma{sigma}_draw{number}"] = logits
            found.append(score)
        scalars["R"][str(sigma)] = {
            "ce_draws": [score["ce"] for score in found],
            "acc_draws": [score["acc"] for score in found],
            "R": sum(abs(base["acc"] - score["acc"]) for score in found) / DRAWS,
        }
    raw, directions = {}, []
    for prefix in ("dx", "dy"):
        direction = {}
        for name, parameter in net.named_parameters():
            d = torch.randn_like(parameter)
            raw[f"{prefix}.{names[name]}"] = d.clone()
            for own, w in zip(d, parameter.detach()):
                own.mul_(w.norm() / (own.norm() + 1e-10) if parameter.dim() > 1 else 0.0)
            direction[name] = d
        directions.append(direction)
        tensors |= named(f"sampled.norm_{prefix}.", direction)
    dx, dy = directions
    at = lambda a, b: judged(moved(lambda name, _: a * dx[name] + b * dy[name]))[1]
    scalars["profile_1d_along_dx"] = [{"alpha": alpha, **at(alpha, 0.0)} for alpha in ALPHAS]
    scalars["grid_2d[alpha_index(dx)][beta_index(dy)]"] = [[at(a, b) for b in GRID] for a in GRID]

    case = {
        "kind": "flatness",
        "arch": arch,
        "C": CHANNELS,
        "N": 1,
        "num_classes": 10,
        "seed": args.seed,
        "M": DRAWS,
        "sigmas": SIGMAS,
        "profile_alphas": ALPHAS,
        "grid": GRID,
        "torch": torch.__version__,
    }
    args.folder.mkdir(parents=True, exist_ok=True)
    state = {key: tensor for key, tensor in net.state_dict().items()}
    save = lambda name, what: save_file({k: v.contiguous() for k, v in what.items()}, args.folder / f"{name}.safetensors")
    save("weights", named("", state))
    save("batch", {"x": x, "y": y})
    save("noise", noise)
    save("directions_raw", raw)
    save("flatness", tensors)
    for name, value in (("case", case), ("scalars", scalars)):
        (args.folder / f"{name}.json").write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
