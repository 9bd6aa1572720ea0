#!/usr/bin/env python3
"""Pictures at other sizes by Pillow, as golden cases: of each the first bytes and a digest of all. Pillow goes along rows first, and since
some version the other way round where rows get much fewer; such cases are not among these.

    pip install pillow           # tested with Pillow 13.0, Python 3.11
    python3 resize_pillow.py ../tests/golden/resize.json
"""

import json, sys

import PIL
from PIL import Image

MASK = 2**64 - 1
CASES = [
    ((32, 32, 3), (128, 128)),
    ((32, 32, 3), (180, 180)),
    ((32, 32, 3), (44, 44)),
    ((32, 32, 3), (224, 224)),
    ((8, 8, 1), (32, 32)),
    ((28, 28, 1), (36, 20)),
    ((13, 41, 3), (60, 7)),
    ((64, 48, 3), (32, 32)),
    ((3, 100, 1), (1, 9)),
    ((1, 1, 3), (5, 4)),
    ((33, 47, 3), (33, 12)),
]


def picture(height: int, width: int, channels: int) -> bytes:
    def byte(place):
        z = (place + 1) * 0x9E3779B97F4A7C15 & MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        return z >> 56

    return bytes(byte(place) for place in range(height * width * channels))


def digest(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & MASK
    return f"{value:016x}"


def main():
    cases = []
    for source, target in CASES:
        height, width, channels = source
        image = Image.frombytes("RGB" if channels == 3 else "L", (width, height), picture(*source))
        for name, resample in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
            data = image.resize((target[1], target[0]), resample).tobytes()
            cases.append({"source": source, "target": target, "filter": name, "first": list(data[:12]), "digest": digest(data)})
    lines = ",\n".join(json.dumps(case) for case in cases)
    open(sys.argv[1], "w").write(f'{{"pillow": "{PIL.__version__}", "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
