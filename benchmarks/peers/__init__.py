"""The same work by other servers, each as a good engineer would write it in some 60 lines.

Every peer is a program: `PORT` to serve at, `UPSTREAM` to read one topic from. It forwards the
text unchanged to every client that is connected, and keeps no books.
"""
