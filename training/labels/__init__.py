"""Labels for texts that nobody has labelled: seed words, a label model, a student, what to ask a person."""
