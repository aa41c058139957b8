"""What has become of every run, told without training anything."""
