"""A prior from simulation: a backbone that knows how tomograms vary, before anybody clicks.

    python -m bench.pretraining -o FOLDER --seed 0 --minutes 10 --device auto

`species` draws particle shapes, `scenes` packs them, `optics` records them, `simulating` makes batches of tomograms; `backbone` is the
network with its heads, `episodes` what it is taught, `training` the loop; `pictures` shows what it sees, `transfer` what ten clicks
then find in tomograms that it never saw.  Needs torch, numpy, safetensors and jaxtyping only, so that it runs on any machine with a GPU.
"""
