#!/usr/bin/env python3
"""Pictures in files as Pillow reads them, as golden cases. Files in formats and colour modes that people have, with the RGB (or grey) bytes
that `convert` makes of them once they are turned as their tag says; and pictures brought to one size as torchvision does it for
evaluation, `Resize(shorter)` and `CenterCrop(side)`, whose rules for sizes and offsets are written out here; and the sides of random parts
for training, `RandomResizedCrop`, with the pixels that become of some.

Left out are 16-bit pictures, which Pillow cuts off where they are to become 8 bits, and tall pictures, which its later versions resize
along columns first.

    pip install pillow           # tested with Pillow 13.0, Python 3.11
    python3 pictures_pillow.py ../tests/golden/pictures
"""

import json, math, os, random, sys

import PIL
from PIL import Image, ImageOps

from resize_pillow import digest, picture

CROPS = [
    # height, width, channels; shorter side, crop
    ((97, 131, 3), 37, 32),
    ((131, 97, 3), 37, 32),
    ((131, 97, 1), 36, 31),
    ((48, 160, 3), 37, 32),
    ((20, 33, 3), 64, 56),
    ((33, 20, 1), 64, 57),
    ((64, 64, 3), 64, 48),
    ((75, 100, 3), 32, 32),
    ((41, 40, 3), 40, 33),
    ((2, 90, 3), 16, 16),
]
PARTS = [
    # height, width, channels; top, left, rows, columns; side
    ((97, 131, 3), (10, 20, 50, 61), 32),
    ((97, 131, 1), (0, 0, 97, 131), 31),
    ((40, 33, 3), (39, 32, 1, 1), 8),
    ((33, 40, 3), (5, 7, 9, 12), 24),
    ((64, 64, 3), (16, 8, 32, 32), 32),
]
HEIGHT, WIDTH = 12, 10
TURNS = {"turned.webp": 6, "turned.tiff": 8, "turned.png": 5}


def resized(height: int, width: int, shorter: int):
    """Height and width: the longer side is cut to a whole number."""
    short, long = min(height, width), max(height, width)
    longer = int(shorter * long / short)
    return (shorter, longer) if height <= width else (longer, shorter)


def crop_case(source, shorter, side):
    height, width, channels = source
    image = Image.frombytes("RGB" if channels == 3 else "L", (width, height), picture(*source))
    rows, columns = resized(height, width, shorter)
    if (rows, columns) != (height, width):
        image = image.resize((columns, rows), Image.Resampling.BILINEAR)
    # Python rounds halves to even.
    top, left = int(round((rows - side) / 2.0)), int(round((columns - side) / 2.0))
    data = image.crop((left, top, left + side, top + side)).tobytes()
    return {
        "source": source, "shorter": shorter, "crop": side, "resized": [rows, columns], "at": [top, left],
        "first": list(data[:12]), "digest": digest(data),
    }


def part_case(source, part, side):
    height, width, channels = source
    top, left, rows, columns = part
    image = Image.frombytes("RGB" if channels == 3 else "L", (width, height), picture(*source))
    data = image.crop((left, top, left + columns, top + rows)).resize((side, side), Image.Resampling.BILINEAR).tobytes()
    return {"source": source, "part": part, "side": side, "first": list(data[:12]), "digest": digest(data)}


def random_case(source, share, proportion):
    """Rows and columns of a random part, or none where it does not fit."""
    height, width = source
    area = height * width * share
    columns, rows = int(round(math.sqrt(area * proportion))), int(round(math.sqrt(area / proportion)))
    fits = 0 < columns <= width and 0 < rows <= height
    return {"source": source, "share": share, "proportion": proportion, "sides": [rows, columns] if fits else None}


def middle_case(source):
    """What is taken where no draw fits."""
    height, width = source
    rows, columns = height, width
    if width / height < 3.0 / 4.0:
        rows = int(round(width / (3.0 / 4.0)))
    elif width / height > 4.0 / 3.0:
        columns = int(round(height * (4.0 / 3.0)))
    return {"source": source, "at": [(height - rows) // 2, (width - columns) // 2], "sides": [rows, columns]}


def random_cases():
    draw = random.Random(5)
    sides = lambda: [draw.randint(1, 600), draw.randint(1, 600)]
    cases = [random_case(sides(), draw.uniform(0.08, 1.0), math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))) for _ in range(60)]
    return cases + [random_case([375, 500], 1.0, 4 / 3), random_case([10, 10], 0.0625, 1.0)]


def files(folder: str):
    rgb = Image.frombytes("RGB", (WIDTH, HEIGHT), bytes(v for y in range(HEIGHT) for x in range(WIDTH) for v in (20 * y, 25 * x, 2 * x * y)))
    grey = rgb.convert("L")
    alpha = Image.frombytes("L", (WIDTH, HEIGHT), bytes(12 * (x + y) for y in range(HEIGHT) for x in range(WIDTH)))
    rgba, grey_alpha, palette = rgb.copy(), grey.copy(), rgb.quantize(16)
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    exif = Image.Exif()
    made = {
        "rgba.png": (rgba, {}),
        "grey-alpha.png": (grey_alpha, {}),
        "palette.png": (palette, {}),
        "clear-palette.png": (palette, {"transparency": 3}),
        "one-bit.png": (grey.point(lambda v: 255 * (v > 99)).convert("1"), {}),
        "lossless.webp": (rgba, {"lossless": True, "exact": True}),
        "lossy.webp": (rgb, {"quality": 95}),
        "grey.bmp": (grey, {}),
        "rgb.bmp": (rgb, {}),
        "lzw.tiff": (rgb, {"compression": "tiff_lzw"}),
        "grey.tiff": (grey, {"compression": "tiff_deflate"}),
        "packed.tiff": (rgba, {"compression": "packbits"}),
        "turned.webp": (rgb, {"lossless": True}),
        "turned.tiff": (rgb, {"compression": "tiff_lzw"}),
        "turned.png": (rgb, {}),
    }
    for name, (image, options) in made.items():
        if name in TURNS:
            exif[0x112] = TURNS[name]
            options["exif"] = exif
        image.save(os.path.join(folder, name), **options)
    cases = []
    for name in sorted(made) + ["cmyk.jpg"]:
        with Image.open(os.path.join(folder, name)) as image:
            mode = image.mode
            upright = ImageOps.exif_transpose(image).convert("RGB")
        cases.append({"file": name, "mode": mode, "size": [upright.height, upright.width], "rgb": upright.tobytes().hex()})
    return cases


def main():
    lines = lambda cases: ",\n".join(json.dumps(case) for case in cases)
    crops = lines(crop_case(*case) for case in CROPS)
    parts = lines(part_case(*case) for case in PARTS)
    middles = lines(middle_case(source) for source in [[30, 300], [300, 30], [375, 500], [3, 5], [40, 31], [31, 40], [1, 7], [500, 333]])
    text = f'{{"pillow": "{PIL.__version__}", "crops": [\n{crops}\n], "parts": [\n{parts}\n], "random_crops": [\n{lines(random_cases())}\n], '
    text += f'"middles": [\n{middles}\n], "files": [\n{lines(files(sys.argv[1]))}\n]}}\n'
    open(os.path.join(sys.argv[1], "pictures.json"), "w").write(text)


if __name__ == "__main__":
    main()
