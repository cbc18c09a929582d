#!/usr/bin/env python3
"""Writes the handwritten digits that scikit-learn ships (1797 of 8 x 8 pixels) as a folder of PNG files for each.

    write_digits.py SCIKIT_LEARN_WHEEL FOLDER

The wheel is only opened as an archive; scikit-learn itself is not needed.
"""

import csv
import gzip
import io
import pathlib
import struct
import sys
import zipfile
import zlib

SIDE = 8
BRIGHTEST = 16
COUNT = 1797


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(rows):
    """Rows of bytes as a PNG of 8 bits of grey."""
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(row) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def main(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read("sklearn/datasets/data/digits.csv.gz")
    digits = list(csv.reader(io.StringIO(gzip.decompress(packed).decode("ascii"))))
    if len(digits) != COUNT or any(len(digit) != SIDE * SIDE + 1 for digit in digits):
        sys.exit(f"{wheel}: the digits are not {COUNT} rows of {SIDE * SIDE} values and a label")
    folder = pathlib.Path(folder)
    for index, digit in enumerate(digits):
        values = [round(float(value) * 255 / BRIGHTEST) for value in digit[:-1]]
        rows = [values[first:first + SIDE] for first in range(0, len(values), SIDE)]
        target = folder / digit[-1].strip()
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{index:04}.png").write_bytes(png(rows))


main(*sys.argv[1:])
