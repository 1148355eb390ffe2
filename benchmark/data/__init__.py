"""Datasets: from what their owners ship to batches of pixels, and synthetic stand-ins for what is private.

| to bring in  | ``archives`` ``unpack`` ``downloads`` ``prepare``: a folder or an archive becomes a dataset's folder |
| to find      | ``specs`` (what a dataset is), ``scan`` ``folders`` (its files), ``datasets`` (names to sources) |
| to read      | ``images`` ``pillow`` ``masks`` ``values`` ``svg`` ``coco`` ``polygons``: a file, or a clear refusal |
| to use       | ``tiling`` ``duplicates`` ``splits`` ``advice`` (parts), ``readers`` ``packs`` (decoded), ``batches`` |
| to check     | ``look`` ``judgement`` ``contrast`` ``survey`` ``verify`` ``verification`` ``show`` |
| to stand in  | ``synthetic/``: layouts, masks and appearances from a seed; ``chips/``: GDS and OASIS files |
"""
