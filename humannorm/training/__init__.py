"""How the small model and fine-tunes are trained, and the people and scans that they are trained on."""
