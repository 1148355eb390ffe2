"""Predicting images of up to 2^32 pixels with a trained network, tile by tile.

| part | modules |
|---|---|
| input | ``inputs`` (files, folders, wildcards), ``reader`` (an image in strips of rows) |
| tiles | ``tile_choice`` (their side), ``evaluation.tiles`` (their places and weights) |
| forwards | ``fused_network``, ``row_attention``; ``runtimes`` (other programs), ``evaluation.sliding_window`` |
| output | ``outputs``, ``written_files``; ``rasters`` (PNG, TIFF), ``overlay`` |
| shapes | ``shape_files``; ``polygons`` (SVG, GDSII, OASIS), ``netlist`` |
| a call | ``settings``, ``manifest`` (finished images), ``predict_images`` (image after image) |
| other studies | ``overlap_study``; ``encoder_stages``, ``feature_maps`` and ``encoder_plot`` for the verb ``stages`` |
| files for other programs | ``export`` |
"""
