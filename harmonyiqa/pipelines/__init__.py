"""The flows that join rooms, one command a file: score then report, train then write the card, score then evaluate."""
