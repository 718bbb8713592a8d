"""The Transformer learned from files of plain sequences: who, then what in order."""
