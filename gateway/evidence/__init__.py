"""The evidence room: what was in force, kept by digest, and packs that verify on another machine."""
