"""The completeness room: evidence that all calls are in the journal, not only that those in it were not altered."""
