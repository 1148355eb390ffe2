"""Tests of the data sets, masks, packs and stand-ins."""
