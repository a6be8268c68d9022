"""The report of a run: one HTML file with everything in it, which asks for nothing outside and reads without a script.

`page` puts it together from what the others take from the records: `facts` the run itself, `results` the one table,
`pictures` the figures, `settings` what methods were run with, `endings` what did not finish and where it ran.
"""
