"""Everything a net says, each in one encoding: signed documents and frames. Codec only, judges nothing."""
