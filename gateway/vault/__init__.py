"""The vault room: what must be kept but not lie open. Transcripts, the evidence of blocked calls, erasure and retention."""
