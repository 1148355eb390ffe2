"""Datasets: from the files that owners ship to batches of pixels, and synthetic stand-ins for private data.

| to bring in  | ``prepare/``: a folder or an archive becomes a dataset's folder |
| to find      | ``specs`` (how a dataset is read), ``pairs`` ``fingerprint`` (its files), ``datasets`` (sources) |
| to read      | ``formats/``: images and labels, one module a format, listed in ``all_formats`` |
| to use       | ``tiling`` ``duplicates`` ``splits`` ``split_advice``, ``packs`` (decoded), ``batches`` |
| to check     | ``check/``: findings of `data verify`, and the sheet of `data show` |
| to stand in  | ``synthetic/``: layouts, masks and appearances from a seed; ``layouts/``: GDS and OASIS files |
"""
