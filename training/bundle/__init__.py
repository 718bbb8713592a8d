"""The bundle: every artefact trained together, under one manifest."""
