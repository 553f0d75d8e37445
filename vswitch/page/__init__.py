"""The web page of a switch: static files of our own, and pictures of join strings.

What it shows and does it asks of the API, like everybody else.
"""
