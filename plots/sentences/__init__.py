"""Sentences that a study's records support: who leads, what its contrasts found, what it costs. Each from judgement."""
