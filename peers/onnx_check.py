"""Exported networks in ONNX Runtime, held against altiplano's own step on the same images.

    ALTIPLANO=target/release/altiplano python3 peers/onnx_check.py MODEL.safetensors ...
    ALTIPLANO=target/release/altiplano python3 peers/onnx_check.py --spaces

Each model is exported with its norms kept and folded, the file is checked by the package `onnx`, and run for 1, 3 and 8 images. `step` computes
the same logits on the adapter, in f32. `--spaces` first makes models of every space: random weights and running statistics in files that say
what they are, for architectures drawn by a seed. With TRACT=PROGRAM in the environment (peers/tract-check) that runs each file too.

Needs `onnx`, `onnxruntime`, `numpy` and `safetensors`. The status is 1 if a difference is larger than 1e-5 of the largest logit, unless `step` itself is about as far from what ONNX's reference
implementation computes in f64: deep networks of random weights are worth fewer digits in f32.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

PROGRAM = os.environ.get("ALTIPLANO", "target/release/altiplano")
TRACT = os.environ.get("TRACT")
TOLERANCE = 1e-5
# Of DARTS cells.
OPERATIONS = ["max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"]
# Of each space: its name, a form, the side of images, and options.
FORMS = [
    ("nas-bench-201", "tiny", 16, {"channels": 8, "cells": 1}),
    ("nas-bench-201", "zero-cost-nas", 16, {"channels": 8, "cells": 1}),
    ("darts", "cifar", 16, {"channels": 8, "cells": 3, "auxiliary": 0.0}),
    ("darts", "search", 16, {"channels": 8, "cells": 3, "auxiliary": 0.0}),
    ("darts", "imagenet", 32, {"channels": 8, "cells": 3, "auxiliary": 0.0}),
    ("darts-14", "cifar", 16, {"channels": 8, "cells": 3, "auxiliary": 0.0}),
    ("mobilenet-v3", "ofa", 32, {"width": 0.5, "smallest": 32, "step": 4}),
]


def run(*arguments):
    """What the program says in JSON."""
    result = subprocess.run([PROGRAM, *map(str, arguments), "--json", "--quiet"], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{arguments}: {result.stderr}")
    return json.loads(result.stdout)


def card_of(model):
    with safe_open(model, "np") as file:
        return json.loads(file.metadata()["altiplano.card"])


def architectures(space, count, draw):
    """Names of architectures, drawn here: codes that the program reads."""
    if space == "nas-bench-201":
        return ["".join(draw.choice("01234") for _ in range(6)) for _ in range(count)]
    if space == "darts":
        def cell():
            return [(draw.choice(OPERATIONS), source) for node in range(4) for source in sorted(draw.sample(range(node + 2), 2))]
        joined = [2, 3, 4, 5]
        return [f"Genotype(normal={cell()}, normal_concat={joined}, reduce={cell()}, reduce_concat={joined})" for _ in range(count)]
    if space == "darts-14":
        return ["17872413758436.4534-15955967776974.3255"]
    depths = [[draw.choice([2, 3, 4]) for _ in range(5)] for _ in range(count)]
    def subnet(depth):
        genes = ";".join(f"{k}={','.join(str(draw.choice(v)) for _ in range(sum(depth)))}" for k, v in (("k", [3, 5, 7]), ("e", [3, 4, 6])))
        return f"r=32;d={','.join(map(str, depth))};{genes}"
    return [subnet(depth) for depth in depths]


def filled(names, draw):
    """Weights that keep values in range, and norms that do something."""
    tensors = {}
    for name, dims in names.items():
        noise = draw.uniform(-1, 1, dims)
        if len(dims) > 1:
            value = noise * np.sqrt(6 / np.prod(dims[1:]))
        elif name.endswith("running_var"):
            value = 1 + 0.5 * noise
        elif name.endswith(("bias", "running_mean")):
            value = 0.2 * noise
        else:
            value = 1 + 0.3 * noise
        tensors[name] = value.astype(np.float32)
    return tensors


def with_statistics(model, tensors, metadata, side, noise, folder):
    """Running statistics near those of a batch, as training leaves them: with others the values of deep networks grow until gates and rectifiers
    hang on the last digits, and any two programs differ. A step moves them a tenth of the way to the batch's."""
    save_file(tensors, model, metadata)
    images = noise.uniform(-1.5, 1.5, (32, 3, side, side)).astype(np.float32)
    found = step(model, card_of(model), images, folder, "train")
    for name in [name for name in tensors if "running_" in name]:
        value = (found[f"state.{name}"] - 0.9 * tensors[name]) / 0.1
        draw = noise.uniform(-1, 1, value.shape)
        tensors[name] = (np.maximum(value, 1e-3) * (1 + 0.2 * draw) if name.endswith("var") else value + 0.1 * draw).astype(np.float32)
    save_file(tensors, model, metadata)


def random_models(folder, seed):
    """Models of every space: a training of one step says which tensors there are, and these are filled anew."""
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    for space, form, side, options in FORMS:
        # Images for the training: noise in three classes.
        data = folder / f"data-{side}"
        if not data.exists():
            data.mkdir()
            for part, count in (("train", 32), ("test", 8)):
                np.save(data / f"{part}_images.npy", noise.integers(0, 256, (count, side, side, 3), dtype=np.uint8))
                np.save(data / f"{part}_labels.npy", np.arange(count, dtype=np.int64) % 4)
        for number, arch in enumerate(architectures(space, 2, draw)):
            out = folder / f"{space}-{form}-{number}"
            build = ",".join(f"{name}={value}" for name, value in {"form": form, **options}.items())
            run("train", "--space", space, "--arch", arch, "--data", data, "--build", build, "--epochs", 1, "--batch", 8, "--images", 16,
                "--lr", 0.01, "--image", f"{side}x{side}", "--out", out)
            model = out / "best.safetensors"
            with safe_open(model, "np") as file:
                metadata = file.metadata()
            shapes = {name: value.shape for name, value in load_file(model).items()}
            with_statistics(model, filled(shapes, noise), metadata, side, noise, folder)
            yield model


def step(model, card, images, folder, mode):
    """What a step of the program computes."""
    batch, out = folder / "batch.safetensors", folder / "step.safetensors"
    save_file({"x": images, "y": np.zeros(len(images), np.int64)}, batch)
    run("step", "--arch", card["arch"], "--weights", model, "--batch", batch, "--out", out, "--force", "--space", card["space"], "--mode", mode)
    return load_file(out)


def tract_logits(file, images, folder):
    """What the program of peers/tract-check says: it reads and writes bare f32 values."""
    given = folder / "images.f32"
    given.write_bytes(images.astype("<f4").tobytes())
    shape = [str(side) for side in images.shape]
    result = subprocess.run([TRACT, str(file), str(given), *shape], capture_output=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{TRACT} {file}: {result.stderr.decode()}")
    return np.frombuffer(result.stdout, "<f4").reshape(len(images), -1)


def exact_logits(file, images):
    """What the reference implementation of ONNX's own package says in f64."""
    model = onnx.load(str(file))
    for constant in model.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype == np.float32:
            constant.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float64), constant.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return ReferenceEvaluator(model).run(None, {"images": images.astype(np.float64)})[0]


def check(model, folder, noise):
    """The largest difference of a model's files from the program's own logits, in parts of the largest logit, and whether all is well."""
    card, worst, is_well = card_of(model), 0.0, True
    for fold in (False, True):
        file = folder / "net.onnx"
        answer = run("export", model, "--onnx", file, "--force", *(["--fold"] if fold else []))
        onnx.checker.check_model(str(file), full_check=True)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        for count in (1, 3, 8):
            images = noise.uniform(-1.5, 1.5, (count, *answer["input"])).astype(np.float32)
            expected = step(model, card, images, folder, "eval")["logits"]
            found = {"onnxruntime": session.run(["logits"], {"images": images})[0]}
            if TRACT:
                found["tract"] = tract_logits(file, images, folder)
            for runtime, logits in found.items():
                difference = float(np.abs(logits - expected).max() / np.abs(expected).max())
                worst = max(worst, difference)
                if difference <= TOLERANCE:
                    continue
                # Deep networks of random weights are worth fewer digits in f32: how many, f64 tells.
                exact = exact_logits(file, images)
                far = [float(np.abs(own - exact).max() / np.abs(exact).max()) for own in (logits, expected)]
                if not far[0] <= 8 * far[1] < 1e-2:
                    is_well = False
                    print(f"{model}: {runtime}, fold {fold}, {count} images: {difference:.1e}; from f64 {far}", file=sys.stderr)
    return worst, is_well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--spaces", action="store_true", help="models of every space, made here")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(2)
    worst, failed, noise = 0.0, 0, np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        models = list(arguments.models)
        if arguments.spaces:
            models += random_models(scratch, arguments.seed)
        for model in models:
            own, is_well = check(model, scratch, noise)
            failed += not is_well
            print(f"{own:.1e}  {model.parent.name}/{model.name}  {card_of(model)['arch']}", flush=True)
            worst = max(worst, own)
    print(f"{len(models)} models, onnxruntime {onnxruntime.__version__}{', tract' if TRACT else ''}; largest difference {worst:.1e} of the largest logit")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
