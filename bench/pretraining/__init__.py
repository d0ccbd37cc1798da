"""Pretrain a network on simulated tomograms, so that few clicks are enough to recognise a species.

    python -m bench.pretraining -o FOLDER --seed 0 --minutes 10 --device auto

`species` draws particle shapes, `scenes` packs them, `optics` records them, `simulating` makes batches of tomograms; `backbone` is the
network with its heads, `episodes` has the losses, `training` the loop; `pictures` draws simulated slices, and `transfer` evaluates ten clicks
in tomograms that the network has not seen.  Only torch, numpy, safetensors and jaxtyping are needed, so that it runs on any machine with a GPU.
"""
