"""Parts of `bench_train.py` and `bench_seeds.py`: what is compared, the data, the processes, the figures."""
