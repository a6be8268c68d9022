"""What is stored of a run, and how it is read: the schema and its metrics, live runs and packed studies, provenance.

May import `errors` and `cell`. No torch: everything that plots read is here.
"""
