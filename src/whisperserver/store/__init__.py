"""The store: what the server knows. The calls table is the truth; events and jobs are hints.

database.py opens SQLite and brings it up to date, models.py names the tables; calls.py, transcripts.py,
reviews.py, claims.py and workers.py read and change them inside a transaction that the caller opens;
events.py is the outbox of the review channel, search.py finds words, figures.py counts. blobs.py keeps the
recordings, and erasing.py takes a call out of both.
"""
