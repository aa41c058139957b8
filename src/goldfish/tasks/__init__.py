"""Tasks, one file each: they sample sequences and own their loss, metrics, chance level and memoryless floor."""
