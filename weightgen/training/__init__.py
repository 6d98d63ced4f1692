"""What recipes need to train: functions, no trainer. For recipes only."""
