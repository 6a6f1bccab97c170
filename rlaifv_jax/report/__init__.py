"""The report of a run: what was trained, on what, how it went, and what the model says before and after.

find.py      what a directory holds                  curves.py         metrics of training runs, thinned out
feedback.py  answers, claims, pairs of a directory   hallucination.py  rates by round and checkpoint, with intervals
samples.py   the same question before and after      about.py          config, hardware, versions, seeds, time
charts.py    what a chart is, and its table          draw.py           charts as SVG for the page, as PNG for papers
contents.py  all of it together                      page.py, markdown.py  written down
"""
