"""Reports: tables, plots and pages from a study's records."""
