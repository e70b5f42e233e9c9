"""Small frames whose pixels are known from their number, for tests of frames files."""

import zlib

import numpy as np

from bluesky_em.axes import Axis
from bluesky_em.frame import Frame

SHAPE = (3, 4)


def pixels(number: int, dtype: str = "<f4") -> np.ndarray:
    return (np.arange(12).reshape(SHAPE) + 100 * number).astype(dtype)


def frame(row: int, number: int | None = None, dtype: str = "<f4", offset: float = 0.0) -> Frame:
    number = row if number is None else number
    return Frame(
        reference=f"run.haadf/{number}",
        run="run",
        stream="primary",
        detector="haadf",
        number=number,
        row=row,
        server="PYRO:tem_server@tem-pc:9095",
        path="haadf.h5",
        shape=SHAPE,
        dtype=dtype,
        checksum=zlib.crc32(pixels(number, dtype).tobytes()),
        axes=(
            Axis(name="y", units="m", offset=offset, scale=2.0, size=3),
            Axis(name="x", units="m", offset=-1.0, scale=0.5, size=4),
        ),
        ended=1000.0 + number,
    )
