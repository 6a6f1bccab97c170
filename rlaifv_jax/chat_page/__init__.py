"""The chat in a browser, on gradio.

line.py     who waits for the devices, and who has pressed Stop       talk.py     answers of one or two models
claims.py   claims of answers, where they stand, what a labeler says   best.py     the best of several answers
page.py     the page                                                   serving.py  the command
"""
