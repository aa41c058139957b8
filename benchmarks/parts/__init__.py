"""The parts of benchmarks/gpu_session.py, a process each. None of them imports hydra, mlflow or datasets."""
