"""Training under a permit: which files may be uploaded, which jobs started, which voices made.

Rules of this room:
- What is trained on passes by its digest: a file whose SHA-256 (or SM3) a permit in force names leaves byte for byte,
  any other stays here. Nobody reads its content, neither a filter nor a record.
- A job names files by ids. Only ids count that this gateway saw as answers to permitted uploads of the same tenant, to
  the same endpoint; one permit must cover all of them again, now.
- An id that is not known here and one that is somebody else's are refused alike.
- Permits are no matter of policy: they are asked for in shadow mode, too.

`form` reads multipart forms within bounds, `registry` remembers ids in DATA/training.db, `permits` decides, `calls` is
one training call on its way through the pipeline.
"""
