"""Predicting images of up to 2^32 pixels with a trained network, tile by tile.

| what comes in | ``inputs`` (files, folders, wildcards), ``sources`` (an image, some rows at a time) |
| the work      | ``tiles`` (where they lie, what they count), ``predictor`` (forwards and blending) |
| what goes out | ``outputs``: ``rasters``, ``overlay``, ``outlines`` (polygons of a mask) and their ``cuts`` |
| polygons      | ``polygons`` (as SVG), ``pieces`` (without holes), ``simplified``, ``layouts`` (as GDSII and OASIS) |
| a call        | ``settings`` (what decides), ``manifest`` (what is finished), ``batch`` (image after image) |
| its settings  | ``overlaps`` (a figure of how much the overlap matters) |
"""
