"""A local page to look through preference pairs: `python -m rlaifv_jax.view PATH`.

    parquet.py, table.py    rows of files → entries          entry.py    what a page shows
    feedback.py, why.py     records of the stages → entries  found.py    which entries a search finds
    photos.py               pictures of rows → the browser   app.py      the pages

What is large stays on disk: opening reads footers or counts lines, and a page reads the rows that it shows.
"""
