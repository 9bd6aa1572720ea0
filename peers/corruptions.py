#!/usr/bin/env python3
"""Times the Python package `imagecorruptions` beside altiplano's corruptions, in turns, on one thread.

    pip install imagecorruptions scikit-image opencv-python-headless
    ALTIPLANO=target/release/altiplano python3 corruptions.py [--samples 5] [--out results.json]

Each sample runs every kind at five severities once in Python at 224x224, then once in altiplano (`bench --suite
corruptions --samples 1`). Reported: medians in milliseconds per image, mean over severities, and their ratio.
"""

import argparse, json, os, platform, statistics, subprocess, sys, time, warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np

warnings.simplefilter("ignore")
# The package's last release asks for names that numpy and scikit-image have dropped since.
if not hasattr(np, "float_"):
    np.float_ = np.float64
import cv2
import skimage.filters
import imagecorruptions
import imagecorruptions.corruptions as parts

cv2.setNumThreads(1)


def gaussian(image, sigma=1, *args, multichannel=None, **options):
    """scikit-image's filter under its former signature."""
    if multichannel is not None:
        options["channel_axis"] = -1 if multichannel else None
    return skimage.filters.gaussian(image, sigma, *args, **options)


parts.gaussian = gaussian


def picture(side):
    """Shapes of light and colour with a little noise, as in altiplano's suite (its noise differs)."""
    v, u = np.mgrid[0:side, 0:side] / side
    noise = np.random.default_rng(1).normal(size=(side, side, 3)) * 4
    edge = np.where(np.hypot(u - 0.5, v - 0.4) < 0.2, 0.15, 0.0)
    waves = [0.5 + 0.3 * np.sin(7 * u + 3 * v + s) * np.cos(5 * v - s) + edge for s in (0.0, 0.7, 1.9)]
    return np.clip(255 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def ours(program):
    """Milliseconds per image of every kind at 224x224."""
    command = [program, "bench", "--suite", "corruptions", "--samples", "1", "--json", "--quiet"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {line["name"]: line["median_ms"] for line in report["lines"] if line["shape"].startswith("224x224")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--out")
    args = parser.parse_args()
    program = os.environ.get("ALTIPLANO", "altiplano")
    image, kinds = picture(224), imagecorruptions.get_corruption_names("all")
    for kind in kinds:  # compile and load what is loaded lazily
        imagecorruptions.corrupt(image, corruption_name=kind, severity=1)
    times = {kind: {"python": [], "altiplano": []} for kind in kinds}
    for sample in range(args.samples):
        for kind in kinds:
            start = time.perf_counter()
            for severity in range(1, 6):
                imagecorruptions.corrupt(image, corruption_name=kind, severity=severity)
            times[kind]["python"].append((time.perf_counter() - start) * 200)
        for kind, ms in ours(program).items():
            if kind in times:
                times[kind]["altiplano"].append(ms)
        print(f"sample {sample + 1} of {args.samples}", file=sys.stderr)
    median = {kind: {who: statistics.median(ms) for who, ms in row.items()} for kind, row in times.items()}
    total = {who: 5 * sum(row[who] for row in median.values()) for who in ("python", "altiplano")}
    result = {
        "machine": platform.processor() or platform.machine(),
        "versions": {"numpy": np.__version__, "scikit-image": skimage.__version__, "opencv": cv2.__version__},
        "samples": args.samples,
        "median_ms_per_image": median,
        "one_image_all_kinds_and_severities_ms": total,
        "ratio": total["python"] / total["altiplano"],
    }
    if args.out:
        with open(args.out, "w") as file:
            json.dump(result, file, indent=1)
    print("| kind | imagecorruptions ms | altiplano ms | ratio |\n|---|--:|--:|--:|")
    for kind, row in sorted(median.items(), key=lambda item: -item[1]["python"] / item[1]["altiplano"]):
        print(f"| {kind} | {row['python']:.2f} | {row['altiplano']:.2f} | {row['python'] / row['altiplano']:.1f} |")
    print(f"| all 19 x 5 | {total['python']:.0f} | {total['altiplano']:.0f} | {result['ratio']:.1f} |")


if __name__ == "__main__":
    main()
