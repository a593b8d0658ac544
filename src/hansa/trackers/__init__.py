"""Programs that show figures of runs, one file each. They are told what `metrics.jsonl` says, and decide nothing."""
